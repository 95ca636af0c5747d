"""Sections of a TOML file as frozen dataclasses: each field has a type, a default and perhaps a check of its range.

Unknown keys, values of a wrong type and values out of range are errors that name the option, the value and the limit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from smp_dfu_host.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Check:
    """What the values of an option are held to."""

    passes: Callable[[Any], bool]
    limit: str
    """What they must be, in words that follow "must be"."""


def one_of(*values: str) -> Check:
    """Return a check that a value is one of those."""
    return Check(lambda value: value in values, f"one of {', '.join(filter(None, values))}")


def between(low: int, high: int) -> Check:
    """Return a check that a number lies in that range, both ends included."""
    return Check(lambda value: low <= value <= high, f"between {low} and {high}")


def option(default: Any, check: Check | None = None) -> Any:
    """Return a dataclass field with a default and a check of its range."""
    metadata = {"check": check} if check else {}
    if isinstance(default, (dict, list)) or is_dataclass(default):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def read_section(kind: type, table: Mapping[str, Any], prefix: str, base: Path) -> object:
    """Make a section of a parsed TOML table.

    Args:
        kind: Its dataclass.
        table: What the file says.
        prefix: Dotted names of the sections around it, with a dot at the end; empty: it is the whole file.
        base: The folder of relative paths.

    Raises:
        ConfigError: If the table says something that is not known, not of the type, or out of range.
    """
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    values: dict[str, Any] = {}
    where = f"[{prefix.rstrip('.')}]" if prefix else "the top level"
    for key, value in table.items():
        dotted = f"{prefix}{key}"
        if key not in known:
            raise ConfigError(f"{dotted}: unknown option; {where} has {', '.join(known)}", dotted)
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{dotted} = {value!r}: must be a section, [{dotted}]", dotted)
            values[key] = read_section(hints[key], value, f"{dotted}.", base)
        else:
            values[key] = _value(hints[key], value, dotted, base)
            _check(known[key].metadata, values[key], dotted)
    try:
        return kind(**values)
    except ConfigError as exc:
        exc.option = exc.option or prefix.rstrip(".")
        raise


def change(node: Any, names: list[str], value: object, dotted: str) -> Any:
    """Return a section with one option changed; the same checks apply.

    Args:
        node: The section.
        names: The option's name, behind those of the sections between.
        value: The new value.
        dotted: What errors call it.

    Raises:
        ConfigError: If the value is not of the type, or out of range.
    """
    if len(names) > 1:
        return replace(node, **{names[0]: change(getattr(node, names[0]), names[1:], value, dotted)})
    hints = get_type_hints(type(node))
    checked = _value(hints[names[0]], value, dotted, Path.cwd())
    _check(next(f for f in fields(node) if f.name == names[0]).metadata, checked, dotted)
    return replace(node, **{names[0]: checked})


def _check(metadata: Mapping[str, Any], value: Any, dotted: str) -> None:
    check: Check | None = metadata.get("check")
    if check is not None and not check.passes(value):
        raise ConfigError(f"{dotted} = {value!r}: must be {check.limit}", dotted)


def _value(hint: Any, value: Any, dotted: str, base: Path) -> Any:
    """Return the value as the option's type; bool is no int here."""
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            tables = f" of sections, [[{dotted}]]" if is_dataclass(get_args(hint)[0]) else ""
            raise ConfigError(f"{dotted} = {value!r}: must be a list{tables}", dotted)
        return tuple(_value(get_args(hint)[0], item, f"{dotted}[{i}]", base) for i, item in enumerate(value))
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{dotted} = {value!r}: must be a section, [[{dotted.partition('[')[0]}]]", dotted)
        return read_section(hint, value, f"{dotted}.", base)
    wanted = next(kind for kind in (get_args(hint) or (hint,)) if kind is not type(None))
    if wanted is Path and isinstance(value, (str, Path)):
        return base / Path(value).expanduser()
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        names = {bool: "true or false", int: "a whole number", str: "a text", Path: "a path (text)"}
        raise ConfigError(f"{dotted} = {value!r}: must be {names[wanted]}", dotted)
    return value

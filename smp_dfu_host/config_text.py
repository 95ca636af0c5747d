"""The configuration as text: every option with its documentation, the example file, values as TOML.

The documentation of an option is the text below its field, read from the source, so that there is one place for it.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from smp_dfu_host.config import Config
from smp_dfu_host.sections import Check

WIDTH = 100
"""Columns of the example file."""

_SYMBOL = re.compile(r"\b(?!CAP_|SMP_|XDG_)[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b")
_SYMBOLS_ONLY = re.compile(rf" ?\((?:{_SYMBOL.pattern}(?:, )?)+\)")


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    name: str
    """Dotted, such as `transport.udp.port`; `[]` stands behind what there may be several of."""
    default: Any
    limit: str
    """What values must be, in words; empty: what the type says."""
    text: str
    """What it is, in one line."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of Zephyr, MCUboot or nRF Desktop that the text names, in order."""
        return tuple(dict.fromkeys(_SYMBOL.findall(self.text)))

    @property
    def meaning(self) -> str:
        """The text without brackets that hold nothing but symbols."""
        return _SYMBOLS_ONLY.sub("", self.text)


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the file."""

    name: str
    """Dotted; empty: the top of the file."""
    many: bool
    """True for `[[name]]`, of which there may be any number."""
    text: str
    """What it is for, in one line."""
    options: tuple[Option, ...]


def sections(kind: type = Config, name: str = "", *, many: bool = False) -> Iterator[Section]:
    """Return the sections of the file, each before those inside of it."""
    hints = get_type_hints(kind)
    inner = {field.name: _inner(hints[field.name]) for field in fields(kind)}
    prefix = f"{name}{'[]' if many else ''}." if name else ""
    texts = _texts(kind)
    plain = [field for field in fields(kind) if inner[field.name] is None]
    options = tuple(
        Option(prefix + field.name, _default(field), _limit(field), texts.get(field.name, "")) for field in plain
    )
    yield Section(name, many, _line(inspect.getdoc(kind) or ""), options)
    for field in fields(kind):
        if (section := inner[field.name]) is not None:
            yield from sections(section, prefix + field.name, many=get_origin(hints[field.name]) is tuple)


def example() -> str:
    """Return a file with every option, its documentation and its default, behind a `#`."""
    lines = ["# Every option of smp-dfu-host with its default; remove the # before those that you change.", ""]
    for section in sections():
        lines += _example(section)
    return "\n".join(lines)


def values(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the options of a configuration with their values, in the order of the file."""
    nested = [field.name for field in fields(node) if is_dataclass(getattr(node, field.name))]
    for field in fields(node):
        if field.name not in nested:
            yield prefix + field.name, getattr(node, field.name)
    for name in nested:
        yield from values(getattr(node, name), f"{prefix}{name}.")


def toml(value: Any) -> str:
    """Return a value as TOML; None is an empty text, as TOML has no word for it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if is_dataclass(value):
        return "{ " + ", ".join(f"{field.name} = {toml(getattr(value, field.name))}" for field in fields(value)) + " }"
    if isinstance(value, (bool, int)):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _example(section: Section) -> Iterator[str]:
    if section.name:
        header = f"[[{section.name}]]" if section.many else f"[{section.name}]"
        yield from _comment(section.text)
        yield f"# {header}" if section.many else header
        yield ""
    for option in section.options:
        yield from _comment(f"{option.text} Must be {option.limit}." if option.limit else option.text)
        setting = f"{option.name.rpartition('.')[2]} = {toml(option.default)}".rstrip()
        # What has no fixed default, and what would make a section of its own, stays a comment without its `#`.
        fixed = option.default is not None and not section.many and option.name != "store"
        yield f"#{setting}" if fixed else f"# {setting}"
        yield ""


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _inner(hint: Any) -> type | None:
    """Return the dataclass of a section or of several sections; None: it is a plain option."""
    kind = get_args(hint)[0] if get_origin(hint) is tuple else hint
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _default(field: "Field[Any]") -> Any:
    if field.default is not MISSING:
        return field.default
    assert field.default_factory is not MISSING  # noqa: S101  (every option has a default)
    return field.default_factory()


def _limit(field: "Field[Any]") -> str:
    check: Check | None = field.metadata.get("check")
    return "" if check is None else check.limit


@cache
def _texts(kind: type) -> dict[str, str]:
    """Return the texts below a dataclass's fields, by name."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101  (for the type checker)
    found: dict[str, str] = {}
    for statement, below in zip(tree.body, tree.body[1:], strict=False):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = _line(text)
    return found


def _line(text: str) -> str:
    return " ".join(text.split())

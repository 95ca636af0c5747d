"""The tables of smp_dfu_host/docs/reference.md: commands, errors, events and options, made from the code.

python -m tests.tables --write    writes the file anew; without --write it is printed
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from smp_dfu_host import plugins
from smp_dfu_host.config_text import Option, sections, toml
from smp_dfu_host.dispatch import hooks
from smp_dfu_host.dispatch.group import Group, Row
from smp_dfu_host.errors import Rc
from smp_dfu_host.hook_events import Event
from smp_dfu_host.server import group_kinds

FILE = Path(__file__).parents[1] / "smp_dfu_host" / "docs" / "reference.md"

INTRODUCTION = """# Reference

Made from the code by `python -m tests.tables --write`: [commands](#commands), [errors](#errors), [events](#events) and
[options](#options).
"""


def document() -> str:
    """Return the whole file."""
    parts = (INTRODUCTION, commands(), errors(), events(), options())
    return "\n".join(parts)


def commands() -> str:
    """Return the table of the commands of our groups."""
    head = ("group", "id", "name", "operation", "request", "what it does")
    rows = [
        (f"{kind.name} ({kind.id})", row.command, f"`{row.method}`", row.op.name.lower(), request(row), text(kind, row))
        for kind in our_groups()
        for row in sorted(kind.rows, key=lambda row: (row.command, row.op))
    ]
    return "## Commands\n\nFields in brackets may be missing.\n\n" + table(head, rows)


def request(row: Row) -> str:
    """Return the names of a request's fields."""
    shown = []
    for field in fields(row.body) if row.body else ():
        needed = field.default is MISSING and field.default_factory is MISSING
        shown.append(f"`{field.name}`" if needed else f"[`{field.name}`]")
    return ", ".join(shown)


def text(kind: type[Group], row: Row) -> str:
    """Return what a command does."""
    return first_line(getattr(kind, row.method).__doc__)


def errors() -> str:
    """Return the tables of the global codes and of those of our groups."""
    rows = [(int(rc), f"`{rc.name}`") for rc in Rc]
    groups = [
        (f"{kind.name} ({kind.id})", int(rc), f"`{rc.name}`", f"`{version_0(kind, rc)}`")
        for kind in our_groups()
        for rc in codes(kind)
    ]
    return (
        "## Errors\n\nGlobal, answered as `rc`:\n\n"
        + table(("rc", "name"), rows)
        + "\nOf a group, answered as `err`; clients of version 0 get the global code beside it:\n\n"
        + table(("group", "rc", "name", "version 0"), groups)
    )


def codes(kind: type[Group]) -> list[IntEnum]:
    """Return a group's own codes: the module of each has one enumeration of them."""
    found = [
        member
        for member in vars(import_module(kind.__module__)).values()
        if isinstance(member, type) and issubclass(member, IntEnum) and member.__name__.endswith("Rc")
    ]
    return [code for member in found if member is not Rc for code in member]


def version_0(kind: type[Group], rc: int) -> str:
    """Return the name of the global code that version 0 gets."""
    return kind.v0_rc.get(rc, Rc.EUNKNOWN).name


def events() -> str:
    """Return the table of the events of hooks."""
    rows = [
        (
            f"`{event.label}`",
            f"`{event.symbol}`",
            f"{event:#x}",
            "yes" if event.refusable else "",
            data(event),
            event.when,
        )
        for event in Event
    ]
    return "## Events\n\n" + table(("event", "Zephyr's name", "number", "can be refused", "data", "when"), rows)


def data(event: Event) -> str:
    """Return an event's data: its type and its fields."""
    kind = getattr(hooks, event.data, None)
    names = ", ".join(name for name in get_type_hints(kind)) if kind else ""
    return f"`{event.data}`: {names}" if names else "" if event.data == "None" else f"`{event.data}`"


def options() -> str:
    """Return the tables of the options, section by section."""
    head = ("option", "default", "range", "symbols", "what it is")
    made = ["## Options\n"]
    for section in sections():
        title = f"[[{section.name}]]" if section.many else f"[{section.name}]"
        if section.options:
            made.append(f"### {title if section.name else 'top level'}\n")
            made.append(table(head, map(option_row, section.options)))
    return "\n".join(made)


def option_row(option: Option) -> tuple[object, ...]:
    """Return an option's row; what has no default of its own, or one that depends on the user, shows none."""
    fixed = option.default is not None and option.name != "store"
    symbols = ", ".join(f"`{symbol}`" for symbol in option.symbols)
    return f"`{option.name}`", f"`{toml(option.default)}`" if fixed else "", option.limit, symbols, option.meaning


def our_groups() -> Sequence[type[Group]]:
    """Return the groups of this package, by number."""
    ours = (kind for kind in group_kinds() if kind.__module__.startswith(plugins.__package__ or ""))
    return sorted(ours, key=lambda kind: kind.id)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in _lines(head, rows))


def _lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[list[str]]:
    yield list(head)
    yield ["---"] * len(head)
    for row in rows:
        yield [str(cell).replace("|", "\\|") for cell in row]


def _yes(value: bool) -> str:
    return "yes" if value else ""


def first_line(doc: str | None) -> str:
    """Return the first line of a docstring."""
    return (doc or "").strip().partition("\n")[0]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        FILE.write_text(document())
    else:
        print(document(), end="")

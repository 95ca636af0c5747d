"""In which line of a TOML file an option stands; tomllib does not tell.

There is no second reader of TOML here: a file's first lines that tomllib takes are whole statements, and the statement
at whose end an option is there for the first time is the option's.
"""

import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import cache

DEPTH = 8
"""No option lies below so many names; what does is not looked at."""


def names(table: Mapping[str, object]) -> Iterator[str]:
    """Return the dotted names of all that a table holds, sections too, such as `flash.slots[1]`."""
    for key, value in table.items():
        yield from _names(key, value, DEPTH)


def line_of(text: str, option: str) -> int | None:
    """Return the line, counted from 1, where the statement that sets an option begins.

    Args:
        text: A file that is TOML.
        option: Its dotted name; if it is not there, that of the section around it counts. None if that is not either.
    """
    lines = text.split("\n")

    @cache
    def parsed(count: int) -> frozenset[str] | None:
        """Return the names that the first lines set; None if they are no whole statements."""
        try:
            return frozenset(names(tomllib.loads("\n".join(lines[:count]))))
        except tomllib.TOMLDecodeError:
            return None

    def said(count: int) -> tuple[int, frozenset[str]]:
        """Return how many of the first lines are whole statements, and the names that they set."""
        while (found := parsed(count)) is None:
            count -= 1
        return count, found

    there = bisect_left(range(len(lines) + 1), True, key=lambda count: option in said(count)[1])
    if there <= len(lines):
        return said(there - 1)[0] + 1
    around = option.rpartition(".")[0]
    return line_of(text, around) if around else None


def _names(name: str, value: object, depth: int) -> Iterator[str]:
    yield name
    if not depth:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _names(f"{name}.{key}", item, depth - 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _names(f"{name}[{number}]", item, depth - 1)

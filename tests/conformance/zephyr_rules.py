"""Rules by which our answers may differ from the recorded ones; they are in zephyr_rules.toml.

    [[rule]]
    server = "native_sim.*"         a pattern, as of file names
    group = 0
    command = 8
    path = "/body"                  of the difference, or the beginning of it; a part may be a pattern
    reason = "why that is right"

and to make it narrower:

    op = 0                          of the request
    asked = {name = ["a", "b"]}     in the request's body: what may be asked for
    recorded = 10, ours = 14        the two values
    after = "reset" or "quirk"      only behind a reset, or while a case is behind us whose answer is Zephyr's quirk
    after = "erase"                 only behind an erase of the storage
    after = "silence"               only behind a case that was not answered, until an answer is as recorded

Without `group` and `command` it is about the line, whatever was asked.
"""

import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.conformance.zephyr_cases import Case, Difference

MAX_RULES = 25


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of difference that is allowed."""

    server: str
    path: str
    reason: str
    group: int | None = None
    command: int | None = None
    op: int | None = None
    asked: dict[str, list[Any]] = field(default_factory=dict)
    after: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """`recorded` and `ours`, where given."""

    def allows(self, case: Case, difference: Difference, behind: frozenset[str]) -> bool:
        """Tell whether a difference is of this kind.

        Args:
            case: Where it was found.
            difference: What was found.
            behind: What has happened before in the same run: `reset`, `quirk`, `silence`.
        """
        if self.group not in (None, case.group) or self.command not in (None, case.command):
            return False
        if not fnmatchcase(case.server, self.server):
            return False
        if self.op not in (None, case.op) or (self.after and self.after not in behind):
            return False
        if any(case.body.get(key) not in wanted for key, wanted in self.asked.items()):
            return False
        if any(getattr(difference, name) != value for name, value in self.values.items()):
            return False
        wanted, found = self.path.split("/"), difference.path.split("/")
        return len(found) >= len(wanted) and all(map(fnmatchcase, found, wanted))


def load(path: Path) -> list[Rule]:
    """Return the rules of a file."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    if len(tables) > MAX_RULES:
        raise ValueError(f"{path}: {len(tables)} rules, limit is {MAX_RULES}")
    return [_rule(table) for table in tables]


def _rule(table: dict[str, Any]) -> Rule:
    values: dict[str, Any] = {name: table.pop(name) for name in ("recorded", "ours") if name in table}
    return Rule(**table, values=values)

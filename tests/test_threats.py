"""smp_dfu_host/docs/threats.md: what it names exists, and it leaves nothing out."""

import ast
import re
from pathlib import Path

import pytest

from smp_dfu_host.server import group_kinds
from smp_dfu_host.wire.header import Header

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "smp_dfu_host" / "docs" / "threats.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", TEXT)))


def table(title: str) -> dict[str, list[str]]:
    """Return the rows of the table under a heading, by their first cell."""
    part = TEXT.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in cells}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name.startswith("test_")
    assert name in tests


def test_every_field_of_the_header_is_told() -> None:
    told = table("Fields of the header")
    assert set(Header._fields) <= set(told)


def test_every_group_is_told_with_its_number() -> None:
    wanted = {f"{kind.__module__.rpartition('.')[2]} ({kind.id})" for kind in group_kinds()}
    assert wanted == set(table("Groups"))


@pytest.mark.parametrize(
    "title",
    [
        "Fields of the header",
        "Groups",
        "Bytes that lie still",
        "What is open by default, and what Zephyr's hardening check wants off",
    ],
)
def test_every_row_names_a_test(title: str) -> None:
    rows = table(title)
    assert rows
    for row in rows.values():
        assert re.search(r"tests/[\w/]+\.py::test_\w+", row[-1]), row[0]

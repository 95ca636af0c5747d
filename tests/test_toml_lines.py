"""Where an option stands in a file: found by tomllib alone."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.toml_lines import line_of, names

TEXT = '''# name = "no"
name = "x"

[flash]
slots = [  # "]"
  "4Kx8",
  "4Kx9",
]
"\\u0061lign" = 8
[transport.udp]
host = """
[flash]
port = 5
"""
port = 5
[[hook]]
on = "a"
[[hook]]
  on = "b"
shell.command = [{ name = "x" }, { name = "y" }]
'''


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("name", 2),
        ("flash", 4),
        ("flash.slots[1]", 5),
        ("flash.align", 9),
        ("transport", 10),
        ("transport.udp.host", 11),
        ("transport.udp.port", 15),
        ("hook[0].on", 17),
        ("hook[1]", 18),
        ("hook[1].on", 19),
        ("hook[1].shell.command[1].name", 20),
        ("flash.preset", 4),
        ("transport.udp.none.none", 10),
        ("none", None),
        ("none.none", None),
        ("", None),
    ],
)
def test_line_of_an_option(option: str, line: int | None) -> None:
    assert line_of(TEXT, option) == line


KEYS = st.text("ab", min_size=1, max_size=2)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, st.sampled_from(['"x"', "[\n1,\n2]", "'''\n\n'''"]))))
def test_every_option_is_found_where_it_was_written(tables: dict[str, dict[str, str]]) -> None:
    lines: list[str] = []
    written: dict[str, int] = {}
    for section, options in tables.items():
        written[section] = len(lines) + 1
        lines.append(f"[{section}]")
        for key, value in options.items():
            written[f"{section}.{key}"] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    assert written.keys() <= set(names(tomllib.loads(text)))
    assert {name: line_of(text, name) for name in written} == written


def test_depth_is_no_matter() -> None:
    text = "\n" + ".".join("a" * 1500) + " = 1"
    assert line_of(text, "a") == 2
    assert line_of(text, "b") is None


def test_a_long_statement_is_read_a_few_times_only() -> None:
    text = "a = [\n" + "1,\n" * 300 + "]\nb = 1"
    assert (line_of(text, "a[299]"), line_of(text, "b")) == (1, 303)

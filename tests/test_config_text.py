"""The configuration as text: complete, documented, and the same that is read back."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.config import Config, load, parse
from smp_dfu_host.config_text import Option, example, sections, toml, values
from smp_dfu_host.group_config import ShellCommand

ALL = [option for section in sections() for option in section.options]


def test_example_parses_back_to_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    file.write_text(example())
    assert load(file) == Config()


def test_example_with_all_options_set_parses_back_to_the_defaults(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(?=\S)", "", example())
    assert parse(tomllib.loads(text), tmp_path) == Config()
    written = {name for name, value in values(parse(tomllib.loads(text), tmp_path)) if value is not None}
    assert len(re.findall(r"(?m)^\w+ = ", text)) == len(written) - 3  # store, hook and shell.command stay comments


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_every_option_is_documented_and_in_the_example(option: Option) -> None:
    assert option.text.endswith("."), option.name
    assert option.text[0].isalnum() or option.text[0] == "`"
    assert re.search(rf"(?m)^# ?{option.name.rpartition('.')[2]} =", example())


def test_options_know_their_symbols() -> None:
    by_name = {option.name: option for option in ALL}
    assert by_name["smp.buf_size"].symbols == ("CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE",)
    assert by_name["smp.buf_size"].limit == "between 96 and 2500"
    assert "CONFIG" not in by_name["smp.buf_size"].meaning
    assert by_name["os.datetime"].symbols == ("CONFIG_MCUMGR_GRP_OS_DATETIME",)
    assert by_name["hook[].timeout_ms"].default == 2000
    assert by_name["bootloader.keys"].limit == ""
    assert by_name["hook[].run"].symbols == ()


def test_values_are_those_of_the_file() -> None:
    told = dict(values(parse({"transport": {"udp": {"port": 5}}, "name": "x"}, Path("/"))))
    assert (told["transport.udp.port"], told["name"], told["bootloader.encryption_key"]) == (5, "x", None)
    assert told.keys() == {option.name for option in ALL if "[]" not in option.name} | {"hook", "shell.command"}


scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()


@given(st.one_of(scalars, st.lists(scalars).map(tuple)))
def test_values_are_written_as_toml_reads_them(value: Any) -> None:
    read = tomllib.loads(f"value = {toml(value)}")["value"]
    assert (tuple(read) if isinstance(value, tuple) else read) == value


def test_sections_in_lists_are_written_as_tables() -> None:
    command = ShellCommand("x", ("run",))
    assert tomllib.loads(f"value = {toml((command,))}")["value"] == [
        {"name": "x", "run": ["run"], "arguments": [], "help": ""}
    ]

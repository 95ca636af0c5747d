"""The shell group, and that no words of a client run anything but what the table says."""

import errno
import re
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smp_dfu_host.config import parse
from smp_dfu_host.errors import ConfigError
from smp_dfu_host.groups.shell_mgmt import ShellGroup
from tests.groups.bench import READ, WRITE, GroupBench

SHOW = [sys.executable, "-S", "-c", "import sys; print(sys.argv[1:])"]
COMMANDS = [
    {"name": "kernel version", "run": ["echo", "Zephyr version 4.4.0"]},
    {"name": "show", "run": SHOW, "arguments": [".*"]},
    {"name": "two", "run": SHOW, "arguments": ["[a-z]+", "[0-9]+"]},
    {"name": "fail", "run": ["false"]},
    {"name": "much", "run": [sys.executable, "-S", "-c", "print('\\u00fc\\n' * 3000)"]},
    {"name": "noise", "run": ["printf", r"\377ok\r\n"]},
    {"name": "slow", "run": ["sleep", "1000"]},
    {"name": "gone", "run": ["/nonexistent/program"]},
]


def refused(rc: int) -> dict[str, Any]:
    return {"err": {"group": 9, "rc": rc}}


def make(folder: Path, **options: Any) -> GroupBench:
    return GroupBench(ShellGroup, folder, shell={"command": COMMANDS, "timeout_ms": 20_000, **options})


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    return make(tmp_path)


async def say(bench: GroupBench, *words: object) -> dict[str, Any]:
    return await bench.ask(WRITE, 0, {"argv": list(words)})


@pytest.mark.parametrize(
    "words", [("kernel", "version"), ("kernel version",), ("  kernel", " version  "), ('"kernel"', "version")]
)
async def test_words_are_joined_and_taken_apart_again(bench: GroupBench, words: tuple[str, ...]) -> None:
    assert await say(bench, *words) == {"o": "\r\nZephyr version 4.4.0\r\n", "ret": 0}


@pytest.mark.parametrize(
    ("words", "output", "ret"),
    [
        (["fail"], "\r\n", 1),
        ([""], "\r\n", -8),
        (["", ""], "\r\n", -8),
        (["nonexistent"], "\r\n\x1b[1;31mnonexistent: command not found\r\n\x1b[m", -8),
        (["hé"], "\r\n\x1b[1;31mhé: command not found\r\n\x1b[m", -8),
        (["kernel", "version", "a"], "\r\n\x1b[1;31mversion: wrong parameter count\r\n\x1b[mversion - \r\n", -22),
        (["show", '"a'], "\r\nNo closing quotation\r\n", -22),
        (["noise"], "\r\n\N{REPLACEMENT CHARACTER}ok\r\n", 0),
    ],
)
async def test_what_a_command_does_is_told(bench: GroupBench, words: list[str], output: str, ret: int) -> None:
    assert await say(bench, *words) == {"o": output, "ret": ret}


async def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    bench = make(tmp_path, timeout_ms=50)
    assert await say(bench, "slow") == {"o": "\r\n", "ret": -errno.ETIMEDOUT}


async def test_log_says_who_had_what_run_and_what_came_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        for words in (["show", "\x1b"], ["fail"], ["gone"]):
            await say(make(tmp_path), *words)
        await say(make(tmp_path, timeout_ms=200), "slow")
    assert [(each.levelname, each.getMessage().partition(": ")[2]) for each in caplog.records] == [
        ("INFO", "shell 'show \\x1b': ended with 0"),
        ("INFO", "shell 'fail': ended with 1"),
        ("WARNING", "shell 'gone': -2, minus the signal that ended it, or minus the errno why it could not be run"),
        ("WARNING", "shell 'slow': killed after 200 ms, [shell] timeout_ms"),
    ]


async def test_output_is_cut_to_what_is_configured_and_fits(tmp_path: Path) -> None:
    bench = make(tmp_path, output_size=101)
    assert len((await say(bench, "much"))["o"].encode()) in (100, 101)
    bench = make(tmp_path, output_size=2400)
    for bench.link.buf_size in range(96, 110):
        reply = await say(bench, "much")
        assert bench.link.buf_size - 40 <= len(reply["o"].encode()) <= bench.link.buf_size - 32


@pytest.mark.parametrize("version", [0, 1])
async def test_no_words_and_too_many_are_refused(bench: GroupBench, version: int) -> None:
    empty, long = ({"rc": 3}, {"rc": 3}) if version == 0 else (refused(3), refused(2))
    assert await bench.ask(WRITE, 0, {"argv": []}, version=version) == empty
    for argv in (["x" * 256], ["x" * 100, "x" * 155], ["ü" * 128]):
        assert await bench.ask(WRITE, 0, {"argv": argv}, version=version) == long
    assert (await say(bench, "x" * 255))["ret"] == -8


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"argv": "kernel version"},
        {"argv": None},
        {"argv": [1]},
        {"argv": ["kernel", 1, "version"]},
        {"argv": [b"x"]},
        {"argv": [["kernel"]]},
        [],
        b"\xff",
    ],
)
async def test_what_are_no_words_is_refused_as_a_whole(bench: GroupBench, body: object) -> None:
    assert await bench.ask(WRITE, 0, body) == {"rc": 3}


INJECTIONS = [
    "; touch {0}",
    "& touch {0}",
    "&& touch {0}",
    "|| touch {0}",
    "| tee {0}",
    "> {0}",
    ">> {0}",
    "$(touch {0})",
    "`touch {0}`",
    "\ntouch {0}",
    "\r\ntouch {0}",
    "\0touch {0}",
    "${{IFS}}touch${{IFS}}{0}",
    "'; touch {0}; '",
    '"; touch {0}; "',
    "\\; touch {0}",
    "<(touch {0})",
    "{{touch,{0}}}",
    "-c touch {0}",
    "--help",
    "-x",
    "../../../bin/touch {0}",
    "/usr/bin/touch {0}",
    "\x1b]0;touch {0}\x07",
    "%s%n",
    "{0}\udcff",
]


@pytest.mark.parametrize("injection", INJECTIONS)
async def test_injected_words_run_nothing(bench: GroupBench, tmp_path: Path, injection: str) -> None:
    target = tmp_path / "touched"
    text = injection.format(target)
    for words in (
        [text],
        ["fail" + text],
        ["fail", text],
        ["two", "a", text],
        ["two", "a" + text, "1"],
        ["kernel", text],
    ):
        reply = await say(bench, *words) if "\udcff" not in text else {"ret": -8}
        assert reply["ret"] in (-8, -22, 1)
    reply = await say(bench, "show", f"'{text}'") if "'" not in text and "\udcff" not in text else {}
    assert not target.exists()
    if reply.get("ret") == 0:  # passed on as one argument, as it is
        assert reply["o"] == f"\r\n{[text]!r}\r\n"


WORDS = ["two", "show", "a", "1", ";", "|", "$(touch x)", "`id`", "-c", "'", '"', "\\", "\0", "\n", "*", "~", "x" * 50]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(words=["x" * 50] * 5)
@given(words=st.lists(st.sampled_from(WORDS), max_size=5))
async def test_arguments_arrive_as_one_word_each_or_not_at_all(bench: GroupBench, words: list[str]) -> None:
    """Whatever a client says, a program gets exactly the arguments that its expressions allow."""
    reply = await say(bench, "two", *words)
    if len(" ".join(["two", *words])) >= 256:
        assert reply == {"err": {"group": 9, "rc": 2}}
    elif reply["ret"] == 0:
        letters, digits = literal_eval(reply["o"].strip())
        assert re.fullmatch("[a-z]+", letters)
        assert re.fullmatch("[0-9]+", digits)
    else:
        assert reply["ret"] == -22


def test_the_group_needs_commands(tmp_path: Path) -> None:
    assert ShellGroup.needs(parse({}, tmp_path)) == "shell.command"
    assert ShellGroup.needs(parse({"shell": {"command": COMMANDS}}, tmp_path)) == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"run": ["x"]}, r"shell\.command\.name is missing"),
        ({"name": " ", "run": ["x"]}, r"shell\.command\.name is missing"),
        ({"name": "a"}, r"shell\.command\.run of 'a' is missing"),
        ({"name": "a", "run": [""]}, r"shell\.command\.run of 'a' is missing"),
        ({"name": "a", "run": ["x"], "arguments": ["("]}, r"shell\.command\.arguments of 'a' = '\(': "),
        ({"name": "a", "run": "x"}, r"shell\.command\[0\]\.run = 'x': must be a list"),
        ({"name": "a", "run": ["x"], "shell": True}, r"shell\.command\[0\]\.shell: unknown option"),
        ("a", r"shell\.command\[0\] = 'a': must be a section, \[\[shell\.command\]\]"),
    ],
)
def test_a_wrong_table_is_told(tmp_path: Path, command: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"shell": {"command": [command]}}, tmp_path)


def test_a_name_that_comes_twice_is_told(tmp_path: Path) -> None:
    commands = [{"name": name, "run": ["x"]} for name in ("a  b", "a b")]
    with pytest.raises(ConfigError, match="'a b': there are two of them"):
        parse({"shell": {"command": commands}}, tmp_path)


@pytest.mark.parametrize(("op", "command"), [(READ, 0), (WRITE, 1)])
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command) == {"rc": 8}

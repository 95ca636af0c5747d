import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.group_config import ShellCommand
from smp_dfu_host.groups.shell_table import Said, find

COMMANDS = (
    ShellCommand("kernel version", ("echo", "1.0"), help="Version."),
    ShellCommand("kernel sleep", ("sleep",), ("[0-9]+",), "Sleep."),
    ShellCommand("kernel  sleep deep", ("sleep", "9")),
    ShellCommand("add", ("expr",), ("-?[0-9]+", r"\+", ".+")),
)


@pytest.mark.parametrize(
    ("words", "run"),
    [
        (["kernel", "version"], ("echo", "1.0")),
        (["kernel", "sleep", "5"], ("sleep", "5")),
        (["kernel", "sleep", "deep"], ("sleep", "9")),
        (["add", "-1", "+", "x"], ("expr", "-1", "+", "x")),
        (["add", "1", "+", "a b;c"], ("expr", "1", "+", "a b;c")),
    ],
)
def test_words_are_found_in_the_table(words: list[str], run: tuple[str, ...]) -> None:
    assert find(words, COMMANDS) == run


@pytest.mark.parametrize(
    ("words", "ret", "text"),
    [
        ([], -errno.ENOEXEC, ""),
        (["nope"], -errno.ENOEXEC, "\x1b[1;31mnope: command not found\n\x1b[m"),
        ([""], -errno.ENOEXEC, "\x1b[1;31m: command not found\n\x1b[m"),
        (["KERNEL", "version"], -errno.ENOEXEC, "\x1b[1;31mKERNEL: command not found\n\x1b[m"),
        (
            ["kernel", "version", "x"],
            -errno.EINVAL,
            "\x1b[1;31mversion: wrong parameter count\n\x1b[mversion - Version.\n",
        ),
        (["kernel", "sleep"], -errno.EINVAL, "\x1b[1;31msleep: wrong parameter count\n\x1b[msleep - Sleep.\n"),
        (["kernel", "sleep", "5s"], -errno.EINVAL, "\x1b[1;31msleep: wrong parameter\n\x1b[msleep - Sleep.\n"),
        (["kernel", "sleep", "5\n"], -errno.EINVAL, "\x1b[1;31msleep: wrong parameter\n\x1b[msleep - Sleep.\n"),
        (["add", "1", "+", "-x"], -errno.EINVAL, "\x1b[1;31madd: wrong parameter\n\x1b[madd - \n"),
        (["add", "1", "+", "x\0"], -errno.EINVAL, "\x1b[1;31madd: wrong parameter\n\x1b[madd - \n"),
    ],
)
def test_words_that_mean_nothing_are_told(words: list[str], ret: int, text: str) -> None:
    assert find(words, COMMANDS) == Said(text, ret)


def test_help_lists_commands() -> None:
    assert find(["help"], COMMANDS) == Said(
        "Available commands:\n"
        "  add               : \n"
        "  kernel sleep      : Sleep.\n"
        "  kernel sleep deep : \n"
        "  kernel version    : Version.\n",
        0,
    )


@pytest.mark.parametrize("words", [["kernel"], ["kernel", "nosuch"]])
def test_a_first_word_lists_what_may_follow(words: list[str]) -> None:
    text = "kernel\nSubcommands:\n  sleep      : Sleep.\n  sleep deep : \n  version    : Version.\n"
    assert find(words, COMMANDS) == Said(text, 1)


@given(
    st.lists(st.sampled_from(["kernel", "sleep", "version", "add", "1", "-n", "+", ";", "$(id)", "", "\0"]), max_size=5)
)
def test_nothing_is_run_but_what_the_table_says(words: list[str]) -> None:
    """Whatever the words, what is run begins with a command of the table, and has no options that it does not name."""
    found = find(words, COMMANDS)
    if isinstance(found, Said):
        return
    command = next(each for each in COMMANDS if found[: len(each.run)] == each.run)
    assert len(found) == len(command.run) + len(command.arguments)
    assert not any(argument.startswith("-") for argument in found[len(command.run) + 1 :])

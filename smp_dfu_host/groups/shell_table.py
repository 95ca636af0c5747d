"""The shell group's table: what the words of a client mean, and what is said about words that mean nothing.

    words ─► the longest name that they begin with ─► program and arguments, each argument matched by its expression
          ─► or text and result, as Zephyr's shell has them

Result codes and the form of texts after zephyr subsys/shell/shell.c and include/zephyr/shell/shell.h.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass

from smp_dfu_host.group_config import ShellCommand

HELP_PRINTED = 1
"""The result when help was printed instead (SHELL_CMD_HELP_PRINTED)."""
_ERROR, _NORMAL = "\x1b[1;31m", "\x1b[m"
_HELP = "help"


@dataclass(frozen=True, slots=True)
class Said:
    """A text instead of a program's output."""

    text: str
    ret: int


def find(words: Sequence[str], commands: Sequence[ShellCommand]) -> tuple[str, ...] | Said:
    """Return what to run, or what to say instead."""
    named = [command for command in commands if _begins(words, command.name)]
    if named:
        command = max(named, key=lambda each: len(each.name.split()))
        return _with_arguments(command, words[len(command.name.split()) :])
    if not words:
        return Said("", -errno.ENOEXEC)
    if words[0] == _HELP:
        return Said(_list("Available commands:", commands, 0), 0)
    if children := [command for command in commands if command.name.split()[0] == words[0]]:
        return Said(f"{words[0]}\n{_list('Subcommands:', children, 1)}", HELP_PRINTED)
    return Said(f"{_ERROR}{words[0]}: command not found\n{_NORMAL}", -errno.ENOEXEC)


def _begins(words: Sequence[str], name: str) -> bool:
    wanted = name.split()
    return list(words[: len(wanted)]) == wanted


def _with_arguments(command: ShellCommand, arguments: Sequence[str]) -> tuple[str, ...] | Said:
    """Return the program with the client's arguments, if they are allowed."""
    if len(arguments) != len(command.arguments):
        return _wrong(command, "wrong parameter count")
    if not all(map(_allowed, command.arguments, arguments)):
        return _wrong(command, "wrong parameter")
    return (*command.run, *arguments)


def _allowed(pattern: str, argument: str) -> bool:
    """Tell whether an argument may be passed on; one that a program could take for an option needs saying so."""
    if "\0" in argument or (argument.startswith("-") and not pattern.startswith("-")):
        return False
    return re.fullmatch(pattern, argument) is not None


def _wrong(command: ShellCommand, what: str) -> Said:
    last = command.name.split()[-1]
    return Said(f"{_ERROR}{last}: {what}\n{_NORMAL}{last} - {command.help}\n", -errno.EINVAL)


def _list(title: str, commands: Sequence[ShellCommand], level: int) -> str:
    """Return a list of commands without their first words, and what each does."""
    lines = {" ".join(command.name.split()[level:]): command.help for command in commands}
    width = max(map(len, lines), default=0)
    return "\n".join([title, *(f"  {name:{width}} : {text}" for name, text in sorted(lines.items()))]) + "\n"

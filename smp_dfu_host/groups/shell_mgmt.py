"""The shell group (9): runs commands of a table.

After zephyr subsys/mgmt/mcumgr/grp/shell_mgmt/src/shell_mgmt.c. The words are joined and taken apart again, with quotes
and backslashes, as there; a word that is no text is refused, where Zephyr runs those before it.
"""

import errno
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.group import Context, Group, write
from smp_dfu_host.dispatch.program import Finished, run
from smp_dfu_host.errors import GroupError, Rc
from smp_dfu_host.groups.shell_table import Said, find
from smp_dfu_host.wire.body import Body

log = logging.getLogger(__name__)

GROUP = 9
_REPLY_OVERHEAD = 32
"""Bytes of a reply that are not output: header, keys, result."""


class ShellRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/shell_mgmt/shell_mgmt.h)."""

    UNKNOWN = 1
    COMMAND_TOO_LONG = 2
    EMPTY_COMMAND = 3


@dataclass(frozen=True, slots=True)
class Exec(Body):
    """A command."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExecReply(Body):
    """What it did."""

    o: str
    """Its output, with CR LF at line ends and at the beginning."""
    ret: int
    """0, an exit status, or minus an errno."""


class ShellGroup(Group):
    """The command that runs commands."""

    id = GROUP
    name = "shell mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = {ShellRc.COMMAND_TOO_LONG: Rc.EINVAL, ShellRc.EMPTY_COMMAND: Rc.EINVAL}

    @classmethod
    def needs(cls, config: Config) -> str:
        """Return the option that lists commands, unless there are some."""
        return "" if config.shell.command else "shell.command"

    @write(0, Exec)
    async def execute(self, context: Context, request: Exec) -> Body:
        """Run a command to its end."""
        config = self.services.config.shell
        line = " ".join(request.argv)
        size = len(line.encode(errors="surrogateescape"))
        if not request.argv:
            raise GroupError(GROUP, ShellRc.EMPTY_COMMAND, "no words")
        if size >= config.line_size:
            raise GroupError(GROUP, ShellRc.COMMAND_TOO_LONG, f"{size} bytes, limit is {config.line_size - 1}")
        limit = min(config.output_size, context.buf_size - _REPLY_OVERHEAD)
        match self._find(line):
            case Said(text, ret):
                return ExecReply(_shown(text.encode(errors="surrogateescape"), limit), ret)
            case command:
                done: Finished = await run(command, config.timeout_ms / 1000, limit)
                _note(context, line, done.ret, config.timeout_ms)
                return ExecReply(_shown(done.output, limit), done.ret)

    def _find(self, line: str) -> tuple[str, ...] | Said:
        """Take a line apart; return what to run, or what to say instead."""
        try:
            words = shlex.split(line)
        except ValueError as exc:  # a quotation without its end
            return Said(f"{exc}\n", -errno.EINVAL)
        return find(words, self.services.config.shell.command)


def _note(context: Context, line: str, ret: int, timeout_ms: int) -> None:
    """Log what somebody had run, and what came of it."""
    ended = f"ended with {ret}"
    if ret == -errno.ETIMEDOUT:
        ended = f"killed after {timeout_ms} ms, [shell] timeout_ms"
    elif ret < 0:
        ended = f"{ret}, minus the signal that ended it, or minus the errno why it could not be run"
    log.log(logging.INFO if ret >= 0 else logging.WARNING, "%s: shell %.80r: %s", context.peer, line, ended)


def _shown(output: bytes, limit: int) -> str:
    """Return output as a terminal wants it, cut to so many bytes; what is no UTF-8 is replaced."""
    lines = b"\r\n" + output.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return lines[:limit].decode(errors="replace").encode()[:limit].decode(errors="ignore")

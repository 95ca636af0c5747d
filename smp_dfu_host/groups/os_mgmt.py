"""The os group (0): echo, task statistics, memory pools, date and time, reset, parameters, info, boot loader info.

After zephyr subsys/mgmt/mcumgr/grp/os_mgmt/src/os_mgmt.c. Echo control (1) has no handler, as there.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.dispatch.group import Context, Group, read, write
from smp_dfu_host.dispatch.hooks import BootloaderInfo, Event, InfoAppend, InfoCheck, OsReset
from smp_dfu_host.dispatch.services import ResetRequest, Services
from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal
from smp_dfu_host.groups.clock_text import read_text, write_text
from smp_dfu_host.groups.memory_pools import pools
from smp_dfu_host.groups.os_info import LETTERS, text_of
from smp_dfu_host.groups.task_stats import frugal, tasks
from smp_dfu_host.mcuboot.options import Downgrade
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.wire.body import Body, Uint32, decode, encode
from smp_dfu_host.wire.header import Header

GROUP = 0
INFO_LIMIT = 256
"""Bytes of an `info` output with its end (CONFIG_MCUMGR_GRP_OS_INFO_MAX_RESPONSE_SIZE)."""


class OsRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/os_mgmt/os_mgmt.h)."""

    UNKNOWN = 1
    INVALID_FORMAT = 2
    QUERY_YIELDS_NO_ANSWER = 3
    RTC_NOT_SET = 4
    RTC_COMMAND_FAILED = 5


@dataclass(frozen=True, slots=True)
class Echo(Body):
    """A text to send back."""

    d: str = ""


@dataclass(frozen=True, slots=True)
class EchoReply(Body):
    """The same text."""

    r: str


@dataclass(frozen=True, slots=True)
class Datetime(Body):
    """A date and a time, as a request and as an answer."""

    datetime: str | None = None
    """`YYYY-MM-DDTHH:MM:SS`, UTC; with milliseconds behind a point if so configured."""


@dataclass(frozen=True, slots=True)
class Reset(Body):
    """How to reset."""

    force: bool = False
    boot_mode: Uint32 = 0
    """1: into the boot loader; other values: a plain reset."""


@dataclass(frozen=True, slots=True)
class Params(Body):
    """The buffers that a client may fill."""

    buf_size: int
    """Largest message, header included, in bytes."""
    buf_count: int


@dataclass(frozen=True, slots=True)
class Info(Body):
    """What to tell."""

    format: str | None = None
    """Letters; missing or empty: `s`."""


@dataclass(frozen=True, slots=True)
class InfoReply(Body):
    """The texts of the letters."""

    output: str


@dataclass(frozen=True, slots=True)
class BootloaderQuery(Body):
    """What to tell of the boot loader; missing: its name."""

    query: str | None = None


class OsGroup(Group):
    """Commands about the device itself.

    Args:
        services: The server's parts.
        now: The host's time, UTC; the time that clients set is kept as a distance from it.
        set_clock: Sets the host's time instead, in seconds since 1970, with `[os] datetime = "host"`.
    """

    id = GROUP
    name = "os mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = {
        OsRc.UNKNOWN: Rc.EUNKNOWN,
        OsRc.INVALID_FORMAT: Rc.EINVAL,
        OsRc.QUERY_YIELDS_NO_ANSWER: Rc.ENOENT,
        OsRc.RTC_NOT_SET: Rc.ENOENT,
        OsRc.RTC_COMMAND_FAILED: Rc.EUNKNOWN,
    }

    def __init__(
        self,
        services: Services,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        set_clock: Callable[[float], None] = lambda seconds: time.clock_settime(time.CLOCK_REALTIME, seconds),
    ) -> None:
        super().__init__(services)
        self._config = services.config.os
        self._now = now
        self._set_clock = set_clock
        self._offset = timedelta(0)

    @read(0, Echo)
    @write(0, Echo)
    async def echo(self, _context: Context, request: Echo) -> Body:
        """Send the text back."""
        return EchoReply(request.d)

    @read(2)
    async def task_statistics(self, context: Context) -> Mapping[str, object]:
        """Tell of tasks and threads; without their stacks if the reply would not fit."""
        table = tasks()
        if Header.SIZE + len(encode({"tasks": table})) > context.buf_size:
            table = frugal(table)
        return {"tasks": table}

    @read(3)
    async def memory_pools(self, _context: Context) -> Mapping[str, object]:
        """Tell of the process's memory and of the packets that may wait."""
        return pools(self.services.stats.groups, self.services.config.smp.buf_size)

    @read(4)
    async def get_datetime(self, _context: Context) -> Body:
        """Tell the time that was set, or the host's."""
        await self.services.hooks.notify(Event.OS_DATETIME_GET, None)
        return Datetime(write_text(self._now() + self._offset, ms=self._config.datetime_ms))

    @write(4, Datetime)
    async def set_datetime(self, _context: Context, request: Datetime) -> Body:
        """Set the time: for this process alone, or the host's."""
        values = read_text(request.datetime or "", ms=self._config.datetime_ms)
        await self.services.hooks.notify(Event.OS_DATETIME_SET, values)
        year, month, day, hour, minute, second, millisecond = values
        try:
            self._set(datetime(year, month, day, hour, minute, second, millisecond * 1000, tzinfo=UTC))
        except (ValueError, OverflowError, OSError) as exc:  # no such day, a year after 9999, or no right to set it
            raise GroupError(GROUP, OsRc.RTC_COMMAND_FAILED, f"datetime {request.datetime!r}: {exc}") from exc
        return Body()

    def _set(self, moment: datetime) -> None:
        if self._config.datetime == "host":
            self._set_clock(moment.timestamp())
        else:
            self._offset = moment - self._now()

    @write(5)
    async def reset(self, context: Context) -> Body:
        """Have the device reset in a moment; a payload that cannot be read does not keep it from that."""
        request = Reset()
        with suppress(MgmtError):
            request = decode(Reset, context.payload)
        await self.services.hooks.notify(Event.OS_RESET, OsReset(request.force, request.boot_mode, context.peer))
        self.services.reset(ResetRequest(request.force, request.boot_mode, context.peer))
        return Body()

    @read(6)
    async def params(self, context: Context) -> Body:
        """Tell the sizes of the buffers; clients that fill them must not be cut."""
        size = context.buf_size
        if context.peer.transport == "udp":
            size = min(size, self.services.config.transport.udp.mtu)
        return Params(size, self.services.config.smp.buf_count)

    @read(7, Info)
    async def info(self, _context: Context, request: Info) -> Body:
        """Tell what the letters ask for, each once, in the order of `LETTERS`."""
        wanted = request.format or "s"
        check = InfoCheck(wanted)
        with suppress(Refusal):  # cannot refuse
            await self.services.hooks.notify(Event.OS_INFO_CHECK, check)
        if unknown := set(wanted) - {"a", *LETTERS} - check.letters:
            raise GroupError(GROUP, OsRc.INVALID_FORMAT, f"info format {wanted!r}: no letter {min(unknown)!r}")
        letters = LETTERS if "a" in wanted else [letter for letter in LETTERS if letter in wanted]
        output = [text_of(letter, self.services.config.name) for letter in letters]
        await self.services.hooks.notify(Event.OS_INFO_APPEND, InfoAppend(wanted, output))
        text = " ".join(output)
        if len(text.encode(errors="surrogateescape")) >= INFO_LIMIT:
            raise MgmtError(Rc.EMSGSIZE, f"info output of {len(text)} characters, limit is {INFO_LIMIT - 1} bytes")
        return InfoReply(text)

    @read(8, BootloaderQuery)
    async def bootloader_info(self, _context: Context, request: BootloaderQuery) -> Mapping[str, object]:
        """Tell the boot loader's name, or its mode."""
        data = BootloaderInfo(request.query)
        await self.services.hooks.notify(Event.OS_BOOTLOADER_INFO, data)
        if data.fields:
            return data.fields
        match request.query:
            case None:
                return {"bootloader": "MCUboot"}
            case "mode":
                return self._mode()
            case "active_b0_slot" if self.services.store.options.mode.picks_slot:
                return {"active": (self.services.store.running_slot() or 0) % SLOTS_OF_IMAGE}
            case query:
                raise GroupError(GROUP, OsRc.QUERY_YIELDS_NO_ANSWER, f"boot loader query {query!r}")

    def _mode(self) -> Mapping[str, object]:
        options = self.services.store.options
        fields: dict[str, object] = {"mode": options.mode.number}
        if options.downgrade is not Downgrade.ALLOWED:
            fields["no-downgrade"] = True
        return fields

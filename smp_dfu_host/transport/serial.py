"""SMP over a serial line: a tty, or a pty that we make ourselves.

A line has one peer and no connection: the link begins with the first packet and ends when the device reboots, when the
line is unplugged, or when nobody takes what we write. How packets stand on the line is one of `FRAMINGS`.
Source: zephyr subsys/mgmt/mcumgr/transport/src/{smp_uart,smp_raw_uart,smp_shell}.c, drivers/console/uart_mcumgr.c.
"""

import asyncio
import contextlib
import logging
import os
import termios
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from smp_dfu_host.config import SerialConfig
from smp_dfu_host.dispatch.peer import Inbox, Peer
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.tty import Pty, Terminal, Tty
from smp_dfu_host.wire.console import OVERHEAD, ConsoleFraming, ShellFraming
from smp_dfu_host.wire.raw_serial import RawSerialFraming

log = logging.getLogger(__name__)

CHUNK = 4096
"""Bytes read at once; a pty holds no more."""


class LineFraming(Protocol):
    """How packets stand on a line; whatever is broken is dropped and counted, never raised."""

    RESYNC: bytes
    """What is sent behind a packet that went out in part, so that the next one is understood."""

    @property
    def dropped(self) -> int:
        """How many packets were broken."""
        ...

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the line; return the packets that they complete."""
        ...

    def split(self, message: bytes) -> Iterator[bytes]:
        """Return the pieces in which the message goes out."""
        ...


FRAMINGS: Mapping[str, Callable[[int], LineFraming]] = {
    # Zephyr's console framing takes frames that are smaller than the buf_size it tells; clients that fill it get none.
    "console": lambda buf_size: ConsoleFraming(buf_size + OVERHEAD),
    "raw": RawSerialFraming,
    "shell": lambda buf_size: ShellFraming(buf_size + OVERHEAD),
}
"""By the option's value; each takes messages of up to so many bytes."""


class SerialLink:
    """The line, from a peer's first packet until it is dropped."""

    def __init__(
        self, line: "_Line", peer: Peer, buf_size: int, framing: LineFraming, lost: Callable[["SerialLink"], None]
    ) -> None:
        self.peer = peer
        """Whoever holds the other end; the lock goes by the line."""
        self.buf_size = buf_size
        """Largest reply in bytes."""
        self.closed = False
        """True once the line is lost or the device reboots."""
        self._line = line
        self._lost = lost
        self._framing = framing
        self._begun: tuple[bytes, memoryview] | None = None
        """A message that did not go out whole, and what is left of its lines."""

    def send_now(self, message: bytes) -> bool:
        """Write what the kernel takes of one message; what it does not take, `send` will write."""
        if self.closed:
            return False
        data = b"".join(self._framing.split(message))
        left = self._line.begin(data)
        self._begun = (message, left) if len(left) < len(data) else None
        return not left

    async def send(self, message: bytes) -> None:
        """Write one message as the framing has it; return when the kernel has taken all of it.

        Raises:
            TransportError: If the line is gone, or nobody reads it.
        """
        if self.closed:
            raise TransportError(f"{self.peer}: the link is gone")
        begun, self._begun = self._begun, None
        try:
            if begun and begun[0] is message:
                await self._line.write(begun[1])
            else:
                await self._line.write(b"".join(self._framing.split(message)), self._framing.RESYNC)
        except TransportError:
            self._lost(self)
            raise


class SerialTransport:
    """Serves the peer at the other end of one line.

    Args:
        config: Names a tty or a pty's path, not both; `lines` makes one configuration for each.
        buf_size: Largest message, header included, in bytes.
        retry_s: A tty that was unplugged is looked for so often, in seconds.
        stall_s: A reply that makes no progress for so long is given up, in seconds; a slow line (1200 baud) takes far
            less for what its driver wakes us up.
    """

    name = "serial"

    def __init__(self, config: SerialConfig, buf_size: int, *, retry_s: float = 1.0, stall_s: float = 10.0) -> None:
        self._config = config
        self._path = config.device or config.pty or Path()
        self._buf_size = buf_size
        self._retry_s = retry_s
        self._stall_s = stall_s
        self._peer = Peer("serial", str(self._path), f"serial:{self._path}")
        self._inbox: Inbox | None = None
        self._line: _Line | None = None
        self._link: SerialLink | None = None
        self._framing: LineFraming | None = None  # None while the device is off
        self._waiting: deque[bytes] = deque()
        """Packets that the inbox has not taken yet; nothing is read meanwhile."""
        self._task: asyncio.Task[None] | None = None

    async def open(self, inbox: Inbox) -> Mapping[str, str | int]:
        """Open the tty or make the pty; return its path.

        Raises:
            TransportError: If it cannot be had; the message says why.
        """
        self._inbox = inbox
        self._line = self._open_line(inbox)
        self._task = asyncio.create_task(self._serve(inbox, self._line), name=str(self._peer))
        return {"transport": self.name, "path": str(self._path)}

    async def online(self) -> None:
        """Take packets from now on; what arrived before is forgotten, read or not."""
        if self._line is not None:
            self._line.forget()
        self._framing = self._new_framing()

    async def offline(self) -> None:
        """Drop the link; the line stays open and what arrives is thrown away."""
        self._framing = None
        self._waiting.clear()
        self._drop(self._link)

    async def close(self) -> None:
        """Close the line; a pty's link goes with it."""
        await self.offline()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._line is not None:
            self._line.close()

    async def _serve(self, inbox: Inbox, line: "_Line") -> None:
        while True:
            try:
                await self._receive(inbox, line)
            except TransportError as exc:
                log.error("%s; looking for it every %g s", exc, self._retry_s)  # noqa: TRY400  (one line, no traceback)
            self._drop(self._link)
            line.close()
            line = await self._reopen(inbox)

    async def _receive(self, inbox: Inbox, line: "_Line") -> None:
        """Pass on the packets that wait, and have the line go on behind them, until the line is lost."""
        while True:
            await line.held()
            while self._waiting:
                await inbox.put(self._joined(inbox, line), self._waiting.popleft())
            line.go_on()

    def _take(self, inbox: Inbox, line: "_Line", data: bytes) -> bool:
        """Pass on what the line brings; False if packets wait, for room or for their turns."""
        framing = self._framing
        if framing is None:
            return True
        dropped = framing.dropped
        for number, packet in enumerate(framing.feed(data)):
            # Those behind the first one take their turns, so that many at once do not keep other peers waiting.
            if number or not inbox.put_now(self._joined(inbox, line), packet):
                self._waiting.append(packet)
        if framing.dropped != dropped:
            log.warning("%s: %d broken packets dropped", self._peer, framing.dropped - dropped)
        return not self._waiting

    async def _reopen(self, inbox: Inbox) -> "_Line":
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                self._line = self._open_line(inbox)
            except TransportError as exc:
                log.debug("%s", exc)
            else:
                log.info("%s: back", self._peer)
                return self._line

    def _open_line(self, inbox: Inbox) -> "_Line":
        terminal: Terminal
        if self._config.device is not None:
            terminal = Tty(self._config.device, self._config.baudrate)
        else:
            terminal = Pty(self._path)
        return _Line(terminal, self._peer, self._stall_s, partial(self._take, inbox))

    def _joined(self, inbox: Inbox, line: "_Line") -> SerialLink:
        if self._link is None:
            self._link = SerialLink(line, self._peer, self._buf_size, self._new_framing(), self._drop)
            inbox.joined(self._link)
        return self._link

    def _new_framing(self) -> LineFraming:
        return FRAMINGS[self._config.framing](self._buf_size)

    def _drop(self, link: SerialLink | None) -> None:
        if link is not None and link is self._link and self._inbox is not None:
            self._link = None
            link.closed = True
            self._inbox.left(link)


class _Line:
    """An open terminal on the event loop: bytes that are taken as they come, and writes that wait.

    Args:
        terminal: The terminal.
        peer: Whose it is, for messages.
        stall_s: What is written is given up after so many seconds without progress.
        take: Called with the line and the bytes that came; False: nothing more is read until `go_on`.
    """

    def __init__(self, terminal: Terminal, peer: Peer, stall_s: float, take: Callable[["_Line", bytes], bool]) -> None:
        self._terminal = terminal
        self._peer = peer
        self._stall_s = stall_s
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._held = False
        self._hung_up = ""
        """Why nothing comes any more."""
        self._listens = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._torn = False
        self._closed = False

    async def held(self) -> None:
        """Give all that comes to `take`, until that has no room.

        Raises:
            TransportError: If the line hung up.
        """
        while not self._held and not self._hung_up:
            if not self._listens:
                self._listens = True
                self._loop.add_reader(self._terminal.fd, self._readable)
            self._reader = self._loop.create_future()
            await self._reader
        if not self._held:
            raise TransportError(f"{self._peer}: {self._hung_up}; unplugged?")

    def go_on(self) -> None:
        """Read again: there is room."""
        self._held = False

    def _readable(self) -> None:
        """Take bytes; while there is no room, leave them where they are, so that the other end has to wait."""
        if self._held or self._hung_up:
            self._deaf()
            return
        try:
            data = os.read(self._terminal.fd, CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:
            self._hung_up = exc.strerror or str(exc)
        else:
            self._hung_up = "" if data else "hung up"
            self._held = bool(data) and not self._take(self, data)
        if self._held or self._hung_up:
            _wake(self._reader)

    def _deaf(self) -> None:
        self._listens = False
        self._loop.remove_reader(self._terminal.fd)

    def forget(self) -> None:
        """Throw away what has arrived and was not read."""
        with contextlib.suppress(OSError, termios.error):  # a line that is lost has nothing
            termios.tcflush(self._terminal.fd, termios.TCIFLUSH)

    def begin(self, data: bytes) -> memoryview:
        """Write as much as the kernel takes at once; return what is left, all of it if that needs more than a write."""
        left = memoryview(data)
        if self._turn.locked() or self._torn or self._closed:
            return left
        with contextlib.suppress(OSError):  # `write` will meet it again, and say so
            left = left[os.write(self._terminal.fd, left) :]
        self._torn = 0 < len(left) < len(data)
        return left

    async def write(self, data: bytes | memoryview, resync: bytes = b"") -> None:
        """Write all of it, as fast as the other end takes it.

        Args:
            data: What to write.
            resync: What stands before it if the last write was given up half-way; nothing: it is the rest of that.

        Raises:
            TransportError: If the line is gone, or took nothing for the stall time; what it still held is thrown away.
        """
        async with self._turn:
            left = memoryview(resync + data if self._torn and resync else data)
            self._torn = True
            while left:
                left = left[await self._write_some(left) :]
            self._torn = False

    async def _write_some(self, data: memoryview) -> int:
        if self._closed:
            raise TransportError(f"{self._peer}: the line is closed")
        try:
            return os.write(self._terminal.fd, data)
        except BlockingIOError:
            await self._room(len(data))
            return 0
        except OSError as exc:
            raise TransportError(f"{self._peer}: {exc.strerror}; unplugged?") from exc

    def close(self) -> None:
        """Close the terminal; whoever waits for it gets a TransportError."""
        if self._closed:
            return
        self._closed = True
        self._hung_up = "the line is closed"
        self._deaf()
        self._loop.remove_writer(self._terminal.fd)
        self._terminal.close()
        _wake(self._reader)
        _wake(self._writer)

    async def _room(self, size: int) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await self._writable()
        except TimeoutError as exc:
            self._terminal.discard()
            raise TransportError(f"{self._peer}: nobody reads; reply dropped with {size} bytes to go") from exc

    async def _writable(self) -> None:
        self._writer = self._loop.create_future()
        self._loop.add_writer(self._terminal.fd, _wake, self._writer)
        try:
            await self._writer
        finally:
            if not self._closed:
                self._loop.remove_writer(self._terminal.fd)


def lines(config: SerialConfig) -> Iterator[SerialConfig]:
    """Return one configuration for each line that is asked for: the tty, the pty, both or none."""
    if config.device is not None:
        yield replace(config, pty=None)
    if config.pty is not None:
        yield replace(config, device=None)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():  # the loop may see the descriptor ready twice before the waiter runs
        future.set_result(None)

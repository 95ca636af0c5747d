"""The connection to the system D-Bus: dbus-next, mended where a burst would kill it.

dbus-next 0.2.3 takes a full socket (EAGAIN) for the end of the connection (altdesktop/python-dbus-next issue 153), and
bless 0.3.0 opens it without passing of file descriptors, which AcquireNotify needs. The names overridden here are
pinned by tests/transport/ble/test_bluez_contract.py.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import io
import os
import socket
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio import message_bus
from dbus_next.auth import AuthExternal
from dbus_next.constants import BusType, MessageType
from dbus_next.errors import AuthError, DBusError
from dbus_next.message import Message

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_frames import Frames, Writes, Written

ANSWER_S = 10.0
"""Longest wait for the answer to a D-Bus call; Device1.Disconnect takes 2.2 s, the rest milliseconds."""

BYTES_A_TURN = 8192
"""How much is taken before everything else has its turn: 16 long writes, 100 us each at most."""

NO_BUS = "no system D-Bus ({reason}); start it: systemctl start dbus (Debian: apt install dbus)"
NO_BLUETOOTHD = "bluetoothd is not running; start it: systemctl start bluetooth (Debian: apt install bluez)"
NO_PERMISSION = (
    "no permission to use bluetoothd; run as root or a user of the group `bluetooth`: usermod -aG bluetooth USER"
)
ABSENT = ("ServiceUnknown", "NameHasNoOwner", "Spawn", "NoReply", "Disconnected")
"""What the names of the D-Bus errors hold that mean: nobody is there."""


class BusError(TransportError):
    """A D-Bus call was refused or not answered."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name
        """The error's D-Bus name, such as `org.bluez.Error.Failed`."""


def bus_error(exc: DBusError) -> BusError:
    """Return a D-Bus error as ours, saying what to do where that is known."""
    name = str(exc.type)
    if any(word in name for word in ABSENT):
        return BusError(name, NO_BLUETOOTHD)
    if name.endswith("AccessDenied"):
        return BusError(name, NO_PERMISSION)
    return BusError(name, f"bluetoothd: {exc.text or name}")


class PatientWriter(message_bus._MessageWriter):  # noqa: SLF001  (the one place where the fault can be mended)
    """Writes messages to the bus; a full socket means: go on when it is writable."""

    buf: memoryview | None
    """The message under way."""

    def buffer_message(self, msg: Message, future: "asyncio.Future[None] | None" = None) -> None:
        """Queue a message; its descriptors are duplicated, so that the caller may close them at once."""
        fds = [os.dup(fd) for fd in msg.unix_fds or ()]
        self.messages.put_nowait((msg._marshall(negotiate_unix_fd=True), fds, future))  # noqa: SLF001

    def drop(self) -> None:
        """Close the descriptors of what will not be written any more."""
        while not self.messages.empty():
            _, fds, _ = self.messages.get_nowait()
            self._close(fds)
        self._close(self.unix_fds or [])
        self.unix_fds = None

    def write_callback(self) -> None:
        """Write what the socket takes (called whenever it is writable)."""
        try:
            while (message := self._next()) is not None:
                self._write(message)
                if self.offset < len(message):
                    return
                self.buf = None
                if self.fut and not self.fut.done():
                    self.fut.set_result(None)
        except BlockingIOError:
            return
        except OSError as exc:
            if self.fut and not self.fut.done():
                self.fut.set_exception(exc)
            self.bus._finalize(exc)  # noqa: SLF001  (as the base class does)

    def _next(self) -> memoryview | None:
        if self.buf is None:
            if self.messages.empty():
                self.loop.remove_writer(self.fd)
                return None
            data, self.unix_fds, self.fut = self.messages.get_nowait()
            self.buf, self.offset = memoryview(data), 0
        return self.buf

    def _write(self, message: memoryview) -> None:
        rest = message[self.offset :]
        if self.unix_fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", self.unix_fds))]
            self.offset += self.sock.sendmsg([rest], rights)
            self._close(self.unix_fds)
            self.unix_fds = None
        else:
            self.offset += self.sock.send(rest)

    def _close(self, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)


class Bus(message_bus.MessageBus):
    """The system bus, able to pass file descriptors and to survive bursts."""

    def __init__(self) -> None:
        super().__init__(bus_type=BusType.SYSTEM, negotiate_unix_fd=True, auth=AuthExternal())
        self._writer = PatientWriter(self)
        self._frames = Frames()
        self._writes: Writes | None = None
        self._disconnect_future.add_done_callback(_look)

    @classmethod
    async def open(cls) -> "Bus":
        """Connect to the system bus.

        Raises:
            TransportError: If there is none.
        """
        try:
            bus = cls()
            try:
                async with asyncio.timeout(ANSWER_S):
                    await bus.connect()
            except BaseException:  # cancelled, too
                bus._release()
                raise
        except (OSError, EOFError, AuthError, DBusError) as exc:
            raise TransportError(
                NO_BUS.format(reason=getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)
            ) from exc
        return bus

    def _setup_socket(self) -> None:
        try:
            super()._setup_socket()
        except OSError:
            self._release()  # dbus-next leaves them open
            raise

    def take_writes(self, path: str, take: Written) -> None:
        """Pass the writes to a characteristic on by a shorter way, once the first has gone the long one."""
        self._writes = Writes(path, take)

    def _message_reader(self) -> None:
        """Take some messages; dbus-next takes all, and a central that writes without end would stop everything else.

        Nobody has reason to pass us descriptors: those that come are closed by the kernel, for want of room for them.
        """
        try:
            self._frames.feed(self._received())
            while frame := self._frames.next():
                if not (self._writes and self._writes.took(frame)):
                    self._unmarshal(frame)
        except BlockingIOError:
            return
        except (OSError, EOFError, ValueError, TypeError, DBusError) as exc:
            self._finalize(exc)

    def _received(self) -> bytes:
        if data := self._sock.recv(BYTES_A_TURN):
            return data
        raise EOFError("the D-Bus connection was closed")

    def _unmarshal(self, frame: bytes) -> None:
        message = Unmarshaller(io.BytesIO(frame)).unmarshall()
        if message is None:
            raise ValueError("D-Bus message that ends too early")
        self._on_message(message)
        if self._writes:
            self._writes.learn(frame, message)

    def send(self, msg: Message) -> "asyncio.Future[None]":  # type: ignore[override]  # as dbus_next.aio has it
        """Send a message; the future is done when the socket has taken it."""
        future: asyncio.Future[None]
        if self._disconnected or self._user_disconnect:
            # dbus-next would watch a descriptor that may be somebody else's by now
            future = self._loop.create_future()
            future.set_exception(EOFError("the D-Bus connection is closed"))
        else:
            future = super().send(msg)
        future.add_done_callback(_look)
        return future

    async def ask(self, path: str, method: str, signature: str = "", *body: object, to: str = "org.bluez") -> list[Any]:
        """Call `interface.Method` of an object and return what it answers.

        Raises:
            BusError: If it is refused or not answered within ANSWER_S.
        """
        interface, member = method.rsplit(".", 1)
        message = Message(
            destination=to, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        if not self.connected:
            raise BusError("closed", NO_BUS.format(reason="the connection was lost"))
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self.call(message)
        except TimeoutError as exc:
            raise BusError("timeout", f"bluetoothd: no answer to {member} within {ANSWER_S:g} s") from exc
        except (OSError, EOFError) as exc:
            raise BusError("closed", NO_BUS.format(reason="the connection was lost")) from exc
        if reply is None:
            return []
        if reply.message_type is MessageType.ERROR:
            raise bus_error(DBusError(reply.error_name, str(reply.body[0]) if reply.body else ""))
        return list(reply.body)

    async def watch(self, *rules: str) -> None:
        """Have the signals that match those rules sent to us."""
        for rule in rules:
            await self.ask(
                "/org/freedesktop/DBus", "org.freedesktop.DBus.AddMatch", "s", rule, to="org.freedesktop.DBus"
            )

    def answer(self, call: Message, signature: str, body: Sequence[object], fds: Sequence[int] = ()) -> None:
        """Answer a call; descriptors to pass along may be closed as soon as this returns."""
        self.send(Message.new_method_return(call, signature, list(body), unix_fds=list(fds)))

    async def lost(self) -> None:
        """Return when the connection is gone."""
        with suppress(OSError, EOFError):
            await asyncio.shield(self._disconnect_future)

    async def close(self) -> None:
        """Disconnect; can be called twice."""
        try:
            if not self._user_disconnect and not self._disconnected:
                self.disconnect()
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self.lost()
        finally:
            self._release()

    def _release(self) -> None:
        if writer := getattr(self, "_writer", None):
            writer.drop()
        self._stream.close()
        self._sock.close()


def _look(done: "asyncio.Future[None]") -> None:
    """Look at a future's exception: not every caller waits, and asyncio reports those that nobody has seen."""
    if not done.cancelled():
        done.exception()

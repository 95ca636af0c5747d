"""The socket over which BlueZ takes one central's notifications (bluez doc/gatt-api.txt, AcquireNotify).

Every packet is one notification. The socket is ours at one end; the other is passed to bluetoothd and must be closed
here, else its end would never be seen. A full socket makes the sender wait: this is all the back-pressure there is.
"""

import asyncio
import socket
from collections.abc import Callable

from smp_dfu_host.errors import TransportError


class Channel:
    """Our end of a notify socket.

    Args:
        ended: Called when bluetoothd has closed its end: the central unsubscribed or left.
    """

    def __init__(self, ended: Callable[["Channel"], None]) -> None:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._writable: asyncio.Future[None] | None = None
        self._closed = False

    def passed(self) -> None:
        """Close our copy of the end that bluetoothd has got, and watch for the end of its copy."""
        self.theirs.close()
        self._loop.add_reader(self._ours, self._readable)

    def send_now(self, value: bytes) -> bool:
        """Send one notification if nothing must be waited for; False: nothing was sent, and `send` is to do it."""
        if self._closed:
            return False
        try:
            self._ours.send(value)
        except OSError:
            return False
        return True

    async def send(self, value: bytes) -> None:
        """Send one notification; wait while bluetoothd is behind.

        Raises:
            TransportError: If the channel is closed.
        """
        while not self._closed:
            try:
                self._ours.send(value)
            except BlockingIOError:
                await self._room()
            except OSError as exc:
                raise TransportError(f"notification not taken: {exc.strerror}") from exc
            else:
                return
        raise TransportError("notification channel closed")

    def close(self) -> None:
        """Close both ends; whoever waits in `send` gets a TransportError; can be called twice."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._ours.close()
        self.theirs.close()

    async def _room(self) -> None:
        self._writable = self._loop.create_future()
        self._loop.add_writer(self._ours, self._wake)
        await self._writable

    def _wake(self) -> None:
        self._loop.remove_writer(self._ours)
        if self._writable and not self._writable.done():
            self._writable.set_result(None)

    def _readable(self) -> None:
        try:
            alive = bool(self._ours.recv(64))  # BlueZ 5.80 and later confirm indications, a byte each
        except BlockingIOError:
            return
        except ConnectionError:
            alive = False
        if not alive:
            self.close()
            self._ended(self)

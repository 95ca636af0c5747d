"""The transport against a bluetoothd of our own on a private bus: what the tests of it share."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from smp_dfu_host.config import BleConfig
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.hci import LM_ENCRYPT, Connection
from smp_dfu_host.transport.ble.hci_connections import HciConnections
from tests.transport.ble.bluetoothd import Bluetoothd
from tests.transport.ble.controller import FakeController
from tests.transport.inbox import RecordingInbox


def message(payload: bytes = b"") -> bytes:
    return struct.pack(">BBHHBB", 2, 0, len(payload), 0, 0, 0) + payload


HELLO = message(b"hello")


async def until(true: Callable[[], object]) -> None:
    """Wait for something that happens in turns of the loop."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Rig:
    """A transport, its inbox and the daemon."""

    def __init__(self, daemon: Bluetoothd, config: BleConfig) -> None:
        self.daemon = daemon
        self.inbox = RecordingInbox()
        self.transport = BleTransport(config, "Näme", 2475)
        self.controller = FakeController()
        self.controller.wrong = OSError(errno.EAFNOSUPPORT, "no raw HCI unless a test says so")
        self.transport.connections = HciConnections(self.controller.connect, lambda _adapter: self.links)
        self.version = (5, 82)
        self.main_conf = Path("/nonexistent")
        self.connections: set[str] = set()
        """The addresses that have come in, as the kernel has them."""
        self.plain: set[str] = set()
        """Those whose link is not encrypted."""
        self.kernel_tells = True

    @property
    def links(self) -> tuple[Connection, ...] | None:
        """The kernel's list."""
        modes = ((address, 0 if address in self.plain else LM_ENCRYPT) for address in sorted(self.connections))
        return tuple(Connection(64 + int(each[0][-2:]), *each) for each in modes) if self.kernel_tells else None

    async def online(self) -> None:
        await self.transport.open(self.inbox)
        await self.transport.online()

    def connect(self, number: int = 1, *, encrypted: bool = True) -> str:
        """Have a central connect, which the kernel knows to have come in."""
        address = f"AA:00:00:00:00:{number:02X}"
        self.connections.add(address)
        (self.plain.discard if encrypted else self.plain.add)(address)
        return self.daemon.connect(number)


async def at_end(sock: socket.socket) -> bool:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 10) == b""

"""A controller of our own, and what controllers say."""

from collections.abc import Callable

from smp_dfu_host.transport.ble.hci import Connection


def connected(handle: int, address: str) -> bytes:
    raw = bytes.fromhex(address.replace(":", ""))[::-1]
    return b"\x04\x3e\x13\x01\x00" + bytes((handle, 0, 1, 0)) + raw + bytes.fromhex("2400 0000 2a00 00")


def disconnected(handle: int) -> bytes:
    return bytes((0x04, 0x05, 4, 0, handle, 0, 0x13))


def updated(handle: int, interval: int = 6, status: int = 0) -> bytes:
    return bytes((0x04, 0x3E, 10, 0x03, status, handle, 0, interval, 0, 0, 0, 0x90, 0x01))


def taken(status: int = 0) -> bytes:
    return bytes((0x04, 0x0F, 4, status, 1, 0x13, 0x20))


class FakeController:
    """Keeps the commands; `wrong` is raised instead of taking one."""

    def __init__(self) -> None:
        self.adapter = ""
        self.sent: list[bytes] = []
        self.hear: Callable[[bytes], None] = lambda _: None
        self.told: Callable[[bytes], None] = lambda _: None
        """Called with each command."""
        self.opened = self.closed = 0
        self.wrong: OSError | None = None
        self.listed: tuple[Connection, ...] | None = ()
        """The kernel's list."""

    def connect(self, adapter: str, heard: Callable[[bytes], None]) -> "FakeController":
        if self.wrong:
            raise self.wrong
        self.adapter, self.hear = adapter, heard
        self.opened += 1
        return self

    def send(self, packet: bytes) -> None:
        if self.wrong:
            raise self.wrong
        self.sent.append(packet)
        self.told(packet)

    def close(self) -> None:
        self.closed += 1

    def list(self, _adapter: str) -> "tuple[Connection, ...] | None":
        return self.listed

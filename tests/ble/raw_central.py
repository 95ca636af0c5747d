"""A Bluetooth LE central that speaks ATT itself, on the L2CAP fixed channel 4.

It has full control of what BlueZ's own client hides: MTU, subscription, security level and timing; and it connects in
50 ms. For root inside the virtual machine: controller i has the address that `address` builds. Protocol: Core
Specification, vol 3, part F (ATT) and part G (GATT).
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Self

from smp_dfu_host.transport.ble.link import SMP_CHARACTERISTIC

AF_BLUETOOTH = 31
BTPROTO_L2CAP = 0
BTPROTO_HCI = 1
SOL_BLUETOOTH = 274
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BT_SECURITY = 4
ATT_CHANNEL = 4
LE_PUBLIC = 1
LONGEST_WRITE = 510
"""BlueZ before 5.69 drops longer write commands in silence, although a value may have 512 bytes."""
LOW, MEDIUM = 1, 2
"""Security levels of a link: plain, encrypted."""

ERROR, MTU_REQUEST, MTU_RESPONSE = 0x01, 0x02, 0x03
FIND_INFORMATION, READ_BY_TYPE = 0x04, 0x08
WRITE_REQUEST, WRITE_RESPONSE, WRITE_COMMAND = 0x12, 0x13, 0x52
NOTIFICATION, INDICATION, CONFIRMATION, MULTIPLE_NOTIFICATION = 0x1B, 0x1D, 0x1E, 0x23
REQUESTS = (0x04, 0x06, 0x08, 0x0A, 0x0C, 0x0E, 0x10, 0x12, 0x16, 0x18, 0x20)
CHARACTERISTIC, CCC = 0x2803, 0x2902

HCIGETCONNLIST = 0x800448D4
CONNECTION = struct.Struct("=H6sBBHI")
HCI_COMMAND, HCI_DISCONNECT, REMOTE_USER = 0x01, 0x0406, 0x13

_libc = ctypes.CDLL(None, use_errno=True)

disputes: Counter[tuple[int, int]] = Counter()
"""How often bluetoothd had the channel that we wanted, by the controllers at both ends.

A second after a pairing, it looks for the peer's services (bluez src/device.c, device_bonding_complete and
DISCOVERY_TIMER). If our connection has ended by then, it makes one of its own for that, once for each pairing, and
keeps it.
"""


def address(controller: int) -> bytes:
    """The address of a virtual controller as the kernel has it, last byte first."""
    return bytes((controller, 0, controller, 1, 0xAA, 0))


def shown(controller: int) -> str:
    """The same as people see it."""
    return address(controller)[::-1].hex(":").upper()


def _sockaddr(controller: int) -> bytes:
    return struct.pack("<HH6sHBx", AF_BLUETOOTH, 0, address(controller), ATT_CHANNEL, LE_PUBLIC)


def _call(name: str, sock: socket.socket, where: bytes) -> None:
    """Bind or connect by libc: a Python built without bluetooth.h has no such addresses."""
    if getattr(_libc, name)(sock.fileno(), where, len(where)):
        code = ctypes.get_errno()
        if code != errno.EINPROGRESS:
            raise OSError(code, f"{name}: {os.strerror(code)}")


def hang_up(controller: int, to: int | None = None) -> None:
    """Have a controller end its connection to another one, or all, by HCI Disconnect."""
    connections = bytearray(struct.pack("=HH", controller, 8) + bytes(8 * CONNECTION.size))
    with socket.socket(AF_BLUETOOTH, socket.SOCK_RAW, BTPROTO_HCI) as sock:
        fcntl.ioctl(sock, HCIGETCONNLIST, connections)
        _call("bind", sock, struct.pack("=HHH", AF_BLUETOOTH, controller, 0))
        for number in range(struct.unpack_from("=HH", connections)[1]):
            handle, peer, *_ = CONNECTION.unpack_from(connections, 4 + number * CONNECTION.size)
            if to is None or peer == address(to):
                sock.send(struct.pack("<BHBHB", HCI_COMMAND, HCI_DISCONNECT, 3, handle, REMOTE_USER))


class AttError(Exception):
    """The server refused a request."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ATT error 0x{code:02x}")
        self.code = code


class RawCentral:
    """One connection from a controller to another."""

    def __init__(self, controller: int, mtu: int = 517) -> None:
        self._controller = controller
        self._max_mtu = mtu
        self._sock = socket.socket(AF_BLUETOOTH, socket.SOCK_SEQPACKET, BTPROTO_L2CAP)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            self._sock.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
        self._answer: asyncio.Future[bytes] | None = None
        self._asking = asyncio.Lock()
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.mtu = 23
        self.value = 0
        """Handle of SMP's characteristic."""
        self.ccc = 0
        """Handle of its subscription."""
        self.notifications: list[bytes] = []
        self.closed = asyncio.Event()
        self.killed = False
        """True after `die`."""

    async def connect(self, to: int, timeout_s: float = 10) -> Self:
        """Connect to a controller that advertises."""
        self._sock.setblocking(False)
        _call("bind", self._sock, _sockaddr(self._controller))
        done = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                if not self._begins(to):
                    disputes[self._controller, to] += 1
                    await self._take_back(to)
                self._loop.add_writer(self._sock, done.set)
                await done.wait()
        except BaseException:
            self._loop.remove_writer(self._sock)
            self._sock.close()
            raise
        self._loop.remove_writer(self._sock)
        if code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._sock.close()
            raise OSError(code, os.strerror(code))
        self._loop.add_reader(self._sock, self._readable)
        return self

    async def _take_back(self, to: int) -> None:
        """End bluetoothd's connection, and begin to connect."""
        while not self._begins(to):
            hang_up(self._controller, to)
            await asyncio.sleep(0.05)

    def _begins(self, to: int) -> bool:
        """Begin to connect; False while bluetoothd has the channel."""
        try:
            _call("connect", self._sock, _sockaddr(to))
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            return False
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; closing the socket does not do it, once bluetoothd has bonded and looks at our end too."""
        if not self.closed.is_set():
            self.closed.set()
            with suppress(OSError):  # the controller has gone
                hang_up(self._controller)
        self.die()

    def die(self) -> None:
        """End as when the process is killed: the kernel closes the socket, and the link may stay."""
        self.killed |= not self.closed.is_set()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        self.closed.set()

    @property
    def security(self) -> int:
        """The link's security level."""
        return self._sock.getsockopt(SOL_BLUETOOTH, BT_SECURITY, 2)[0]

    async def secure(self, timeout_s: float = 10) -> None:
        """Pair, or encrypt with the keys that are there; returns when the link is encrypted."""
        with suppress(OSError):  # EINVAL: as secure already (linux net/bluetooth/l2cap_sock.c)
            self._sock.setsockopt(SOL_BLUETOOTH, BT_SECURITY, struct.pack("BB", MEDIUM, 0))
        async with asyncio.timeout(timeout_s):
            while self.security < MEDIUM:  # noqa: ASYNC110  (the kernel has no event for it)
                await asyncio.sleep(0.02)

    async def exchange_mtu(self) -> int:
        """Agree on an MTU."""
        reply = await self.request(struct.pack("<BH", MTU_REQUEST, self._max_mtu))
        self.mtu = min(self._max_mtu, struct.unpack_from("<H", reply, 1)[0])
        return self.mtu

    async def discover(self) -> tuple[int, int]:
        """Find SMP's characteristic; return the handles of its value and of its subscription."""
        wanted = bytes.fromhex(SMP_CHARACTERISTIC.replace("-", ""))[::-1]
        start = 1
        while not self.value:
            reply = await self.request(struct.pack("<BHHH", READ_BY_TYPE, start, 0xFFFF, CHARACTERISTIC))
            for at in range(2, len(reply), reply[1]):
                declaration, _, value = struct.unpack_from("<HBH", reply, at)
                start = declaration + 1
                if reply[at + 5 : at + reply[1]] == wanted:
                    self.value = value
        reply = await self.request(struct.pack("<BHH", FIND_INFORMATION, self.value + 1, self.value + 1))
        handle, kind = struct.unpack_from("<HH", reply, 2)
        assert kind == CCC
        self.ccc = handle
        return self.value, self.ccc

    async def setup(self, *, secure: bool = True) -> Self:
        """Do what a client does first: MTU, discovery, pairing, subscription."""
        await self.exchange_mtu()
        await self.discover()
        if secure:
            await self.secure()
        await self.subscribe()
        return self

    async def subscribe(self, value: int = 1) -> None:
        """Write the subscription; 0 ends it."""
        await self.request(struct.pack("<BHH", WRITE_REQUEST, self.ccc, value))

    async def write(self, data: bytes) -> None:
        """Send one write command."""
        await self._loop.sock_sendall(self._sock, struct.pack("<BH", WRITE_COMMAND, self.value) + data)

    async def send(self, message: bytes) -> None:
        """Send a message in write commands of what the MTU carries, and BlueZ 5.66 takes."""
        size = min(self.mtu - 3, LONGEST_WRITE)
        for at in range(0, len(message), size):
            await self.write(message[at : at + size])

    async def received(self, size: int, timeout_s: float = 20) -> bytes:
        """Wait for that many bytes of notifications; return all that came."""
        async with asyncio.timeout(timeout_s):
            while sum(map(len, self.notifications)) < size:
                self._news.clear()
                await self._news.wait()
        return b"".join(self.notifications)

    async def ask(self, request: bytes) -> bytes:
        """Send one message and return the whole reply."""
        self.notifications.clear()
        await self.send(request)
        head = await self.received(8)
        return await self.received(8 + int.from_bytes(head[2:4], "big"))

    async def received_count(self, count: int, timeout_s: float = 60) -> None:
        """Wait for that many notifications."""
        async with asyncio.timeout(timeout_s):
            while len(self.notifications) < count:
                self._news.clear()
                await self._news.wait()

    async def request(self, pdu: bytes, timeout_s: float = 10) -> bytes:
        """Send a request and return the response.

        Raises:
            AttError: If it is refused.
        """
        async with self._asking, asyncio.timeout(timeout_s):
            self._answer = self._loop.create_future()
            await self._loop.sock_sendall(self._sock, pdu)
            reply = await self._answer
        if reply[0] == ERROR:
            raise AttError(reply[4])
        return reply

    def _readable(self) -> None:
        try:
            pdu = self._sock.recv(2048)
        except BlockingIOError:
            return
        except OSError:
            pdu = b""
        if not pdu:
            self._loop.remove_reader(self._sock)
            self.closed.set()
            if self._answer and not self._answer.done():
                self._answer.set_exception(ConnectionResetError("disconnected"))
            return
        with suppress(OSError):  # it has ended meanwhile
            self._take(pdu)

    def _take(self, pdu: bytes) -> None:
        match pdu[0]:
            case 0x1B:
                self._notified(pdu[3:])
            case 0x23:
                at = 1
                while at + 4 <= len(pdu):
                    (size,) = struct.unpack_from("<H", pdu, at + 2)
                    self._notified(pdu[at + 4 : at + 4 + size])
                    at += 4 + size
            case 0x1D:
                self._sock.send(bytes((CONFIRMATION,)))
            case 0x02:
                self.mtu = max(23, min(self._max_mtu, struct.unpack_from("<H", pdu, 1)[0]))
                self._sock.send(struct.pack("<BH", MTU_RESPONSE, self._max_mtu))
            case code if code in REQUESTS:  # bluetoothd looks for services on the phone too
                self._sock.send(bytes((ERROR, code)) + pdu[1:3] + b"\x0a")
            case _ if self._answer and not self._answer.done():
                self._answer.set_result(pdu)

    def _notified(self, value: bytes) -> None:
        self.notifications.append(value)
        self._news.set()

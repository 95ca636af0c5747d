"""A small SMP client of our own, for tests that need to say exactly what is sent when.

It shares no code with the product: header by struct, bodies by cbor2, console framing by the `smp` package.

    async with udp_client("127.0.0.1", port) as client:
        reply = await client.write(0, 0, {"d": "hello"})
"""

import asyncio
import hashlib
import os
import socket
import struct
import termios
import tty
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cbor2
from smp import packet as console

HEADER = struct.Struct(">BBHHBB")
READ, WRITE = 0, 2
OS, IMAGE = 0, 1
EACCESSDENIED = 11

Reply = dict[str, Any]


class Channel(Protocol):
    """Carries frames to a server and back."""

    async def send(self, frame: bytes) -> None: ...

    async def receive(self) -> bytes: ...

    def close(self) -> None: ...


class UdpChannel:
    """One UDP socket, connected to the server."""

    def __init__(self, host: str, port: int) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._socket.connect(address)

    async def send(self, frame: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, frame)

    async def receive(self) -> bytes:
        while True:
            try:
                return await asyncio.get_running_loop().sock_recv(self._socket, 65536)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)  # nobody there just now; the caller's time-out decides

    def close(self) -> None:
        self._socket.close()


class LineChannel:
    """A tty or pty in console framing."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd, termios.TCSANOW)
        termios.tcflush(self._fd, termios.TCIFLUSH)
        self._text = bytearray()

    async def send(self, frame: bytes) -> None:
        await self.write(b"".join(console.encode(frame, line_length=128)))

    async def send_all(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            await self.send(frame)

    async def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        left = data
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                await self._ready(writing=True)

    async def receive(self) -> bytes:
        decoder = console.decode()
        next(decoder)
        while True:
            line = await self.line()
            if not line.startswith((console.START_DELIMITER, console.CONTINUE_DELIMITER)):
                continue
            try:
                decoder.send(line)
            except StopIteration as done:
                return bytes(done.value)

    async def line(self) -> bytes:
        """Wait for the next line, its newline included."""
        while b"\n" not in self._text:
            await self._more()
        return await self.exactly(self._text.index(b"\n") + 1)

    async def exactly(self, size: int) -> bytes:
        """Wait for that many bytes."""
        while len(self._text) < size:
            await self._more()
        taken = bytes(self._text[:size])
        del self._text[:size]
        return taken

    async def _more(self) -> None:
        try:
            self._text += os.read(self._fd, 4096)
        except BlockingIOError:
            await self._ready(writing=False)

    def close(self) -> None:
        os.close(self._fd)

    async def _ready(self, *, writing: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        (loop.add_writer if writing else loop.add_reader)(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            (loop.remove_writer if writing else loop.remove_reader)(self._fd)


class Client:
    """Sends requests and matches replies by their sequence number."""

    def __init__(self, channel: Channel, *, version: int = 1, timeout_s: float = 10.0, sequence: int = 0) -> None:
        self.channel = channel
        self._version = version
        self._timeout_s = timeout_s
        self.sequence = sequence
        """Number of the last request; where answers to an earlier client may still come, it must go on from there."""

    async def read(self, group: int, command: int, body: Reply | None = None, **options: float) -> Reply:
        return await self._request(READ, group, command, body or {}, **options)

    async def write(self, group: int, command: int, body: Reply, **options: float) -> Reply:
        return await self._request(WRITE, group, command, body, **options)

    async def echo(self, text: str = "hello", **options: float) -> str:
        return str((await self.write(OS, 0, {"d": text}, **options))["r"])

    async def reset(self) -> Reply:
        return await self.write(OS, 5, {})

    async def images(self) -> list[Reply]:
        return list((await self.read(IMAGE, 0))["images"])

    async def mark(self, image_hash: bytes | None, *, confirm: bool) -> Reply:
        """Write the image state: test or confirm."""
        body: Reply = {"confirm": confirm}
        return await self.write(IMAGE, 0, body if image_hash is None else {"hash": image_hash, **body})

    async def begin(self, image: bytes, size: int = 400) -> Reply:
        """Send the first chunk of an upload; an upload of the same image goes on where it was."""
        sha = hashlib.sha256(image).digest()
        return await self.write(IMAGE, 1, {"off": 0, "len": len(image), "sha": sha, "data": image[:size]}, timeout_s=40)

    async def chunk(self, image: bytes, offset: int, size: int = 400) -> Reply:
        """Send the chunk at that offset."""
        return await self.write(IMAGE, 1, {"off": offset, "data": image[offset : offset + size]})

    async def upload(self, image: bytes, size: int = 400) -> AsyncIterator[int]:
        """Upload what the server does not have yet; yield each offset that it answers."""
        reply = await self.begin(image, size)
        while rc(reply) == 0:
            yield reply["off"]
            if reply["off"] >= len(image):
                return
            reply = await self.chunk(image, reply["off"], size)
        raise AssertionError(f"upload refused: {reply}")

    async def _request(self, op: int, group: int, command: int, body: Reply, timeout_s: float | None = None) -> Reply:
        self.sequence = (self.sequence + 1) % 256
        payload = cbor2.dumps(body)
        header = HEADER.pack(self._version << 3 | op, 0, len(payload), group, self.sequence, command)
        async with asyncio.timeout(timeout_s or self._timeout_s):
            await self.channel.send(header + payload)
            while True:
                frame = await self.channel.receive()
                if len(frame) >= HEADER.size and frame[6] == self.sequence:
                    return dict(cbor2.loads(frame[HEADER.size :]))


class Asked(NamedTuple):
    """What a request's header says."""

    op: int
    group: int
    sequence: int
    command: int


def walk(packet: bytes) -> list[Asked]:
    """Return the headers of a packet in order: each lies behind the payload that the one before it promises."""
    found, at = [], 0
    while len(packet) - at >= HEADER.size:
        first, _, length, group, sequence, command = HEADER.unpack_from(packet, at)
        found.append(Asked(first & 7, group, sequence, command))
        at += HEADER.size + length
    return found


def rc(reply: Reply) -> int:
    """Return the error code of a reply, of SMP or of the group; 0 is success."""
    return int(reply.get("err", reply).get("rc", 0))


@asynccontextmanager
async def udp_client(host: str, port: int, **options: Any) -> AsyncIterator[Client]:
    """Connect by UDP."""
    channel = UdpChannel(host, port)
    try:
        yield Client(channel, **options)
    finally:
        channel.close()


@asynccontextmanager
async def line_client(path: Path, **options: Any) -> AsyncIterator[Client]:
    """Connect by a tty or pty."""
    channel = LineChannel(path)
    try:
        yield Client(channel, **options)
    finally:
        channel.close()

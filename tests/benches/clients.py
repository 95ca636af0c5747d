"""A client on asyncio, as people write them: it makes each request when it is its turn, and reads each answer.

Over UDP it goes through asyncio's datagram endpoint, over a pty through a reader on the event loop.
"""

import asyncio
import os
import termios
import time
import tty
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, cast

import cbor2
from smp import packet as console

from tests.benches.channels import ANSWER_S, Exchange, decode_line
from tests.benches.requests import HEADER, TEXT, WRITE, room


class _Ends(Protocol):
    """A way to a server."""

    answers: "asyncio.Queue[bytes]"

    def send(self, request: bytes) -> None: ...

    def close(self) -> None: ...


class _Udp(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.answers.put_nowait(data)

    def send(self, request: bytes) -> None:
        self._transport.sendto(request)

    def close(self) -> None:
        self._transport.close()


class _Pty:
    def __init__(self, path: Path) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd, termios.TCSANOW)
        termios.tcflush(self._fd, termios.TCIOFLUSH)
        self._text = b""
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        *lines, self._text = (self._text + os.read(self._fd, 4096)).split(b"\n")
        for line in lines:
            self.answers.put_nowait(decode_line(line + b"\n"))

    def send(self, request: bytes) -> None:
        left = b"".join(console.encode(request, line_length=127))
        while left:
            left = left[os.write(self._fd, left) :]

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


class _Client:
    """Asks one thing after another, and keeps the answers and how long each took."""

    def __init__(self, ends: _Ends) -> None:
        self._ends = ends
        self._answers: list[bytes] = []
        self._trips_s: list[float] = []

    async def ask(self, group: int, command: int, body: dict[str, object]) -> dict[str, Any]:
        """Return the body of the answer."""
        began = time.perf_counter()
        payload = cbor2.dumps(body)
        sequence = len(self._answers) % 256
        self._ends.send(HEADER.pack(WRITE, 0, len(payload), group, sequence, command) + payload)
        answer = await self._ends.answers.get()
        said: dict[str, Any] = cbor2.loads(answer[HEADER.size :])
        assert answer[6] == sequence, said
        self._answers.append(answer)
        self._trips_s.append(time.perf_counter() - began)
        return said

    async def echo(self, count: int) -> Exchange:
        """Have so many short texts sent back."""
        began = time.perf_counter()
        for _ in range(count):
            assert (await self.ask(0, 0, {"d": TEXT}))["r"] == TEXT
        return Exchange(self._answers, self._trips_s, time.perf_counter() - began)

    async def upload(self, image: bytes, frame: int) -> Exchange:
        """Upload an image in requests of so many bytes, each where the last answer said."""
        began = time.perf_counter()
        off = 0
        while off < len(image):
            body: dict[str, object] = {"off": off}
            if not off:
                body |= {"image": 0, "len": len(image), "sha": sha256(image).digest()}
            body["data"] = image[off : off + room(body, frame)]
            said = await self.ask(1, 1, body)
            assert "off" in said, said
            off = said["off"]
        return Exchange(self._answers, self._trips_s, time.perf_counter() - began)


Work = Callable[[_Client], Awaitable[Exchange]]


def exchange(where: dict[str, Any], work: Work) -> Exchange:
    """Do some work with a client of its own on an event loop of its own; `where` is a transport of the ready line."""

    async def life() -> Exchange:
        async with asyncio.timeout(10 * ANSWER_S):
            ends: _Ends
            if where["transport"] == "udp":
                remote = (where["host"], where["port"])
                _, ends = await asyncio.get_running_loop().create_datagram_endpoint(_Udp, remote_addr=remote)
            else:
                ends = _Pty(Path(where["path"]))
            try:
                return await work(_Client(ends))
            finally:
                ends.close()

    return asyncio.run(life())

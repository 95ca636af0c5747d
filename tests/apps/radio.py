"""A Bluetooth LE connection as a phone has it: writes and notifications of at most MTU - 3 bytes.

phone ─► pieces ─► air ─► put together ─► server         a frame takes its time in the air, one after the other,
phone ◄─ merged ◄─ air ◄─ notifications ◄─ server        and some can get lost
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.loopback import LoopbackClient, LoopbackTransport
from smp_dfu_host.wire.raw import RawFraming
from tests.fakes import BLE

LONGEST = 2508
"""Bytes of the longest reply that Android puts together, its header included."""


@dataclass
class Air:
    """What happens to frames on their way."""

    delay_s: float = 0.0
    """What each frame takes, either way."""
    mtu: int = 498
    lost: set[int] = field(default_factory=set)
    """Numbers of the frames to the server that get lost, counted from 0 over all connections."""
    lost_replies: set[int] = field(default_factory=set)
    """The same of replies."""
    broken_at: int | None = None
    """Number of the frame to the server with which the connection breaks, once; that frame gets lost."""
    sent: list[bytes] = field(default_factory=list)
    """Every frame that the phone sent."""
    received: list[bytes] = field(default_factory=list)
    """Every reply that the server sent."""


class Radio:
    """One connection, from its beginning to the day when either end drops it.

    Args:
        air: What lies between.
        transport: Of the server.
        arrived: Called with each reply that reaches the phone.
        peer: Who the phone is.

    Raises:
        TransportError: While the device cannot be reached.
    """

    def __init__(
        self, air: Air, transport: LoopbackTransport, arrived: Callable[[bytes], None], peer: Peer = BLE
    ) -> None:
        self.dropped = asyncio.Event()
        """Set once the connection is gone."""
        self._air = air
        self._arrived = arrived
        self._client: LoopbackClient = transport.connect(peer)
        self._framing = RawFraming(transport.buf_size, aligned=True)
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    def write(self, frame: bytes) -> None:
        """Send a frame, without a response as all phones do; into a dropped connection it goes unheard."""
        self._outbox.put_nowait(frame)

    async def drop(self) -> None:
        """Lose the connection, with everything that is in the air."""
        self._client.close()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self.dropped.set()

    async def _send(self) -> None:
        while True:
            frame = await self._outbox.get()
            number = len(self._air.sent)
            self._air.sent.append(frame)
            await asyncio.sleep(self._air.delay_s)
            if number == self._air.broken_at:
                self._air.broken_at = None
                self._client.close()
            if number in self._air.lost:
                continue
            with suppress(TransportError):
                for piece in self._pieces(frame):
                    for packet in self._framing.feed(piece):
                        await self._client.send(packet)

    async def _receive(self) -> None:
        with suppress(TransportError):
            while True:
                reply = await self._client.receive()
                number = len(self._air.received)
                self._air.received.append(reply)
                await asyncio.sleep(self._air.delay_s)
                if number not in self._air.lost_replies:
                    self._arrived(merged(self._pieces(reply)))
        self.dropped.set()

    def _pieces(self, frame: bytes) -> list[bytes]:
        return list(self._framing.split(frame, self._air.mtu - 3))


def merged(notifications: list[bytes]) -> bytes:
    """Put a reply together as strictly as Android does."""
    first = notifications[0]
    assert len(first) >= 8, f"first notification of {len(first)} bytes holds no whole header"
    reply = b"".join(notifications)
    size = 8 + int.from_bytes(first[2:4], "big")
    assert len(reply) == size <= LONGEST, f"reply of {len(reply)} bytes, header says {size}, limit is {LONGEST}"
    return reply

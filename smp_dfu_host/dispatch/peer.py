"""Who speaks to us, and the way back to them.

A `Peer` is a value: it names who sent a request and stays the same however often they reconnect. A `Link` is one
connection of a peer: replies go out by the link on which the request came in, so that nothing of an old connection
reaches a new one (zephyr subsys/mgmt/mcumgr/smp/src/smp.c, smp_rx_remove_invalid).
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request."""

    transport: str
    """`ble`, `udp`, `serial` or `local`."""
    address: str
    """How to show the peer to people: `AA:BB:CC:DD:EE:FF`, `127.0.0.1:50123`, `/dev/ttyACM0`."""
    owner: str
    """The stable identity that owns the DFU lock, the same after a reconnection: `ble:AA:BB:CC:DD:EE:FF`,
    `udp:127.0.0.1` (no port), `serial:/dev/ttyACM0`, `local:PID` (nrf-desktop-dfu.md section 3)."""

    def __str__(self) -> str:
        return f"{self.transport} {self.address}"


class Link(Protocol):
    """One connection of a peer; made by a transport, used by the worker to answer."""

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        ...

    @property
    def buf_size(self) -> int:
        """Largest message that this link takes, and the largest that it sends, header included, in bytes."""
        ...

    @property
    def closed(self) -> bool:
        """True once the connection is gone: its queued requests are not served, its replies are dropped."""
        ...

    def send_now(self, message: bytes) -> bool:
        """Send one whole message if nothing must be waited for; False: `send` is to be called with it next.

        Never called while `send` is at work.
        """
        ...

    async def send(self, message: bytes) -> None:
        """Send one whole message; return when the next may follow.

        Raises:
            TransportError: If the link is gone.
        """
        ...


class Inbox(Protocol):
    """What a transport feeds; the worker behind it serves one request after another."""

    def joined(self, link: Link) -> None:
        """Say that a peer has connected (or was heard for the first time)."""
        ...

    def left(self, link: Link) -> None:
        """Say that a link is gone; what it had queued is not served any more."""
        ...

    async def put(self, link: Link, packet: bytes) -> None:
        """Take one packet of whole messages; wait while the queue is full (streams: back-pressure)."""
        ...

    def put_now(self, link: Link, packet: bytes) -> bool:
        """Take one packet if nothing must be waited for; False: `put` is to be called with it next."""
        ...

    def offer(self, link: Link, packet: bytes) -> bool:
        """Take one packet if there is room; False when it was dropped and counted (datagrams)."""
        ...

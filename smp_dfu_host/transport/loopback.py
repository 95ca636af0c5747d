"""A transport inside the process: for tests, and for programs that embed the server.

client = loopback.connect()
reply = await client.request(packet)
"""

import asyncio
import os
from collections.abc import Mapping

from smp_dfu_host.dispatch.peer import Inbox, Peer
from smp_dfu_host.errors import TransportError


class LoopbackClient:
    """The client's end of a connection inside the process.

    Args:
        transport: What it is connected to.
        inbox: Where its packets go.
        peer: Who it says it is.
    """

    def __init__(self, transport: "LoopbackTransport", inbox: Inbox, peer: Peer) -> None:
        self.link = LoopbackLink(peer, transport.buf_size)
        """The server's end."""
        self._transport = transport
        self._inbox = inbox
        inbox.joined(self.link)

    async def send(self, packet: bytes) -> None:
        """Send one packet; wait while the server's queue is full.

        Raises:
            TransportError: If the connection is gone.
        """
        if self.link.closed:
            raise TransportError(f"{self.link.peer}: the link is gone")
        await self._inbox.put(self.link, packet)

    async def receive(self) -> bytes:
        """Wait for the next reply.

        Raises:
            TransportError: If the connection is gone and every reply was taken.
        """
        reply = await self.link.replies.get()
        if reply is None:
            self.link.replies.put_nowait(None)
            raise TransportError(f"{self.link.peer}: the link is gone")
        return reply

    async def request(self, packet: bytes) -> bytes:
        """Send one packet of one request and wait for its reply.

        Raises:
            TransportError: If the connection is gone.
        """
        await self.send(packet)
        return await self.receive()

    def close(self) -> None:
        """Disconnect; can be called twice."""
        self._transport.drop(self)


class LoopbackLink:
    """The server's end of a connection inside the process."""

    def __init__(self, peer: Peer, buf_size: int) -> None:
        self.peer = peer
        """Who connected."""
        self.buf_size = buf_size
        """Largest reply in bytes."""
        self.closed = False
        """True once either end closed it."""
        self.replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        """What was sent and not taken yet; None is the end."""

    def send_now(self, message: bytes) -> bool:
        """Hand over one reply."""
        if not self.closed:
            self.replies.put_nowait(message)
        return not self.closed

    async def send(self, message: bytes) -> None:
        """Hand over one reply.

        Raises:
            TransportError: If the connection is gone.
        """
        if not self.send_now(message):
            raise TransportError(f"{self.peer}: the link is gone")


class LoopbackTransport:
    """Serves clients of the same process.

    Args:
        buf_size: Largest message, header included, in bytes.
    """

    name = "loopback"

    def __init__(self, buf_size: int) -> None:
        self.buf_size = buf_size
        """As given."""
        self._clients: list[LoopbackClient] = []
        self._inbox: Inbox | None = None
        self._online = False

    async def open(self, inbox: Inbox) -> Mapping[str, str | int]:
        """Remember the inbox."""
        self._inbox = inbox
        return {"transport": self.name}

    async def online(self) -> None:
        """Let clients connect from now on."""
        self._online = True

    async def offline(self) -> None:
        """Disconnect every client."""
        self._online = False
        for client in tuple(self._clients):
            self.drop(client)

    async def close(self) -> None:
        """Disconnect every client for good."""
        await self.offline()
        self._inbox = None

    def connect(self, peer: Peer | None = None) -> LoopbackClient:
        """Return the client's end of a new connection; without a peer it is this process.

        Raises:
            TransportError: While the server is not reachable.
        """
        if self._inbox is None or not self._online:
            raise TransportError("loopback: the server is not online")
        process = str(os.getpid())
        client = LoopbackClient(self, self._inbox, peer or Peer("local", process, f"local:{process}"))
        self._clients.append(client)
        return client

    def drop(self, client: LoopbackClient) -> None:
        """End one client's connection; can be called twice."""
        if client in self._clients and self._inbox is not None:
            self._clients.remove(client)
            client.link.closed = True
            client.link.replies.put_nowait(None)
            self._inbox.left(client.link)

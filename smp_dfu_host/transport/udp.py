"""SMP over UDP: one datagram is one packet, each reply is a datagram to the sender's address.

There is no session and no authentication, so a link is no more than an address that was heard lately: it begins with
the first datagram and ends when nothing came for a minute, when too many others are newer, or when the device reboots.
Source: zephyr subsys/mgmt/mcumgr/transport/src/smp_udp.c.
"""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any, cast

from smp_dfu_host.config import UdpConfig
from smp_dfu_host.dispatch.clock import Clock, Timer
from smp_dfu_host.dispatch.peer import Inbox, Peer
from smp_dfu_host.errors import TransportError

log = logging.getLogger(__name__)

Address = tuple[Any, ...]
"""A socket address as recvfrom gives it: host, port, and for IPv6 flow and scope."""

REMEDIES = {
    errno.EADDRINUSE: "the port is in use; stop the other server or choose another port, such as --udp 127.0.0.1:0",
    errno.EACCES: "ports below 1024 need root; choose another, such as --udp 127.0.0.1:1337",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; see `ip address`",
    errno.EAFNOSUPPORT: "this machine has no IPv6; listen on an IPv4 address, such as --udp 127.0.0.1:1337",
}
"""What to do about it when a socket cannot be bound."""


class UdpLink:
    """One source address, from its first datagram until it falls silent."""

    def __init__(self, endpoint: "_Endpoint", address: Address, buf_size: int) -> None:
        self.peer = peer_at(address)
        """Who is there; the lock goes by the address alone, so that a client may change its port."""
        self.buf_size = buf_size
        """Largest reply in bytes; it may be longer than what is taken in, and than the path's MTU."""
        self.closed = False
        """True once the address is forgotten or the device reboots."""
        self.heard_s = 0.0
        """When the last datagram came, by the clock."""
        self.address = address
        """Where replies go."""
        self._endpoint = endpoint

    def send_now(self, message: bytes) -> bool:
        """Send one datagram if the socket takes it."""
        if self.closed or self._endpoint.lost or not self._endpoint.writable.is_set():
            return False
        self._endpoint.socket.sendto(message, self.address)
        return True

    async def send(self, message: bytes) -> None:
        """Send one datagram; return when the socket takes another.

        Raises:
            TransportError: If the address was forgotten or the socket is closed.
        """
        await self._endpoint.writable.wait()
        if self.closed or self._endpoint.lost:
            raise TransportError(f"{self.peer}: the link is gone")
        self._endpoint.socket.sendto(message, self.address)
        await self._endpoint.writable.wait()


class UdpTransport:
    """Serves every peer that sends to one address and port.

    Args:
        config: Where to listen.
        buf_size: Largest message, header included, in bytes.
        clock: Tells the time and calls later; the running loop if None.
        idle_s: A peer that was silent for so long is forgotten, in seconds; far beyond a client's own time-outs.
        max_peers: At most so many addresses are remembered; the one that was silent for longest makes room.
    """

    name = "udp"

    def __init__(
        self, config: UdpConfig, buf_size: int, *, clock: Clock | None = None, idle_s: float = 60.0, max_peers: int = 64
    ) -> None:
        self._config = config
        self._buf_size = buf_size
        self._limit = min(config.mtu, buf_size)
        self._clock = clock
        self._idle_s = idle_s
        self._max_peers = max_peers
        self._links: dict[Address, UdpLink] = {}  # the one that was silent for longest stands first
        self._inbox: Inbox | None = None
        self._endpoint: _Endpoint | None = None
        self._timer: Timer | None = None
        self._online = False

    async def open(self, inbox: Inbox) -> Mapping[str, str | int]:
        """Bind the socket; return the address and port that it got.

        Raises:
            TransportError: If the address is not known or cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._clock = self._clock or loop
        self._inbox = inbox
        bound = await self._bind()
        _, self._endpoint = await loop.create_datagram_endpoint(lambda: _Endpoint(self), sock=bound)
        host, port, *_ = bound.getsockname()
        return {"transport": self.name, "host": host, "port": port}

    async def online(self) -> None:
        """Take datagrams from now on."""
        self._online = True

    async def offline(self) -> None:
        """Forget every peer; the socket stays bound and what it gets is dropped."""
        self._online = False
        for link in tuple(self._links.values()):
            self._forget(link)

    async def close(self) -> None:
        """Close the socket."""
        await self.offline()
        if self._endpoint is not None:
            self._endpoint.socket.close()
            await self._endpoint.gone.wait()
            self._endpoint = None

    def received(self, data: bytes, address: Address) -> None:
        """Take one datagram from the socket."""
        if not self._online or self._inbox is None or self._endpoint is None:
            return
        link = self._links.pop(address, None) or self._join(self._endpoint, self._inbox, address)
        self._links[address] = link
        link.heard_s = self._now()
        self._watch()
        # Zephyr smp_udp.c reads into a buffer of the MTU and never learns what was behind it.
        if not self._inbox.offer(link, data[: self._limit]):
            log.debug("%s: queue full, datagram of %s bytes dropped", link.peer, len(data))

    def _join(self, endpoint: "_Endpoint", inbox: Inbox, address: Address) -> UdpLink:
        if len(self._links) >= self._max_peers:
            self._forget(next(iter(self._links.values())))
        link = UdpLink(endpoint, address, self._buf_size)
        inbox.joined(link)
        return link

    def _forget(self, link: UdpLink) -> None:
        del self._links[link.address]
        link.closed = True
        if self._inbox is not None:
            self._inbox.left(link)
        if not self._links and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Look again when the peer that was silent for longest is due."""
        if self._timer is None and self._links and self._clock is not None:
            due_s = next(iter(self._links.values())).heard_s + self._idle_s - self._now()
            self._timer = self._clock.call_later(max(due_s, 0.0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        limit_s = self._now() - self._idle_s
        for link in [link for link in self._links.values() if link.heard_s <= limit_s]:
            self._forget(link)
        self._watch()

    def _now(self) -> float:
        return self._clock.time() if self._clock is not None else 0.0

    async def _bind(self) -> socket.socket:
        host, port = self._config.host, self._config.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )
        except (socket.gaierror, UnicodeError) as exc:
            raise TransportError(f"{host}: not a known host name or address; try --udp 127.0.0.1:{port}") from exc
        family, kind, protocol, _, address = found[0]
        try:
            return _bound(family, kind, protocol, address)
        except OSError as exc:
            raise TransportError(f"{host}:{port}: {explain(exc)}") from exc


class _Endpoint(asyncio.DatagramProtocol):
    """Asyncio's view of the socket."""

    socket: asyncio.DatagramTransport

    def __init__(self, transport: UdpTransport) -> None:
        self._transport = transport
        self.lost = False
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What asyncio hands over is both of these; its declared types say neither.
        self.socket = cast("asyncio.DatagramTransport", transport)
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=0)
        self.writable.set()

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._transport.received(data, addr)

    def error_received(self, exc: Exception) -> None:
        # A reply that the network refused: UDP promises nothing, and the client asks again.
        log.debug("udp: %s", exc)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            log.error("udp: the socket failed: %s", exc)
        self.lost = True
        self.writable.set()
        self.gone.set()


def peer_at(address: Address) -> Peer:
    """Return the peer of a socket address; an IPv4 address that came in over IPv6 is shown as what it is."""
    host, port = str(address[0]), int(address[1])
    parsed = ipaddress.ip_address(host)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        host = str(parsed.ipv4_mapped)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Peer("udp", shown, f"udp:{host}")


def explain(error: OSError) -> str:
    """Return in words what is wrong with the address, and what to do about it."""
    return REMEDIES.get(error.errno or 0) or os.strerror(error.errno or 0)


def _bound(family: int, kind: int, protocol: int, address: Address) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # `::` serves IPv4 too
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made

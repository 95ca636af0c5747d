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
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

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
        return not self.closed and self._endpoint.send_now(message, self.address)

    async def send(self, message: bytes) -> None:
        """Send one datagram; return when the socket takes another.

        Raises:
            TransportError: If the address was forgotten or the socket is closed.
        """
        while not self.send_now(message):
            if self.closed or self._endpoint.closed:
                raise TransportError(f"{self.peer}: the link is gone")
            await self._endpoint.writable()


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
        # Zephyr smp_udp.c reads into a buffer of the MTU and never learns what was behind it.
        self._endpoint = _Endpoint(bound, min(self._config.mtu, self._buf_size), self.received)
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
            self._endpoint.close()
            self._endpoint = None

    def received(self, data: bytes, address: Address) -> None:
        """Take one datagram from the socket."""
        if not self._online or self._inbox is None or self._endpoint is None or self._clock is None:
            return
        link = self._links.pop(address, None) or self._join(self._endpoint, self._inbox, address)
        self._links[address] = link
        link.heard_s = self._clock.time()
        if self._timer is None:
            self._watch(self._clock)
        self._inbox.offer(link, data)

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

    def _watch(self, clock: Clock) -> None:
        """Look again when the peer that was silent for longest is due."""
        if self._links:
            due_s = next(iter(self._links.values())).heard_s + self._idle_s - clock.time()
            self._timer = clock.call_later(max(due_s, 0.0), partial(self._expire, clock))

    def _expire(self, clock: Clock) -> None:
        self._timer = None
        limit_s = clock.time() - self._idle_s
        for link in [link for link in self._links.values() if link.heard_s <= limit_s]:
            self._forget(link)
        self._watch(clock)

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


class _Endpoint:
    """A bound socket on the event loop.

    asyncio's own datagram transport takes a quarter of a mebibyte for each datagram and calls three times as much.

    Args:
        bound: The socket; it is ours from now on.
        limit: Bytes of a datagram that are taken, those behind them are lost.
        received: Called with each datagram and its sender's address.
    """

    def __init__(self, bound: socket.socket, limit: int, received: Callable[[bytes, Address], None]) -> None:
        self._socket = bound
        self._limit = limit
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] = []
        self.closed = False
        """True once nothing goes through it any more."""
        self._loop.add_reader(bound, self._readable)

    def send_now(self, message: bytes, address: Address) -> bool:
        """Send one datagram if the socket takes it; one that the network refuses is lost, as UDP promises nothing."""
        if self.closed or self._waiters:
            return False
        try:
            self._socket.sendto(message, address)
        except BlockingIOError:
            return False
        except OSError as exc:
            log.debug("udp: %s bytes to %s: %s", len(message), address[0], exc)
        return True

    async def writable(self) -> None:
        """Wait until the socket takes datagrams, or is closed."""
        if self.closed:
            return
        if not self._waiters:
            self._loop.add_writer(self._socket, self._wake)
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def close(self) -> None:
        """Close the socket; who waits for it goes on."""
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._wake()
        self._socket.close()

    def _readable(self) -> None:
        try:
            data, address = self._socket.recvfrom(self._limit)
        except BlockingIOError:
            return
        except OSError as exc:  # what the network says of an earlier reply
            log.debug("udp: %s", exc)
            return
        self._received(data, address)

    def _wake(self) -> None:
        self._loop.remove_writer(self._socket)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


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

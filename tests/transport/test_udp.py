"""UDP over real sockets."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from smp_dfu_host.config import UdpConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.udp import UdpTransport, explain, peer_at
from tests.client import UdpChannel
from tests.fakes import FakeClock
from tests.transport.inbox import RecordingInbox

ECHO = bytes.fromhex("08 00 0003 0000 07 00 a16164")
ANY = UdpConfig(enabled=True, host="127.0.0.1", port=0)


@asynccontextmanager
async def serving(transport: UdpTransport) -> AsyncIterator[tuple[RecordingInbox, str, int]]:
    inbox = RecordingInbox()
    where = await transport.open(inbox)
    await transport.online()
    try:
        yield inbox, str(where["host"]), int(where["port"])
    finally:
        await transport.close()


@contextmanager
def client(host: str, port: int) -> Iterator[UdpChannel]:
    channel = UdpChannel(host, port)
    try:
        yield channel
    finally:
        channel.close()


class FullSocket(socket.socket):
    """A socket whose buffer is full for the first few datagrams; on loopback it never is."""

    refusals = 0

    def sendto(self, *arguments: Any) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return super().sendto(*arguments)


def fill(transport: UdpTransport, refusals: int) -> None:
    """Have the socket refuse so many datagrams."""
    endpoint = transport._endpoint
    assert endpoint is not None
    endpoint._socket = full = FullSocket(fileno=endpoint._socket.detach())
    full.refusals = refusals


async def rounds(count: int = 5) -> None:
    """Let the event loop see what is on its sockets; loopback delivers at once."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_datagram_reaches_the_inbox_and_the_reply_the_sender() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (inbox, host, port), asyncio.timeout(5):
        with client(host, port) as peer:
            await peer.send(ECHO)
            link, packet = await inbox.next()
            await link.send(b"reply")
            assert (packet, await peer.receive()) == (ECHO, b"reply")
            assert link.peer.owner == "udp:127.0.0.1"
            assert link.buf_size == 2475


async def test_each_source_address_is_a_link_of_its_own() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (inbox, host, port):
        with client(host, port) as one, client(host, port) as other:
            links = []
            for peer in (one, other, one):
                await peer.send(ECHO)
                links.append((await inbox.next())[0])
    assert links[0] is links[2]
    assert links[0] is not links[1]
    assert len(inbox.gone) == 2


async def test_reply_longer_than_the_mtu_arrives_whole() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (inbox, host, port), asyncio.timeout(5):
        with client(host, port) as peer:
            await peer.send(ECHO)
            link, _ = await inbox.next()
            await link.send(bytes(2475))
            assert len(await peer.receive()) == 2475


@pytest.mark.parametrize(("buf_size", "sent", "taken"), [(2475, 1500, 1500), (2475, 1501, 1500), (384, 1000, 384)])
async def test_datagram_longer_than_the_buffer_is_cut(buf_size: int, sent: int, taken: int) -> None:
    async with serving(UdpTransport(ANY, buf_size)) as (inbox, host, port):
        with client(host, port) as peer:
            await peer.send(bytes(sent))
            assert len((await inbox.next())[1]) == taken


async def test_nothing_is_taken_before_online_and_while_offline() -> None:
    transport, inbox = UdpTransport(ANY, 2475), RecordingInbox()
    where = await transport.open(inbox)
    with client(str(where["host"]), int(where["port"])) as peer:
        await peer.send(b"too early")
        await rounds()
        await transport.online()
        await peer.send(b"before")
        link, first = await inbox.next()
        await transport.offline()
        await peer.send(b"while away")
        await rounds()
        await transport.online()
        await peer.send(b"after")
        assert (first, (await inbox.next())[1]) == (b"before", b"after")
        assert inbox.gone == [link]
        with pytest.raises(TransportError, match="gone"):
            await link.send(b"late reply")
    await transport.close()


async def test_silent_peer_is_forgotten_and_an_active_one_is_not() -> None:
    clock = FakeClock()
    async with serving(UdpTransport(ANY, 2475, clock=clock, idle_s=60)) as (inbox, host, port):
        with client(host, port) as silent, client(host, port) as active:
            await silent.send(ECHO)
            gone, _ = await inbox.next()
            await active.send(ECHO)
            kept, _ = await inbox.next()
            clock.advance(40)
            await active.send(ECHO)
            await inbox.next()
            clock.advance(30)
            assert (inbox.gone, inbox.present) == ([gone], [kept])
            clock.advance(60)
            assert inbox.present == []


async def test_one_peer_too_many_pushes_out_the_most_silent() -> None:
    async with serving(UdpTransport(ANY, 2475, max_peers=2)) as (inbox, host, port):
        with client(host, port) as one, client(host, port) as two, client(host, port) as three:
            links = []
            for peer in (one, two, one, three):
                await peer.send(ECHO)
                links.append((await inbox.next())[0])
            assert inbox.gone == [links[1]]


async def test_full_queue_drops_the_datagram_only() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (inbox, host, port):
        with client(host, port) as peer:
            inbox.room.clear()
            await peer.send(b"dropped")
            await rounds()
            inbox.room.set()
            await peer.send(b"taken")
            assert (await inbox.next())[1] == b"taken"


async def test_send_to_a_client_that_is_gone_harms_nobody() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (inbox, host, port), asyncio.timeout(5):
        with client(host, port) as gone:
            await gone.send(ECHO)
            link, _ = await inbox.next()
        await link.send(b"to nobody")
        with client(host, port) as peer:
            await peer.send(ECHO)
            link, _ = await inbox.next()
            await link.send(b"reply")
            assert await peer.receive() == b"reply"


async def test_send_waits_while_the_socket_is_full() -> None:
    transport = UdpTransport(ANY, 2475)
    async with serving(transport) as (inbox, host, port), asyncio.timeout(5):
        with client(host, port) as peer:
            await peer.send(ECHO)
            link, _ = await inbox.next()
            fill(transport, 2)
            assert not link.send_now(b"reply")
            sending = asyncio.create_task(link.send(b"reply"))
            await rounds(1)
            assert not sending.done()
            await sending
            assert await peer.receive() == b"reply"


async def test_send_that_waits_is_told_when_the_socket_is_closed() -> None:
    transport = UdpTransport(ANY, 2475)
    async with serving(transport) as (inbox, host, port), asyncio.timeout(5):
        with client(host, port) as peer:
            await peer.send(ECHO)
            link, _ = await inbox.next()
            fill(transport, 1000)
            sending = asyncio.create_task(link.send(b"reply"))
            await rounds(1)
            await transport.close()
            with pytest.raises(TransportError, match="gone"):
                await sending


async def test_close_twice_is_harmless_and_frees_the_port() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (_, host, port):
        pass
    again = UdpTransport(UdpConfig(True, host, port), 2475)
    async with serving(again) as (_, _, got):
        assert got == port
    await again.close()


async def test_port_in_use_says_which_and_what_to_do() -> None:
    async with serving(UdpTransport(ANY, 2475)) as (_, _, port):
        second = UdpTransport(UdpConfig(True, "127.0.0.1", port), 2475)
        with pytest.raises(TransportError, match=rf"^127\.0\.0\.1:{port}: the port is in use.*--udp 127\.0\.0\.1:0"):
            await second.open(RecordingInbox())
        await second.close()


@pytest.mark.parametrize(
    ("host", "words"),
    [("no.such.host.invalid", "not a known host"), ("192.0.2.1", "no interface"), ("a..b", "not a known")],
)
async def test_bad_address_is_explained(host: str, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        await UdpTransport(UdpConfig(True, host, 0), 2475).open(RecordingInbox())


def test_low_port_is_explained() -> None:
    assert "1024" in explain(OSError(errno.EACCES, ""))
    assert explain(OSError(errno.EIO, "")) == "Input/output error"


def test_owner_is_the_address_without_the_port() -> None:
    assert peer_at(("::ffff:192.0.2.7", 5000, 0, 0)).owner == "udp:192.0.2.7"
    assert str(peer_at(("2001:db8::1", 5000, 0, 0))) == "udp [2001:db8::1]:5000"
    assert peer_at(("fe80::1%eth0", 5000, 0, 2)).owner == "udp:fe80::1%eth0"


def ipv6_is_there() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6_is_there(), reason="this machine has no IPv6")
async def test_wildcard_serves_both_families() -> None:
    async with serving(UdpTransport(UdpConfig(True, "::", 0), 2475)) as (inbox, _, port), asyncio.timeout(5):
        owners = []
        for host in ("::1", "127.0.0.1"):
            with client(host, port) as peer:
                await peer.send(ECHO)
                link, _ = await inbox.next()
                await link.send(b"reply")
                assert await peer.receive() == b"reply"
                owners.append(link.peer.owner)
        assert owners == ["udp:::1", "udp:127.0.0.1"]

"""The transport inside the process."""

import asyncio
import os

import pytest

from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.loopback import LoopbackTransport
from tests.transport.inbox import RecordingInbox


async def opened() -> tuple[LoopbackTransport, RecordingInbox]:
    transport, inbox = LoopbackTransport(2475), RecordingInbox()
    assert await transport.open(inbox) == {"transport": "loopback"}
    await transport.online()
    return transport, inbox


async def test_request_reaches_the_inbox_and_the_reply_comes_back() -> None:
    transport, inbox = await opened()
    asking = asyncio.create_task(transport.connect().request(b"request"))
    link, packet = await inbox.next()
    await link.send(b"reply")
    assert (packet, await asking) == (b"request", b"reply")
    assert (link.peer.owner, link.buf_size) == (f"local:{os.getpid()}", 2475)


async def test_replies_in_flight_are_taken_before_the_end_is_told() -> None:
    transport, inbox = await opened()
    client = transport.connect(Peer("local", "test", "local:test"))
    await client.link.send(b"last words")
    client.close()
    client.close()
    assert await client.receive() == b"last words"
    for _ in range(2):
        with pytest.raises(TransportError, match="gone"):
            await client.receive()
    assert inbox.gone == [client.link]


async def test_offline_drops_every_client() -> None:
    transport, inbox = await opened()
    clients = [transport.connect() for _ in range(3)]
    await transport.offline()
    assert inbox.gone == [client.link for client in clients]
    for client in clients:
        with pytest.raises(TransportError):
            await client.send(b"request")
        with pytest.raises(TransportError):
            await client.link.send(b"reply")
    with pytest.raises(TransportError, match="not online"):
        transport.connect()


async def test_close_can_be_called_twice() -> None:
    transport, inbox = await opened()
    transport.connect()
    await transport.close()
    await transport.close()
    assert len(inbox.gone) == 1

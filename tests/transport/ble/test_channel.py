import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.channel import Channel


class Ends:
    """A channel and the end that bluetoothd would have."""

    def __init__(self) -> None:
        self.ended: list[Channel] = []
        self.channel = Channel(self.ended.append)
        self.theirs = socket.socket(fileno=os.dup(self.channel.theirs.fileno()))
        self.channel.passed()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.channel.close()
    made.theirs.close()


async def test_every_value_is_a_packet(ends: Ends) -> None:
    await ends.channel.send(b"one")
    await ends.channel.send(b"two")
    assert [ends.theirs.recv(100), ends.theirs.recv(100)] == [b"one", b"two"]


async def test_a_full_socket_makes_the_sender_wait_and_loses_nothing(ends: Ends) -> None:
    sent = [number.to_bytes(4) * 100 for number in range(1000)]

    async def send() -> None:
        for value in sent:
            await ends.channel.send(value)

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    assert not sending.done()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        assert [await loop.sock_recv(ends.theirs, 1000) for _ in sent] == sent
        await sending


async def test_what_is_sent_now_is_sent_whole_or_not_at_all(ends: Ends) -> None:
    sent = 0
    while ends.channel.send_now(bytes(400)):
        sent += 1
    for _ in range(sent):
        assert ends.theirs.recv(1000) == bytes(400)
    with pytest.raises(BlockingIOError):
        ends.theirs.recv(1000, socket.MSG_DONTWAIT)
    ends.theirs.close()
    assert not ends.channel.send_now(b"late")
    ends.channel.close()
    assert not ends.channel.send_now(b"later")


async def test_the_end_of_the_other_side_is_noticed(ends: Ends) -> None:
    ends.theirs.close()
    async with asyncio.timeout(5):
        while not ends.ended:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert ends.ended == [ends.channel]
    with pytest.raises(TransportError):
        await ends.channel.send(b"late")


async def test_what_the_other_side_says_is_ignored(ends: Ends) -> None:
    ends.theirs.send(b"\x01")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await ends.channel.send(b"still there")
    assert ends.ended == []


async def test_close_ends_the_wait_of_a_sender_and_can_be_called_twice(ends: Ends) -> None:
    async def send() -> None:
        while True:
            await ends.channel.send(bytes(500))

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    ends.channel.close()
    ends.channel.close()
    with pytest.raises(TransportError, match="closed"):
        await sending
    assert ends.ended == []


async def test_a_sender_that_is_too_late_to_notice_gets_an_error(ends: Ends) -> None:
    ends.theirs.close()
    with pytest.raises(TransportError, match="not taken"):
        await ends.channel.send(b"lost")

"""Several centrals over the real BlueZ: each gets its own replies and nobody else's.

BlueZ 5.76 and later directs a notification to one central; before, every one reaches all that are subscribed, so that
only one central is let in at a time.

The echoes are run by `scripts/ble-vm --bluez 5.82 --timeout 7200 -- .venv/bin/python -u -m pytest -s -m soak
tests/ble/test_peers.py`; SOAK_ECHOES says how many for each central, 10,000 unless set.
"""

import asyncio
import logging
import os
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smp_dfu_host.transport.ble import BleTransport
from tests.ble import mgmt
from tests.ble.conftest import CENTRAL, DUMMY, HELLO, SECOND, SERVER, EchoInbox, directed, message
from tests.ble.raw_central import RawCentral

pytestmark = pytest.mark.ble

EMULATED_S = 30.0
ECHOES = int(os.environ.get("SOAK_ECHOES", "10000"))
WINDOW = 8
"""Echoes of one central that are under way at once."""


@pytest.fixture
async def many() -> None:
    if not await directed():
        pytest.skip("needs BlueZ 5.76: before, every notification reaches every central")


@asynccontextmanager
async def beside(server: int = SERVER, second: int = SECOND, dummy: int = DUMMY) -> AsyncIterator[RawCentral]:
    """Connect a second central.

    A virtual controller numbers its connections from the same handle on, and both ends use the caller's: a first
    connection to somewhere else keeps the second central's apart from the first one's.
    """
    for setting in (mgmt.SET_CONNECTABLE, mgmt.SET_ADVERTISING):
        await asyncio.to_thread(mgmt.switch, dummy, setting, on=True)
    async with await RawCentral(second).connect(dummy), await RawCentral(second).connect(server) as central:
        yield central


async def test_a_second_central_waits_until_the_first_has_left(transport: BleTransport, inbox: EchoInbox) -> None:
    if await directed():
        pytest.skip("this BlueZ tells centrals apart")
    async with await RawCentral(CENTRAL).connect(SERVER) as first:
        await first.setup()
        await is_kept_out()
        await is_served(first)
    await inbox.until(lambda: not inbox.present)
    async with await RawCentral(SECOND).connect(SERVER) as second:
        await second.setup()
        await is_served(second)


@pytest.mark.usefixtures("many")
async def test_two_centrals_at_once_get_their_own_replies(transport: BleTransport) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as first, beside() as second:
        await first.setup()
        await second.setup()
        for at in range(0, 2000, 100):  # pieces of two messages, in turns
            await asyncio.gather(*(each.write(piece(at, mark)) for each, mark in ((first, b"a"), (second, b"b"))))
        for each, mark in ((first, b"a"), (second, b"b")):
            assert await each.received(2000) == b"".join(piece(at, mark) for at in range(0, 2000, 100))


def piece(at: int, mark: bytes) -> bytes:
    return message(mark * 1992)[at : at + 100]


@pytest.mark.usefixtures("many")
async def test_nobody_gets_in_beside_a_bonded_central_that_came_back(transport: BleTransport, inbox: EchoInbox) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as first:
        await first.setup()
    await inbox.until(lambda: not inbox.present)
    async with await RawCentral(CENTRAL).connect(SERVER) as first:
        await first.exchange_mtu()
        await first.discover()
        await first.secure()
        await is_served(first)
        await is_kept_out()
        await is_served(first)
        await first.subscribe(0)
        await first.subscribe(1)  # brings a socket
        await is_served(first)
        async with beside() as second:
            await second.setup()
            await is_served(second)
            await is_served(first)


class TestUnbonded:
    @pytest.fixture
    def security(self) -> str:
        return "none"

    @pytest.mark.usefixtures("many")
    async def test_a_central_whose_socket_another_one_took_along_is_still_answered(
        self, transport: BleTransport, inbox: EchoInbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """BlueZ issue 1452: who leaves unbonded has the first central's socket closed."""
        caplog.set_level(logging.INFO)
        async with await RawCentral(CENTRAL).connect(SERVER) as first:
            await first.setup(secure=False)
            await is_served(first)
            async with beside() as second:
                await second.setup(secure=False)
                await is_served(second)
            await inbox.until(lambda: len(inbox.present) == 1)
            await is_served(first)
            assert "bluetoothd has closed its notification socket" in caplog.text

    @pytest.mark.usefixtures("many")
    async def test_a_central_without_a_socket_is_disconnected_beside_another(
        self, transport: BleTransport, inbox: EchoInbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its reply would go to both."""
        async with await RawCentral(CENTRAL).connect(SERVER) as first:
            await first.setup(secure=False)
            async with beside() as second:
                await second.setup(secure=False)
            await inbox.until(lambda: len(inbox.present) == 1)  # it took the first one's socket along
            async with beside() as second:
                await second.setup(secure=False)
                await first.send(message(b"first"))
                async with asyncio.timeout(EMULATED_S):
                    await first.closed.wait()
                assert first.notifications == second.notifications == []
                await is_served(second)
        assert "it has no notification socket, and the other centrals would hear its replies" in caplog.text


@pytest.mark.soak
@pytest.mark.usefixtures("many")
async def test_the_echoes_of_each_of_two_centrals_are_their_own(transport: BleTransport) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as first, beside() as second:
        await first.setup()
        await second.setup()
        began = time.monotonic()
        mixed_up = sum(await asyncio.gather(echoes(first, b"first"), echoes(second, b"second")))
    print(f"{ECHOES} echoes of each of two centrals, {mixed_up} mixed up, {time.monotonic() - began:.0f} s")
    assert mixed_up == 0


async def echoes(central: RawCentral, mark: bytes) -> int:
    """Send messages that bear the central's mark and a number; return how many replies are others."""
    room = asyncio.Semaphore(WINDOW)
    sent = [message(mark + struct.pack(">I", number), number % 256) for number in range(ECHOES)]

    async def send() -> None:
        for one in sent:
            await room.acquire()
            await central.write(one)

    sending = asyncio.create_task(send())
    for number in range(ECHOES):
        await central.received_count(number + 1)
        room.release()
        if (number + 1) % 1000 == 0:
            print(f"{mark.decode()}: {number + 1} echoes", flush=True)
    await sending
    assert len(central.notifications) == ECHOES
    return sum(one != expected for one, expected in zip(central.notifications, sent, strict=True))


async def is_served(central: RawCentral) -> None:
    central.notifications.clear()
    await central.send(HELLO)
    assert await central.received(len(HELLO), EMULATED_S) == HELLO


async def is_kept_out() -> None:
    with pytest.raises(TimeoutError):
        await RawCentral(SECOND).connect(SERVER, timeout_s=2)

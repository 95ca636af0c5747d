"""Bursts over the real BlueZ: everything arrives, whole and in order, with the settings that the distribution ships."""

import asyncio
import struct

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.main_conf import ONE_CHANNEL
from tests.ble.conftest import CENTRAL, HELLO, NAME, SERVER, Daemon, EchoInbox, forget_devices, message, version
from tests.ble.raw_central import RawCentral

pytestmark = pytest.mark.ble

SIZES = pytest.mark.parametrize("size", [20, 244, 495])
WRITES, NOTIFICATIONS = 2000, 500
EMULATED_S = 120.0
"""Until a burst has gone through the emulated processor."""


def numbered(count: int, size: int) -> list[bytes]:
    """Messages of that size, each with its number in it."""
    return [message(struct.pack(">I", number).ljust(size - 8, b"\0"), number % 256) for number in range(count)]


@SIZES
async def test_2000_write_commands_arrive_in_order(transport: BleTransport, inbox: EchoInbox, size: int) -> None:
    inbox.echoing = False
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        await written_in_order(central, inbox, size)


async def written_in_order(central: RawCentral, inbox: EchoInbox, size: int) -> None:
    sent = numbered(WRITES, size)
    for one in sent:
        await central.write(one)
    await inbox.received(len(sent))
    assert [packet for _, packet in inbox.packets] == sent


@SIZES
async def test_500_notifications_arrive_in_order(transport: BleTransport, inbox: EchoInbox, size: int) -> None:
    inbox.echoing = False
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        await inbox.received(1)
        await notified_in_order(central, inbox.present[0], size)


@SIZES
async def test_500_notifications_arrive_at_a_bonded_central_that_came_back(
    transport: BleTransport, inbox: EchoInbox, size: int
) -> None:
    """It opens no socket: they go by PropertiesChanged."""
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
    await inbox.until(lambda: not inbox.present)
    inbox.echoing = False
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.exchange_mtu()
        await central.discover()
        await central.secure()
        await central.send(HELLO)
        await inbox.received(1)
        await notified_in_order(central, inbox.present[0], size)


async def notified_in_order(central: RawCentral, link: Link, size: int) -> None:
    sent = numbered(NOTIFICATIONS, size)
    for one in sent:
        await link.send(one)
    await central.received(len(sent) * size, EMULATED_S)
    assert central.notifications == sent


async def test_replies_that_are_sent_at_once_stay_whole(transport: BleTransport, inbox: EchoInbox) -> None:
    """No fragments of two replies among each other; the header whole in the first notification of each."""
    inbox.echoing = False
    sent = [message(bytes([number]) * (37 * number), number) for number in range(67)]
    async with await RawCentral(CENTRAL, 247).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        await inbox.received(1)
        await asyncio.gather(*map(inbox.present[0].send, sent))
        await central.received(sum(map(len, sent)), EMULATED_S)
        pieces = iter(central.notifications)
        for one in sent:
            piece = next(pieces)
            assert len(piece) >= min(8, len(one))
            while len(piece) < len(one):
                piece += next(pieces)
            assert piece == one


async def test_with_the_main_conf_of_the_distribution_nothing_is_reordered(
    inbox: EchoInbox, bluetoothd: Daemon
) -> None:
    """BlueZ 5.66 ships three ATT channels a connection, 5.82 one: the first is refused, the second serves."""
    await forget_devices()
    ours = await bluetoothd.restart(bluetoothd.shipped_conf)
    transport = BleTransport(BleConfig(enabled=True), NAME, 2475)
    try:
        if await version() < ONE_CHANNEL:
            with pytest.raises(TransportError, match=rf"`Channels = 1` under \[GATT\] in {bluetoothd.shipped_conf}"):
                await transport.open(inbox)
            return
        await transport.open(inbox)
        await transport.online()
        inbox.echoing = False
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.setup()
            await written_in_order(central, inbox, 244)
    finally:
        await transport.close()
        await bluetoothd.restart(ours)

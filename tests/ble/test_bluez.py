"""The transport over the real BlueZ, seen by a central that speaks ATT itself."""

import asyncio
import struct

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.bluez_bus import Bus
from smp_dfu_host.transport.ble.bluez_version import DIRECTED, bluez_version
from smp_dfu_host.transport.ble.link import fragment_size
from tests.ble.conftest import CENTRAL, DUMMY, NAME, SECOND, SERVER, Daemon, EchoInbox, adapter, eventually, objects
from tests.ble.raw_central import MEDIUM, AttError, RawCentral, shown

pytestmark = pytest.mark.ble

HELLO = bytes.fromhex("00 00 0001 0000 ff 06 a0")
BACK_S = 2.0
"""The target must be connectable again within so long after its links fell."""


def message(payload: bytes, sequence: int = 0) -> bytes:
    return struct.pack(">BBHHBB", 2, 0, len(payload), 0, sequence, 0) + payload


async def test_a_central_pairs_subscribes_and_is_answered(transport: BleTransport, inbox: EchoInbox) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO
        assert central.security >= MEDIUM
        assert inbox.packets[0][0].peer.owner == f"ble:{shown(CENTRAL)}"
        device = (await objects())[f"/org/bluez/hci0/dev_{shown(CENTRAL).replace(':', '_')}"]["org.bluez.Device1"]
        assert device["Bonded"]


async def test_an_unencrypted_central_cannot_subscribe_or_write(transport: BleTransport, inbox: EchoInbox) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.discover()
        await central.write(HELLO)
        with pytest.raises(AttError) as refused:
            await central.subscribe()
        assert refused.value.code == 0x0F  # insufficient encryption: this makes a phone pair
        await central.secure()
        await central.subscribe()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO
        assert len(inbox.packets) == 1


@pytest.mark.parametrize("mtu", [23, 247, 517])
async def test_messages_are_cut_to_what_the_mtu_carries(transport: BleTransport, mtu: int) -> None:
    sent = message(bytes(range(256)) * (8 if mtu > 100 else 1))
    async with await RawCentral(CENTRAL, mtu).connect(SERVER) as central:
        await central.setup()
        assert central.mtu == mtu
        await central.send(sent)
        assert await central.received(len(sent)) == sent
        sizes = [len(value) for value in central.notifications]
        assert set(sizes[:-1]) == {fragment_size(mtu, 512)}


async def test_500_notifications_in_a_row_arrive_in_order(transport: BleTransport, inbox: EchoInbox) -> None:
    inbox.echoing = False
    sent = [message(struct.pack(">I", number)) for number in range(500)]
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        for one in sent:
            await inbox.present[0].send(one)
        assert await central.received(len(sent) * len(sent[0]), 60) == b"".join(sent)


async def test_2000_write_commands_in_a_row_arrive_in_order(transport: BleTransport, inbox: EchoInbox) -> None:
    inbox.echoing = False
    sent = [message(struct.pack(">I", number)) for number in range(2000)]
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        for one in sent:
            await central.write(one)
        await inbox.received(len(sent))
        assert [packet for _, packet in inbox.packets] == sent


async def test_what_is_longer_than_bluez_takes_is_not_provoked(transport: BleTransport, inbox: EchoInbox) -> None:
    """A client that is told so writes no command of 511 bytes and more, which BlueZ would lose."""
    async with await RawCentral(CENTRAL, 517).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        await central.received(len(HELLO))
        limit = inbox.present[0].buf_size
        assert limit in (510, 512)
        longest = message(bytes(limit - 8))
        central.notifications.clear()
        await central.write(longest)
        assert await central.received(limit) == longest


async def test_a_disconnection_is_noticed_and_ends_what_was_under_way(
    transport: BleTransport, inbox: EchoInbox
) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        await central.received(len(HELLO))
        await central.write(HELLO[:-1])
    await inbox.until(lambda: not inbox.present)
    link = inbox.packets[0][0]
    assert link.closed
    with pytest.raises(TransportError):
        await link.send(HELLO)
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.discover()
        await central.secure()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO


async def test_a_bonded_central_that_comes_back_is_answered_though_it_opens_no_socket(
    transport: BleTransport, inbox: EchoInbox
) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
    await inbox.until(lambda: not inbox.present)
    inbox.echoing = False
    sent = [message(struct.pack(">I", number)) for number in range(500)]
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.exchange_mtu()
        await central.discover()
        await central.secure()
        await central.send(HELLO)
        await inbox.until(lambda: len(inbox.packets) == 1)
        for one in sent:
            await inbox.packets[0][0].send(one)
        assert await central.received(len(sent) * len(sent[0]), 60) == b"".join(sent)


async def test_offline_drops_the_link_and_online_brings_the_same_handles(
    transport: BleTransport, inbox: EchoInbox
) -> None:
    loop = asyncio.get_running_loop()
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        handles = await central.discover()
        async with asyncio.timeout(4):
            await transport.offline()
        assert not inbox.present
        async with asyncio.timeout(1):
            await central.closed.wait()
    fallen = loop.time()
    await transport.online()
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        assert loop.time() - fallen < BACK_S
        assert await central.discover() == handles
        await central.setup()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO


async def test_nobody_can_connect_while_offline(transport: BleTransport, inbox: EchoInbox) -> None:
    await transport.offline()
    with pytest.raises(TimeoutError):
        await RawCentral(CENTRAL).connect(SERVER, timeout_s=2)
    assert not inbox.present


async def test_a_restart_of_bluetoothd_is_survived(
    transport: BleTransport, inbox: EchoInbox, bluetoothd: Daemon
) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        handles = await central.discover()
    bluetoothd.stop()
    await inbox.until(lambda: not inbox.present)
    bluetoothd.start()

    async def advertising() -> bool:
        return (await adapter("org.bluez.LEAdvertisingManager1")).get("ActiveInstances") == 1

    await eventually(advertising)
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        assert await central.discover() == handles
        await central.setup()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO


async def test_an_adapter_that_is_turned_off_and_on_serves_as_before(transport: BleTransport, inbox: EchoInbox) -> None:
    await set_powered(on=False)
    await set_powered(on=True)
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO


async def test_close_leaves_the_adapter_as_it_was_and_can_be_called_twice(inbox: EchoInbox) -> None:
    before = (await objects())["/org/bluez/hci0"]
    transport = BleTransport(BleConfig(enabled=True), NAME, 2475)
    ready = await transport.open(inbox)
    assert ready == {"adapter": "hci0", "address": shown(SERVER)}
    await transport.online()
    during = (await objects())["/org/bluez/hci0"]
    assert during["org.bluez.Adapter1"]["Alias"] == NAME
    await transport.close()
    await transport.close()
    assert (await objects())["/org/bluez/hci0"] == before


async def test_a_second_central_waits_until_the_first_has_left(transport: BleTransport, inbox: EchoInbox) -> None:
    """Before BlueZ 5.76 every notification reaches every central."""
    if await directed():
        pytest.skip("this BlueZ tells centrals apart")
    async with await RawCentral(CENTRAL).connect(SERVER) as first:
        await first.setup()
        with pytest.raises(TimeoutError):
            await RawCentral(SECOND).connect(SERVER, timeout_s=2)
        await first.send(HELLO)
        assert await first.received(len(HELLO)) == HELLO
    await inbox.until(lambda: not inbox.present)
    async with await RawCentral(SECOND).connect(SERVER) as second:
        await second.setup()
        await second.send(HELLO)
        assert await second.received(len(HELLO)) == HELLO


async def test_two_centrals_at_once_get_their_own_replies(transport: BleTransport, inbox: EchoInbox) -> None:
    if not await directed():
        pytest.skip("needs BlueZ 5.76: before, every notification reaches every central")
    await advertise(DUMMY)
    async with (
        await RawCentral(CENTRAL).connect(SERVER) as first,
        # A virtual controller numbers its connections from the same handle on, and both ends use the caller's: a first
        # connection to somewhere else keeps the second central's apart from the first one's.
        await RawCentral(SECOND).connect(DUMMY),
        await RawCentral(SECOND).connect(SERVER) as second,
    ):
        await first.setup()
        await second.setup()
        for at in range(0, 2000, 100):  # pieces of two messages, in turns
            await asyncio.gather(*(each.write(piece(at, mark)) for each, mark in ((first, b"a"), (second, b"b"))))
        for each, mark in ((first, b"a"), (second, b"b")):
            assert await each.received(2000) == b"".join(piece(at, mark) for at in range(0, 2000, 100))


def piece(at: int, mark: bytes) -> bytes:
    return message(mark * 1992)[at : at + 100]


async def directed() -> bool:
    bus = await Bus.open()
    try:
        version = await bluez_version(bus)
    finally:
        await bus.close()
    return version is not None and version >= DIRECTED


async def advertise(controller: int) -> None:
    """Have a controller be connectable that nobody serves."""
    for setting in ("connectable", "advertising"):
        process = await asyncio.create_subprocess_exec("btmgmt", "--index", str(controller), setting, "on")
        await process.wait()


class TestWithoutSecurity:
    @pytest.fixture
    def security(self) -> str:
        return "none"

    async def test_a_central_is_answered_without_pairing(
        self, transport: BleTransport, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.setup(secure=False)
            await central.send(HELLO)
            assert await central.received(len(HELLO)) == HELLO
            assert central.security < MEDIUM


class TestWhatIsMissing:
    async def test_an_adapter_that_is_not_there_is_named_with_those_that_are(self, inbox: EchoInbox) -> None:
        transport = BleTransport(BleConfig(enabled=True, adapter="hci9"), NAME, 2475)
        with pytest.raises(TransportError, match=r"^no Bluetooth adapter hci9; there is hci0, hci1"):
            await transport.open(inbox)
        await transport.close()

    async def test_an_adapter_that_is_off_is_told_how_to_turn_on(self, inbox: EchoInbox) -> None:
        await set_powered(on=False)
        try:
            transport = BleTransport(BleConfig(enabled=True), NAME, 2475)
            with pytest.raises(TransportError, match=r"^Bluetooth adapter hci0 is off; turn it on: "):
                await transport.open(inbox)
        finally:
            await set_powered(on=True)

    async def test_bluetoothd_that_does_not_run_is_told_how_to_start(
        self, inbox: EchoInbox, bluetoothd: Daemon
    ) -> None:
        bluetoothd.stop()
        try:
            with pytest.raises(TransportError, match=r"^bluetoothd is not running; start it: "):
                await BleTransport(BleConfig(enabled=True), NAME, 2475).open(inbox)
        finally:
            bluetoothd.start()
            await eventually(adapter_is_back)


async def set_powered(*, on: bool) -> None:
    process = await asyncio.create_subprocess_exec("btmgmt", "--index", "0", "power", "on" if on else "off")
    await process.wait()

    async def settled() -> bool:
        return (await adapter("org.bluez.Adapter1")).get("Powered") is on

    await eventually(settled)


async def adapter_is_back() -> bool:
    serves = "ActiveInstances" in await adapter("org.bluez.LEAdvertisingManager1")
    return serves and bool((await adapter("org.bluez.Adapter1")).get("Powered"))

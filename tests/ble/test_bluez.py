"""The transport over the real BlueZ, seen by a central that speaks ATT itself."""

import asyncio

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.link import fragment_size
from tests.ble.conftest import (
    CENTRAL,
    HELLO,
    NAME,
    SERVER,
    Daemon,
    EchoInbox,
    adapter,
    adapter_is_back,
    eventually,
    message,
    objects,
    set_powered,
)
from tests.ble.raw_central import MEDIUM, AttError, RawCentral, shown

pytestmark = pytest.mark.ble

BACK_S = 2.0
"""The target must be connectable again within so long after its links fell."""


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
            transport = BleTransport(BleConfig(enabled=True, adapter="hci0"), NAME, 2475)
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

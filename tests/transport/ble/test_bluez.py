"""The transport over D-Bus, against a bluetoothd of our own on a private bus."""

import asyncio

import pytest
from dbus_next.message import Message
from dbus_next.signature import Variant

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.bluez_bus import Bus
from smp_dfu_host.transport.ble.bluez_devices import DEVICE, PROPERTIES
from tests.transport.ble.bluetoothd import CHARACTERISTIC, Bluetoothd
from tests.transport.ble.rig import HELLO, Rig, at_end, message, until
from tests.transport.inbox import RecordingInbox


async def test_open_registers_the_service_and_says_where_it_is(rig: Rig) -> None:
    assert await rig.transport.open(rig.inbox) == {"adapter": "hci0", "address": "AA:BB:CC:00:00:00"}
    service, characteristic = "/org/smp_dfu_host/service0001", "/org/smp_dfu_host/service0001/char0001"
    assert rig.daemon.application[service]["org.bluez.GattService1"] == {
        "UUID": "8d53dc1d-1db7-4cd3-868b-8a527460aa84",
        "Primary": True,
        "Handle": 0x100,
    }
    assert rig.daemon.application[characteristic][CHARACTERISTIC] == {
        "UUID": "da2e7828-fbce-4e01-ae9e-261174997c48",
        "Service": service,
        "Flags": ["write-without-response", "encrypt-write", "notify", "encrypt-notify"],
        "Value": b"",
        "Notifying": True,  # bless says so of every characteristic that can; BlueZ does not look
        "NotifyAcquired": False,
        "Handle": 0x102,
    }
    assert rig.daemon.advertisement == {}
    assert rig.daemon.agents.agent


async def test_online_advertises_name_and_service_and_offline_stops(rig: Rig) -> None:
    await rig.online()
    assert rig.daemon.advertisement == {
        "Type": "peripheral",
        "LocalName": "Näme",
        "ServiceUUIDs": ["8d53dc1d-1db7-4cd3-868b-8a527460aa84"],
        "Discoverable": True,
        "ManufacturerData": {},
        "ServiceData": {},
        "MinInterval": 30,
        "MaxInterval": 60,
    }
    assert rig.daemon.adapter.alias == "Näme"
    await rig.transport.offline()
    assert rig.daemon.advertisement == {}
    assert rig.daemon.application
    await rig.transport.online()
    assert rig.daemon.advertisement


async def test_close_gives_everything_back(rig: Rig) -> None:
    await rig.online()
    await rig.transport.close()
    await until(lambda: rig.daemon.adapter.alias == "host")
    assert (rig.daemon.advertisement, rig.daemon.application, rig.daemon.agents.agent) == ({}, {}, "")


async def test_a_request_comes_by_write_value_and_the_reply_goes_by_the_socket(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    with await rig.daemon.subscribe(path) as sock:
        await rig.daemon.write(path, HELLO[:5])
        await rig.daemon.write(path, HELLO[5:])
        link, packet = await rig.inbox.next()
        assert packet == HELLO
        assert link.peer.owner == "ble:AA:00:00:00:00:01"
        await link.send(message(bytes(300)))
        assert len(sock.recv(1000)) == 242
        assert len(sock.recv(1000)) == 66
        assert rig.daemon.notified == []


async def test_connecting_and_disconnecting_are_told(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    await until(lambda: len(rig.inbox.present) == 1)
    with await rig.daemon.subscribe(path) as sock:
        rig.daemon.disconnect(path)
        await until(lambda: len(rig.inbox.gone) == 1)
        assert await at_end(sock)
    rig.connect()
    await until(lambda: len(rig.inbox.present) == 1)
    rig.daemon.remove(path)
    await until(lambda: len(rig.inbox.gone) == 2)


async def test_a_device_that_did_not_come_in_is_none_of_ours(rig: Rig) -> None:
    await rig.online()
    mouse = rig.daemon.connect(9)
    path = rig.connect()
    await until(lambda: len(rig.inbox.present) == 1)
    await rig.transport.offline()
    assert not rig.daemon.devices[path].connected
    assert rig.daemon.devices[mouse].connected


async def test_where_the_kernel_does_not_tell_who_writes_is_a_central(rig: Rig) -> None:
    rig.kernel_tells = False
    await rig.online()
    path = rig.daemon.connect(1)
    rig.daemon.pair(path)
    await rig.daemon.write(path, HELLO)
    await rig.inbox.next()
    await rig.transport.offline()
    assert not rig.daemon.devices[path].connected


async def test_an_old_bluez_gets_one_central_at_a_time(rig: Rig) -> None:
    rig.version = (5, 66)
    await rig.online()
    first = rig.connect(1)
    await until(lambda: rig.daemon.advertisement == {})
    second = rig.connect(2)
    await until(lambda: not rig.daemon.devices[second].connected)
    assert rig.daemon.devices[first].connected
    rig.daemon.disconnect(first)
    await until(lambda: rig.daemon.advertisement)


async def test_a_central_that_comes_while_offline_is_dropped(rig: Rig) -> None:
    await rig.online()
    await rig.transport.offline()
    path = rig.connect()
    await until(lambda: not rig.daemon.devices[path].connected)
    assert rig.inbox.present == []


async def test_a_central_that_is_connected_already_gets_its_link(rig: Rig) -> None:
    rig.connect()
    await rig.online()
    assert len(rig.inbox.present) == 1


async def test_a_link_that_does_not_fall_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.online()
    rig.connect()
    await until(lambda: rig.inbox.present)
    monkeypatch.setattr(rig.daemon, "disconnect", lambda _path: None)
    async with asyncio.timeout(3):
        await rig.transport.offline()
    assert rig.inbox.present == []


async def test_the_identity_that_pairing_tells_becomes_the_owner(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    await until(lambda: rig.inbox.present)
    rig.daemon.identify(path, "00:11:22:33:44:55")
    await until(lambda: rig.inbox.present[0].peer.owner == "ble:00:11:22:33:44:55")


async def test_the_agent_lets_centrals_pair_and_nobody_else(rig: Rig) -> None:
    await rig.online()
    path, mouse = rig.connect(), rig.daemon.connect(9)
    await until(lambda: rig.inbox.present)
    assert await rig.daemon.ask_agent("RequestAuthorization", "o", path) == ""
    assert await rig.daemon.ask_agent("RequestAuthorization", "o", mouse) == "org.bluez.Error.Rejected"
    assert await rig.daemon.ask_agent("AuthorizeService", "os", path, "0000110b") == "org.bluez.Error.Rejected"
    assert await rig.daemon.ask_agent("Cancel", "") == ""
    assert await rig.daemon.ask_agent("Release", "") == ""
    assert await rig.daemon.ask_agent("RequestPasskey", "o", path) == "org.freedesktop.DBus.Error.UnknownMethod"


async def test_a_restarted_daemon_gets_everything_again(rig: Rig) -> None:
    await rig.online()
    rig.connect()
    await until(lambda: rig.inbox.present)
    await rig.daemon.stop()
    await until(lambda: rig.inbox.gone)
    rig.connections.clear()
    rig.daemon = Bluetoothd()
    await rig.daemon.start()
    await until(lambda: rig.daemon.advertisement)
    assert rig.daemon.application[rig.daemon.characteristic][CHARACTERISTIC]["Handle"] == 0x102
    assert rig.daemon.agents.agent


async def test_an_advertisement_that_is_refused_is_tried_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.daemon.refusals = 2
    await rig.online()
    await until(lambda: rig.daemon.advertisement)
    assert "bluetoothd: try again; trying again in" in caplog.text


async def test_without_bluetoothd_the_error_says_what_to_do(bus: None) -> None:
    with pytest.raises(TransportError, match=r"^bluetoothd is not running; start it: "):
        await BleTransport(BleConfig(enabled=True), "x", 2475).open(RecordingInbox())


async def test_an_adapter_that_is_off_is_told_how_to_turn_on(rig: Rig) -> None:
    rig.daemon.adapter.powered = False
    with pytest.raises(TransportError, match=r"^Bluetooth adapter hci0 is off; turn it on: "):
        await rig.transport.open(rig.inbox)


async def test_another_adapter_is_named(rig: Rig) -> None:
    with pytest.raises(TransportError, match=r"^no Bluetooth adapter hci7; there is hci0$"):
        await BleTransport(BleConfig(enabled=True, adapter="hci7"), "x", 2475).open(rig.inbox)


async def test_signals_of_others_are_not_believed(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    await until(lambda: rig.inbox.present)
    stranger = await Bus.open()
    await stranger.send(
        Message.new_signal(
            path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [DEVICE, {"Connected": Variant("b", False)}, []]
        )
    )
    await stranger.close()
    await rig.daemon.write(path, HELLO)
    assert (await rig.inbox.next())[0] is rig.inbox.present[0]


async def test_an_address_that_changes_is_warned_of(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.main_conf.write_text("[General]\nPrivacy = device\n[GATT]\nChannels = 1\n")
    await rig.online()
    assert "Privacy is on in main.conf" in caplog.text


@pytest.mark.parametrize(
    ("version", "conf", "refused"),
    [
        ((5, 66), "", True),
        ((5, 66), "[GATT]\nChannels = 1\n", False),
        ((5, 82), "", False),
        ((5, 82), "[GATT]\nChannels = 3\n", True),
    ],
)
async def test_more_than_one_att_channel_is_refused_with_the_setting_to_change(
    rig: Rig, version: tuple[int, int], conf: str, refused: bool
) -> None:
    rig.version = version
    rig.main_conf.write_text(conf)
    if not refused:
        await rig.transport.open(rig.inbox)
        return
    with pytest.raises(
        TransportError, match=rf"^3 ATT channels .* set `Channels = 1` under \[GATT\] in {rig.main_conf}"
    ):
        await rig.transport.open(rig.inbox)

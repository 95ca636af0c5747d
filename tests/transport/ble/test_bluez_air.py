"""On the air and off it: intervals, resets, adapters, parameters; against a bluetoothd of our own."""

import logging

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport, advertising, bluez_devices
from smp_dfu_host.transport.ble.hci_packets import advertising_commands, disconnect_command
from smp_dfu_host.transport.ble.link import SMP_SERVICE
from smp_dfu_host.transport.ble.parameters import Parameters
from tests.transport.ble.controller import connected, disconnected, updated
from tests.transport.ble.rig import Rig, until
from tests.transport.inbox import RecordingInbox

FIRST = "AA:00:00:00:00:01"


async def test_advertising_becomes_slow_without_leaving_the_air(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertising, "FAST_S", 0.05)
    await rig.online()
    await until(lambda: len(rig.daemon.intervals) == 2)
    assert rig.daemon.intervals == [(30, 1200), (1000, 1200)]  # never with the ends the wrong way round
    assert rig.daemon.registrations == 1


async def test_a_disconnection_makes_it_fast_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertising, "FAST_S", 0.05)
    await rig.online()
    await until(lambda: rig.daemon.intervals[-1:] == [(1000, 1200)])
    path = rig.connect()
    await until(lambda: rig.inbox.present)
    monkeypatch.setattr(advertising, "FAST_S", 60)
    rig.daemon.intervals.clear()
    rig.daemon.disconnect(path)
    await until(lambda: len(rig.daemon.intervals) == 2)
    assert rig.daemon.intervals == [(30, 1200), (30, 60)]
    assert rig.daemon.registrations == 1


async def test_with_one_central_at_a_time_it_is_back_fast(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertising, "FAST_S", 0.05)
    rig.version = (5, 66)
    await rig.online()
    await until(lambda: rig.daemon.intervals[-1:] == [(1000, 1200)])
    path = rig.connect()
    await until(lambda: rig.daemon.advertisement == {})
    rig.daemon.disconnect(path)
    await until(lambda: rig.daemon.advertisement.get("MaxInterval") == 60)


async def test_where_bluetoothd_does_not_obey_the_controller_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertising, "FAST_S", 0.05)
    rig.daemon.ignore_intervals()
    rig.controller.wrong = None
    await rig.online()
    fast, slow = advertising_commands(advertising.FAST), advertising_commands(advertising.SLOW)
    await until(lambda: len(rig.controller.sent) == 6)
    assert rig.controller.sent == [*fast, *slow]
    assert (rig.daemon.intervals, rig.daemon.registrations) == ([], 1)
    await rig.transport.offline()
    rig.controller.sent.clear()
    await rig.transport.online()
    assert rig.controller.sent[:3] == [*fast]
    assert rig.transport._bluez._advertiser.interval == advertising.FAST  # type: ignore[union-attr]


async def test_an_adapter_that_hides_its_address_is_left_alone(rig: Rig) -> None:
    rig.daemon.ignore_intervals()
    rig.main_conf.write_text("[General]\nPrivacy = device\n[GATT]\nChannels = 1\n")
    rig.controller.wrong = None
    await rig.online()
    assert rig.controller.sent == []
    assert str(rig.transport._bluez._advertiser.interval) == "1280 ms"  # type: ignore[union-attr]


async def test_a_reset_hangs_up_at_once_where_that_is_allowed(rig: Rig) -> None:
    rig.controller.wrong = None
    await rig.online()
    path = rig.connect()
    rig.controller.hear(connected(65, FIRST))
    await until(lambda: rig.inbox.present)
    rig.controller.told = lambda _packet: rig.daemon.disconnect(path)
    await rig.transport.offline()
    assert rig.controller.sent == [disconnect_command(65)]
    assert rig.daemon.disconnections == []
    assert rig.daemon.advertisement == {}


async def test_parameters_are_known_while_the_central_is_there(rig: Rig) -> None:
    rig.controller.wrong = None
    await rig.online()
    path = rig.connect()
    rig.controller.hear(connected(65, FIRST))
    rig.controller.hear(updated(65))
    assert rig.transport.connections.parameters == {FIRST: Parameters(6, 0, 400)}
    rig.connections.clear()
    rig.daemon.disconnect(path)  # the controller says nothing, as when it is turned off
    await until(lambda: not rig.transport.connections.parameters)
    rig.controller.hear(disconnected(65))


async def test_an_adapter_that_comes_back_is_listened_to_again(rig: Rig) -> None:
    rig.controller.wrong = None
    await rig.online()
    assert (rig.controller.adapter, rig.controller.opened) == ("hci0", 1)
    await rig.daemon.stop()
    await until(lambda: rig.controller.closed)
    rig.daemon = type(rig.daemon)()
    await rig.daemon.start()
    await until(lambda: rig.controller.opened == 2)
    await rig.transport.close()
    assert rig.controller.closed == 2


async def test_a_second_target_on_the_adapter_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluez_devices, "LEFTOVER_S", 0.0)
    rig.daemon.adapter.uuids = [SMP_SERVICE]
    with pytest.raises(
        TransportError, match=r"^a target runs on Bluetooth adapter hci0 already; end it, or use another"
    ):
        await rig.transport.open(rig.inbox)
    assert rig.daemon.application == {}
    assert rig.daemon.adapter.alias == "host"


async def test_what_an_ended_target_leaves_for_a_moment_is_waited_out(rig: Rig) -> None:
    rig.daemon.adapter.uuids = [SMP_SERVICE]
    rig.daemon.adapter.looked = lambda: rig.daemon.adapter.uuids.clear()
    await rig.online()
    assert rig.daemon.advertisement


@pytest.mark.parametrize("wanted", ["", "hci0", "aa:bb:cc:00:00:00"])
async def test_the_adapter_is_told_by_its_name(rig: Rig, wanted: str) -> None:
    rig.transport = BleTransport(BleConfig(enabled=True, adapter=wanted), "x", 2475)
    assert await rig.transport.open(rig.inbox) == {"adapter": "hci0", "address": "AA:BB:CC:00:00:00"}


async def test_without_cap_net_raw_the_transport_serves_and_says_so_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.controller.wrong = PermissionError()
    await rig.online()
    rig.connect()
    await until(lambda: rig.inbox.present)
    await rig.transport.offline()
    await rig.transport.online()
    said = [record.message for record in caplog.records if "raw HCI" in record.message]
    assert len(said) == 1
    assert [record.levelno for record in caplog.records if record.message in said] == [logging.WARNING]


async def test_the_first_adapter_is_taken_by_default(rig: Rig) -> None:
    assert BleConfig().adapter == ""
    await rig.transport.open(RecordingInbox())

"""Pairing and security over D-Bus, against a bluetoothd of our own on a private bus."""

from pathlib import Path

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport, status, window
from smp_dfu_host.transport.ble.bluez_bonds import bonds, forget
from smp_dfu_host.transport.ble.bluez_bus import Bus
from tests.ble.agents import Desk
from tests.transport.ble.bluetoothd import ADAPTER, CHARACTERISTIC
from tests.transport.ble.rig import HELLO, Rig, until

REJECTED = "org.bluez.Error.Rejected"
FIRST = "AA:00:00:00:00:01"


class Secured:
    """A rig with a configuration, a store, a person and counters."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self.desk = Desk()
        self.counters = Counters(unsecured=0)

    async def online(self, **options: object) -> None:
        config = BleConfig(enabled=True, **options)  # type: ignore[arg-type]
        self.rig.transport = BleTransport(
            config, "Target", 2475, folder=self.folder, desk=self.desk, counters=self.counters
        )
        await self.rig.online()

    async def central(self, *, encrypted: bool = True) -> str:
        """Have a central connect, and be known."""
        path = self.rig.connect(encrypted=encrypted)
        await until(lambda: self.rig.inbox.present)
        return path


@pytest.fixture
def secured(rig: Rig, tmp_path: Path) -> Secured:
    return Secured(rig, tmp_path)


@pytest.mark.parametrize(
    ("level", "write", "notify"),
    [
        ("encrypt", "encrypt-write", "encrypt-notify"),
        ("authenticate", "encrypt-authenticated-write", "encrypt-authenticated-notify"),
        ("secure", "secure-write", "secure-notify"),
    ],
)
async def test_each_level_guards_writes_and_subscriptions(
    secured: Secured, level: str, write: str, notify: str
) -> None:
    await secured.online(security=level)
    daemon = secured.rig.daemon
    flags = daemon.application[daemon.characteristic][CHARACTERISTIC]["Flags"]
    assert flags == ["write-without-response", write, "notify", notify]


@pytest.mark.parametrize(
    ("options", "capability"),
    [
        ({}, "NoInputNoOutput"),
        ({"pairing": "reject"}, "NoInputNoOutput"),
        ({"security": "authenticate"}, "DisplayOnly"),
        ({"security": "secure", "pairing": "confirm"}, "DisplayYesNo"),
        ({"security": "none", "pairing": "passkey"}, "DisplayOnly"),
    ],
)
async def test_the_agent_says_what_the_policy_can(secured: Secured, options: dict[str, str], capability: str) -> None:
    await secured.online(**options)
    assert secured.rig.daemon.agents.capability == capability


async def test_without_security_there_is_no_agent(secured: Secured) -> None:
    await secured.online(security="none")
    assert secured.rig.daemon.agents.agent == ""


async def test_a_plain_link_is_not_served_though_bluetoothd_lets_it_write(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    await secured.online()
    rig = secured.rig
    path = await secured.central(encrypted=False)
    for _ in range(2):
        await rig.daemon.write(path, HELLO)
    await until(lambda: secured.counters["unsecured"] == 2)
    assert caplog.text.count("requests dropped") == 1
    rig.plain.clear()
    await rig.daemon.write(path, HELLO)
    assert (await rig.inbox.next())[1] == HELLO
    assert rig.inbox.packets.empty()


async def test_a_plain_link_falls_in_time(secured: Secured) -> None:
    await secured.online(secure_within_s=1)
    path = await secured.central(encrypted=False)
    await until(lambda: not secured.rig.daemon.devices[path].connected)


async def test_while_pairing_tells_the_identity_the_only_link_is_still_known(secured: Secured) -> None:
    """The kernel's list has the new address a moment before bluetoothd's device has."""
    await secured.online()
    path = await secured.central()
    secured.rig.connections = {"00:11:22:33:44:55"}
    await secured.rig.daemon.write(path, HELLO)
    await secured.rig.inbox.next()


async def test_a_passkey_is_shown_and_the_bond_noted(secured: Secured) -> None:
    await secured.online(security="authenticate")
    daemon = secured.rig.daemon
    path = await secured.central(encrypted=False)
    assert await daemon.ask_agent("DisplayPasskey", "ouq", path, 7, 0) == ""
    assert secured.desk.passkeys.get_nowait() == "000007"
    secured.rig.plain.clear()
    daemon.pair(path)
    await until(lambda: status.read(secured.folder).bonds == {FIRST: "passkey"})
    assert [each["security"] for each in status.read(secured.folder).status["centrals"]] == ["authenticate"]


@pytest.mark.parametrize("agrees", [True, False])
async def test_a_comparison_waits_for_the_person(secured: Secured, agrees: bool) -> None:
    await secured.online(security="secure", pairing="confirm")
    secured.desk.agrees = agrees
    path = await secured.central(encrypted=False)
    answer = await secured.rig.daemon.ask_agent("RequestConfirmation", "ou", path, 7)
    assert secured.desk.numbers == ["000007"]
    assert answer == ("" if agrees else REJECTED)


async def test_outside_of_the_window_nobody_new_pairs_and_who_slips_through_is_removed(secured: Secured) -> None:
    await secured.online(pairing_window=True)
    daemon = secured.rig.daemon
    path = await secured.central(encrypted=False)
    assert await daemon.ask_agent("RequestAuthorization", "o", path) == REJECTED
    secured.rig.plain.clear()
    await daemon.write(path, HELLO)
    await until(lambda: path not in daemon.devices)
    assert secured.rig.inbox.packets.empty()


async def test_inside_of_the_window_a_new_central_pairs_and_is_served(secured: Secured) -> None:
    await secured.online(pairing_window=True)
    window.open_window(secured.folder, 60)
    path = await secured.central()
    assert await secured.rig.daemon.ask_agent("RequestAuthorization", "o", path) == ""
    secured.rig.daemon.pair(path)
    await secured.rig.daemon.write(path, HELLO)
    await secured.rig.inbox.next()


async def test_other_devices_that_pair_are_none_of_ours(secured: Secured) -> None:
    await secured.online(pairing="reject")
    mouse = secured.rig.daemon.connect(9)
    secured.rig.daemon.pair(mouse)
    await secured.central()
    assert mouse in secured.rig.daemon.devices
    assert status.read(secured.folder).bonds == {}


async def test_a_removal_that_bluetoothd_refuses_is_logged(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    await secured.online(pairing="reject")
    path = await secured.central(encrypted=False)
    device = secured.rig.daemon.devices.pop(path)
    device.emit_properties_changed({"Paired": True})
    await until(lambda: "not removed: bluetoothd: Does Not Exist" in caplog.text)


async def test_the_status_is_in_the_store_while_the_server_runs(secured: Secured) -> None:
    await secured.online()
    await secured.central()
    await until(lambda: status.read(secured.folder).status.get("centrals"))
    said = status.read(secured.folder).status
    assert (said["adapter"], said["address"], said["bluez"]) == ("hci0", "AA:BB:CC:00:00:00", "5.82")
    assert (said["security"], said["pairing"], said["pairing_window"]) == ("encrypt", "just-works", False)
    assert said["centrals"][0]["address"] == FIRST
    await secured.rig.daemon.write(f"{ADAPTER}/dev_{FIRST.replace(':', '_')}", HELLO, mtu=517)
    await until(lambda: status.read(secured.folder).status["centrals"][0]["mtu"] == 517)
    await secured.rig.transport.close()
    assert status.read(secured.folder).pid == 0


async def test_a_bond_that_is_there_no_more_is_noted_no_longer(secured: Secured) -> None:
    await secured.online()
    daemon = secured.rig.daemon
    path = await secured.central(encrypted=False)
    assert await daemon.ask_agent("RequestAuthorization", "o", path) == ""
    secured.rig.plain.clear()
    daemon.pair(path)
    await until(lambda: status.read(secured.folder).bonds == {FIRST: "just-works"})
    daemon.remove(path)
    await until(lambda: not secured.rig.inbox.present)
    assert status.read(secured.folder).bonds == {FIRST: "just-works"}  # an adapter that is pulled out looks the same
    await secured.central()
    await until(lambda: status.read(secured.folder).bonds == {})


async def test_bonds_are_listed_and_forgotten(secured: Secured) -> None:
    await secured.online()
    daemon = secured.rig.daemon
    path, mouse = await secured.central(), daemon.connect(9)
    plain = daemon.connect(8)
    for each in (path, mouse):
        daemon.pair(each)
    bus = await Bus.open()
    try:
        ours, theirs = await bonds(bus, "hci0", {FIRST: "just-works"})
        assert (ours.address, ours.name, ours.made, ours.connected) == (FIRST, f"phone {FIRST}", "just-works", True)
        assert theirs.made is None
        for _ in range(2):  # the second finds it gone
            await forget(bus, ours)
        assert set(daemon.devices) == {mouse, plain}
        assert await bonds(bus, "aa:bb:cc:00:00:00", {}) == await bonds(bus, "", {}) != ()
        with pytest.raises(TransportError, match=r"^no Bluetooth adapter hci9; there is hci0$"):
            await bonds(bus, "hci9", {})
    finally:
        await bus.close()

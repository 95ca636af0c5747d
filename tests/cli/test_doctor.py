"""What `doctor` finds, on hosts made of a few files."""

import socket
import warnings
from pathlib import Path

import pytest

from smp_dfu_host.cli import checks
from smp_dfu_host.cli.render import Check, Level
from smp_dfu_host.config import SerialConfig, UdpConfig
from smp_dfu_host.store.occupancy import occupied
from smp_dfu_host.transport.ble.link import SMP_SERVICE
from smp_dfu_host.transport.ble.main_conf import main_conf
from tests.cli.conftest import Cli

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # dbus-next's own, of things that Python 3.13 deprecates
    from smp_dfu_host.cli import bluetooth
    from smp_dfu_host.transport.ble.probe import Adapter

HCI0 = Adapter("hci0", "AA:BB:CC:DD:EE:00", True, ("central", "peripheral"), True, 5, ())
HCI1 = Adapter("hci1", "AA:BB:CC:DD:EE:01", True, ("central", "peripheral"), True, 5, ())


def levels(found: list[Check]) -> list[Level]:
    return [check.level for check in found]


def adapter(**changes: object) -> Adapter:
    values = {name: getattr(HCI0, name) for name in HCI0.__slots__}
    return Adapter(**{**values, **changes})


def test_host_that_has_everything_passes(cli: Cli) -> None:
    cli.configure("[transport.udp]\nport = 0\n")
    cli("slots")
    result = cli("doctor", "--no-ble", columns=160)
    assert result.exit_code == 0
    for words in ("✓", str(cli.config), "is writable", "booting version 0.0.0", "pty"):
        assert words in " ".join(result.stdout.split())


def test_doctor_makes_no_store(cli: Cli) -> None:
    cli.configure("[transport.udp]\nport = 0\n")
    said = cli.json("doctor", "--no-ble")
    assert [check["level"] for check in said if check["check"] in ("store", "slots")] == ["good", "skipped"]
    assert not cli.store.exists()


def test_port_of_the_running_target_is_no_failure(cli: Cli) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, occupied(cli.store):
        taken.bind(("127.0.0.1", 0))
        cli.configure(f"[transport.udp]\nport = {taken.getsockname()[1]}\n")
        result = cli("doctor", "--no-ble", columns=160)
    assert result.exit_code == 0
    assert "a server runs on this store" in result.stdout
    assert cli("doctor", "--no-ble").exit_code == 0


def test_missing_bluetooth_is_a_failure_only_if_wanted(cli: Cli) -> None:
    cli.configure('[transport.udp]\nport = 0\n[transport.ble]\nadapter = "hci99"\n')
    assert cli("doctor").exit_code == 0
    assert cli("doctor", "--ble").exit_code == 1
    assert any(check["bluetooth"] and check["level"] == "bad" for check in cli.json("doctor"))


def test_host_that_is_none_is_told_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    cli.configure('[transport.udp]\nhost = "nohost.invalid"\n')
    result = cli("doctor", "--no-ble", columns=160)
    assert result.exit_code == 1
    assert "nohost.invalid: Name or service not known" in result.stdout
    assert "→ name an address of this host" in result.stdout


def test_unusable_store_fails(cli: Cli) -> None:
    cli.configure("[transport.udp]\nport = 0\n")
    (cli.folder / "file").write_text("")
    result = cli("doctor", "--no-ble", "--store", cli.folder / "file" / "store")
    assert result.exit_code == 1
    assert "→ choose another folder" in result.stdout


def test_slots_that_do_not_boot_fail(cli: Cli) -> None:
    cli.configure("[transport.udp]\nport = 0\n[flash]\nsectors = 8\nmax_sectors = 16\n")
    cli("slots")
    (cli.store / "slot0.bin").write_bytes(b"\xff" * 32768)
    said = cli.json("doctor", "--no-ble")
    assert [check["level"] for check in said if check["check"] == "slots"] == ["bad"]
    (cli.store / "slot0.bin").write_bytes(b"short")
    assert cli("doctor", "--no-ble").exit_code == 1


def test_taken_port_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        found = checks.udp_port(UdpConfig(True, "127.0.0.1", taken.getsockname()[1]))
    assert found.level is Level.BAD
    assert str(taken) not in found.found
    assert "--udp" in found.todo
    assert checks.udp_port(UdpConfig(True, "127.0.0.1", 0)).level is Level.GOOD


def test_address_that_is_not_ours_is_found() -> None:
    assert checks.udp_port(UdpConfig(True, "192.0.2.1", 1337)).level is Level.BAD


def test_serial_line_that_is_not_there_is_found(tmp_path: Path) -> None:
    found = list(checks.serial_lines(SerialConfig(device=tmp_path / "ttyACM0", pty=tmp_path / "no" / "tty")))
    assert levels(found) == [Level.BAD, Level.BAD]


def test_serial_line_that_may_be_opened_passes(tmp_path: Path) -> None:
    device = tmp_path / "ttyACM0"
    device.write_bytes(b"")
    found = list(checks.serial_lines(SerialConfig(device=device, pty=tmp_path / "tty")))
    assert levels(found) == [Level.GOOD, Level.GOOD]


def make_sysfs(folder: Path, *names: str, blocked: str = "0") -> Path:
    for number, name in enumerate(names):
        (folder / "bluetooth" / name).mkdir(parents=True)
        switch = folder / "rfkill" / f"rfkill{number}"
        switch.mkdir(parents=True)
        for file, text in (("name", name), ("soft", blocked), ("hard", "0")):
            (switch / file).write_text(f"{text}\n")
    return folder


def test_adapter_in_the_kernel(tmp_path: Path) -> None:
    assert bluetooth.adapter_present("hci0", tmp_path).level is Level.BAD
    sysfs = make_sysfs(tmp_path, "hci0", "hci1", "hci0:1")
    assert bluetooth.adapter_present("hci0", sysfs).found == "hci0, hci1"
    other = bluetooth.adapter_present("hci5", sysfs)
    assert (other.level, other.todo) == (Level.BAD, "--adapter hci0")
    for wanted in ("", "AA:BB:CC:DD:EE:FF"):
        assert bluetooth.adapter_present(wanted, sysfs).level is Level.GOOD


@pytest.mark.parametrize("ours", [True, False])
def test_adapter_that_a_target_uses(ours: bool) -> None:
    taken, free = adapter(name="hci1", services=(SMP_SERVICE,)), adapter(name="hci2", address="AA:BB:CC:00:00:02")
    there = [adapter(powered=False), taken, free]
    assert bluetooth.chosen(there, "", ours=ours) == ("hci1" if ours else "hci2")
    assert bluetooth.chosen(there, "hci0", ours=ours) == "hci0"
    assert bluetooth.chosen(there, "aa:bb:cc:00:00:02", ours=ours) == "hci2"
    assert bluetooth.chosen(there[:1], "", ours=ours) == "hci0"
    assert bluetooth.chosen([], "", ours=ours) == "hci0"


def test_adapter_behind_rfkill(tmp_path: Path) -> None:
    found = bluetooth.adapter_present("hci0", make_sysfs(tmp_path, "hci0", blocked="1"))
    assert (found.level, found.todo) == (Level.BAD, "rfkill unblock bluetooth")


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        (adapter(), Level.GOOD, "AA:BB"),
        (adapter(powered=False), Level.BAD, "is off"),
        (adapter(roles=("central",)), Level.BAD, "only central"),
        (adapter(roles=()), Level.GOOD, "AA:BB"),
        (adapter(serves_gatt=False), Level.BAD, "no GATT server"),
        (adapter(name="hci7"), Level.BAD, "does not have it"),
    ],
)
def test_adapter_in_bluetoothd(seen: Adapter, level: Level, words: str) -> None:
    (found,) = bluetooth.served([seen], "hci0", ours=False)
    assert found.level is level
    assert words in found.found


def test_second_smp_service_is_told() -> None:
    serving = adapter(services=(SMP_SERVICE,))
    assert levels(list(bluetooth.served([serving], "hci0", ours=False))) == [Level.GOOD, Level.ADVICE]
    assert levels(list(bluetooth.served([serving], "hci0", ours=True))) == [Level.GOOD, Level.GOOD]


def settings(tmp_path: Path, text: str, version: tuple[int, int] | None) -> str:
    path = tmp_path / "main.conf"
    path.write_text(text)
    return " ".join(check.found for check in bluetooth.settings(main_conf(path), version))


def test_main_conf_of_an_old_bluez_wants_one_channel(tmp_path: Path) -> None:
    assert "Channels = 3" in settings(tmp_path, "", (5, 66))
    assert "Channels = 3" in settings(tmp_path, "", None)
    assert "Channels" not in settings(tmp_path, "[GATT]\nChannels = 1\n", (5, 66))
    assert "Channels" not in settings(tmp_path, "#[GATT]\n#Channels = 3\n", (5, 82))
    assert "Channels = 3" in settings(tmp_path, "[GATT]\nChannels = 3\n", (5, 82))


def test_main_conf_that_suits_is_silent(tmp_path: Path) -> None:
    text = "[General]\nReverseServiceDiscovery = false\nJustWorksRepairing = always\n[GATT]\nChannels = 1\n"
    assert settings(tmp_path, text, (5, 66)) == ""


def test_an_address_that_changes_is_told(tmp_path: Path) -> None:
    assert "Privacy = device" in settings(tmp_path, "[General]\nPrivacy = device\n", (5, 82))
    assert "Privacy" not in settings(tmp_path, "[General]\nPrivacy = off\n", (5, 82))


def test_main_conf_without_le_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text("[General]\nControllerMode = bredr\n[GATT]\nExchangeMTU = 23\n")
    found = list(bluetooth.settings(main_conf(path), (5, 82)))
    assert found[0].level is Level.BAD
    assert any("ExchangeMTU = 23" in check.found for check in found)


@pytest.mark.parametrize("text", ["no section", "[General\n"])
def test_main_conf_that_cannot_be_read_counts_as_defaults(tmp_path: Path, text: str) -> None:
    assert "Channels = 3" in settings(tmp_path, text, (5, 66))
    assert main_conf(tmp_path / "none") == {}


async def test_echo_needs_a_second_adapter_and_a_target() -> None:
    assert (await bluetooth.over_the_air([HCI0], "hci0")).level is Level.SKIPPED
    assert (await bluetooth.over_the_air([HCI0, HCI1], "hci0")).found == "no target runs on hci0"

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smp_dfu_host.transport.ble import bluez_version as module
from smp_dfu_host.transport.ble.bluez_bus import Bus
from smp_dfu_host.transport.ble.bluez_version import bluez_version, main_conf_path, parse
from tests.transport.ble.bluetoothd import private_bus


@pytest.mark.parametrize(
    ("output", "version"),
    [("5.66\n", (5, 66)), ("bluetoothctl: 5.82\n", (5, 82)), ("5.9", (5, 9)), ("", None), ("no idea", None)],
)
def test_the_version_is_found_in_what_the_programs_print(output: str, version: tuple[int, int] | None) -> None:
    assert parse(output) == version


@pytest.fixture
async def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    """A bus without bluetoothd, and a PATH with nothing but what a test puts there."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("needs dbus-daemon: apt-get install dbus")
    process, address = await private_bus(str(tmp_path))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    monkeypatch.setenv("PATH", str(tmp_path))
    made = await Bus.open()
    yield made
    await made.close()
    process.terminate()
    await process.wait()


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_without_a_daemon_the_tool_is_asked(bus: Bus, tmp_path: Path) -> None:
    assert await bluez_version(bus) is None
    program(tmp_path / "bluetoothctl", "echo bluetoothctl: 5.70")
    assert await bluez_version(bus) == (5, 70)


async def test_the_running_daemon_is_asked_however_it_was_started(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = program(tmp_path / "bluetoothd", '[ "$1" = --version ] && echo 5.82')
    program(tmp_path / "bluetoothctl", "echo bluetoothctl: 5.66")
    await bus.request_name("org.bluez")
    monkeypatch.setattr(module, "_command_line", lambda _pid: ["/bin/sh", str(daemon), "-n", "-f", "conf", ""])
    assert await bluez_version(bus) == (5, 82)


async def test_a_program_that_hangs_is_given_up(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    program(tmp_path / "bluetoothctl", "exec /bin/sleep 60")
    assert await bluez_version(bus) is None


async def test_a_program_that_ends_as_it_is_given_up_is_no_error(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.02)
    for tenth_ms in range(180, 220, 4):
        program(tmp_path / "bluetoothctl", f"exec /bin/sleep 0.{tenth_ms:04d}")
        assert await bluez_version(bus) is None


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["bluetoothd", "-n"], "/etc/bluetooth/main.conf"),
        (["bluetoothd", "-n", "-f", "/a.conf", ""], "/a.conf"),
        (["ld.so", "bluetoothd", "--configfile", "/b.conf"], "/b.conf"),
        (["bluetoothd", "--configfile=/c.conf", "-d"], "/c.conf"),
        ([], "/etc/bluetooth/main.conf"),
    ],
)
async def test_the_configuration_is_the_running_daemon_s(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, command: list[str], path: str
) -> None:
    await bus.request_name("org.bluez")
    monkeypatch.setattr(module, "_command_line", lambda _pid: command)
    assert await main_conf_path(bus) == Path(path)


async def test_without_a_daemon_the_configuration_is_the_usual_one(bus: Bus) -> None:
    assert await main_conf_path(bus) == module.MAIN_CONF

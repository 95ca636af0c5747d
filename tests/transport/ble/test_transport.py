"""What can be said of the transport where there is no Bluetooth."""

import subprocess
import sys
from pathlib import Path

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from tests.transport.inbox import RecordingInbox


def test_importing_the_transport_imports_neither_bless_nor_dbus() -> None:
    code = "import sys, smp_dfu_host.server; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"bless", "bleak", "dbus_next", "dbus_fast"} & set(loaded)


async def test_without_dbus_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nobody")
    transport = BleTransport(BleConfig(enabled=True), "SMP DFU Host", 2475)
    with pytest.raises(TransportError, match=r"^no system D-Bus \(No such file or directory\); start it: "):
        await transport.open(RecordingInbox())
    await transport.online()
    await transport.offline()
    await transport.close()


async def test_without_bless_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smp_dfu_host.transport.ble.bluez", None)
    transport = BleTransport(BleConfig(enabled=True), "SMP DFU Host", 2475)
    with pytest.raises(TransportError, match=r"^Bluetooth LE needs bless and dbus-next: .*; install them: "):
        await transport.open(RecordingInbox())


async def test_no_security_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    with pytest.raises(TransportError):
        await BleTransport(BleConfig(enabled=True, security="none"), "x", 2475).open(RecordingInbox())
    assert "anybody in range" in caplog.text

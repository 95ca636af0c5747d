import shutil
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.transport.ble import hci

# dbus-next's own deprecations, of things that Python 3.13 warns about, when it is imported for the first time.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from smp_dfu_host.transport.ble import bluez, bluez_abilities, bluez_departures
    from smp_dfu_host.transport.ble.bluez_bus import Bus
    from tests.transport.ble.bluetoothd import Bluetoothd, private_bus
    from tests.transport.ble.rig import Rig


@pytest.fixture
async def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("needs dbus-daemon: apt-get install dbus")
    process, address = await private_bus(str(tmp_path))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    yield
    process.terminate()
    await process.wait()


@pytest.fixture
async def rig(bus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    daemon = Bluetoothd()
    await daemon.start()
    made = Rig(daemon, BleConfig(enabled=True))
    made.main_conf = tmp_path / "main.conf"
    made.main_conf.write_text("[GATT]\nChannels = 1\n")

    async def version(_bus: Bus) -> tuple[int, int]:
        return made.version

    async def main_conf_path(_bus: Bus) -> Path:
        return made.main_conf

    monkeypatch.setattr(bluez_abilities, "bluez_version", version)
    monkeypatch.setattr(bluez_abilities, "main_conf_path", main_conf_path)
    monkeypatch.setattr(bluez, "RETRY_S", 0.01)
    monkeypatch.setattr(bluez_departures, "DROP_S", 0.5)
    monkeypatch.setattr(hci, "connections", lambda _adapter: made.links)
    yield made
    await made.transport.close()
    await made.daemon.stop()

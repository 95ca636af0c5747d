"""The upgrade modes of both apps against every mode of the boot loader (device-manager-client.md 3.1)."""

from pathlib import Path

import pytest

from smp_dfu_host.config import MODES
from tests.apps import android, ios
from tests.apps.android import Android
from tests.apps.clock import play
from tests.apps.device import Device, device
from tests.apps.ios import Ios
from tests.apps.phone import UpgradeFailed
from tests.apps.radio import Air

FOR_GOOD, ON_TRIAL, AS_BEFORE = "2.0.0 active confirmed", "2.0.0 active", "1.0.0 active confirmed"
NO_SLOT, NO_MARKS = "error 1/9", "error None/8"
"""What the app shows where updates cannot be, or where images cannot be marked."""

GOES_BACK = {
    "test and confirm": FOR_GOOD,
    "test only": ON_TRIAL,
    "confirm only": FOR_GOOD,
    "none": AS_BEFORE,
    "upload only": AS_BEFORE,
}
OUTCOMES = {
    "single-slot": dict.fromkeys(GOES_BACK, NO_SLOT),
    "swap-using-scratch": GOES_BACK,
    "overwrite-only": GOES_BACK | {"test only": FOR_GOOD},
    "swap-using-move": GOES_BACK,
    "direct-xip": dict.fromkeys(GOES_BACK, FOR_GOOD),
    "direct-xip-with-revert": GOES_BACK,
    "ram-load": dict.fromkeys(GOES_BACK, NO_MARKS) | {"none": FOR_GOOD, "upload only": FOR_GOOD},
    "ram-load-with-revert": GOES_BACK,
    "firmware-loader": dict.fromkeys(GOES_BACK, NO_SLOT),
    "single-slot-ram-load": dict.fromkeys(GOES_BACK, NO_SLOT),
    "swap-using-offset": GOES_BACK,
}
"""What runs in the end, or what the app shows, by the boot loader's mode and the app's."""


async def upgraded(target: Device, app: Android | Ios, how: str) -> str:
    """Update a device; return what runs then, or what the app shows."""
    await app.connect()
    try:
        await app.upgrade(target.update(), how)
    except UpgradeFailed as failed:
        assert await target.running() == AS_BEFORE
        return str(failed)
    if not app.radio.dropped.is_set():
        await app.unlink()
    return await target.running()


@pytest.mark.parametrize("how", android.MODES)
@pytest.mark.parametrize("mode", MODES)
def test_android_upgrades(folder: Path, mode: str, how: str, delay_s: float) -> None:
    async def scene() -> str:
        async with device(folder, mode) as target:
            return await upgraded(target, Android(target.transport, Air(delay_s)), how)

    assert play(scene()) == OUTCOMES[mode][how]


@pytest.mark.parametrize("how", ios.MODES)
@pytest.mark.parametrize("mode", MODES)
def test_ios_upgrades(folder: Path, mode: str, how: str, delay_s: float) -> None:
    async def scene() -> str:
        async with device(folder, mode) as target:
            return await upgraded(target, Ios(target.transport, Air(delay_s)), how)

    assert play(scene()) == OUTCOMES[mode][how]


@pytest.mark.parametrize("how", android.MODES)
def test_android_upgrades_what_the_firmware_loader_looks_after(folder: Path, how: str, delay_s: float) -> None:
    async def scene() -> tuple[str, str]:
        async with device(folder, "firmware-loader") as target:
            await target.reset(boot_mode=1)
            loader = await target.running()
            app = Android(target.transport, Air(delay_s))
            await app.connect()
            await app.upgrade(target.update(), how)
            return loader, await target.running()

    assert play(scene()) == ("9.0.0 active confirmed", FOR_GOOD)


def test_ios_upgrades_what_the_firmware_loader_looks_after(folder: Path, delay_s: float) -> None:
    async def scene() -> str:
        async with device(folder, "firmware-loader") as target:
            await target.reset(boot_mode=1)
            app = Ios(target.transport, Air(delay_s))
            await app.connect()
            await app.upgrade(target.update(), "upload only")
            return await target.running()

    assert play(scene()) == FOR_GOOD

"""A whole update by smpclient's Bluetooth transport, which we did not write, of a server that runs as its own process.

smpclient ─ bleak ─ bluetoothd ─ one controller )) ((  another one ─ bluetoothd ─ bless ─ server ─ slots
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from smp.image_management import ImageState
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.transport.ble import SMPBLETransport

from tests import target as targets
from tests.ble.conftest import eventually, forget_devices, objects
from tests.ble.raw_central import shown
from tests.target import Target, make_image, make_key, running

pytestmark = [pytest.mark.ble, pytest.mark.slow]

IMAGE_SIZE = 200_000
EMULATED_S = 120.0
"""Time-out of everything that the emulated processor has to compute: starting Python, swapping, pairing."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting the server takes half a minute there."""
    monkeypatch.setattr(targets, "READY_S", EMULATED_S)


async def other_adapter() -> str:
    """An adapter for the server: not the one that bleak takes by default, which is any of them."""
    taken = (await get_global_bluez_manager()).get_default_adapter()
    return "hci1" if taken == "/org/bluez/hci0" else "hci0"


def write_config(folder: Path, adapter: str) -> tuple[Path, bytes]:
    """Make a key, a factory image and a new one; return the configuration and the new image."""
    key = make_key(folder)
    make_image(folder / "factory.bin", os.urandom(IMAGE_SIZE), "1.0.0", key)
    new = make_image(folder / "new.bin", os.urandom(IMAGE_SIZE), "2.0.0", key)
    config = folder / "target.toml"
    config.write_text(
        f"""
        store = "store"
        dfu.confirm_at_start = false
        bootloader.keys = ["{key.public}"]
        image.factory = "factory.bin"
        transport.ble = {{ enabled = true, adapter = "{adapter}" }}
        """
    )
    return config, new


@asynccontextmanager
async def client(target: Target) -> AsyncIterator[SMPClient]:
    """Connect an smpclient to the target by its address."""
    address = str(target.ready["transports"][0]["address"])
    connected = SMPClient(SMPBLETransport(), address, EMULATED_S)
    await connected.connect()
    try:
        yield connected
    finally:
        await connected.disconnect()


async def images(asking: SMPClient) -> list[ImageState]:
    answer = await asking.request(ImageStatesRead())
    assert success(answer), answer
    return list(answer.images)


async def mark(asking: SMPClient, image_hash: bytes | None, *, confirm: bool) -> list[ImageState]:
    answer = await asking.request(ImageStatesWrite(hash=image_hash, confirm=confirm))
    assert success(answer), answer
    return list(answer.images)


def running_image(found: list[ImageState]) -> tuple[str, bool]:
    """Version of the active image, and whether it is confirmed."""
    active = next(image for image in found if image.active)
    return active.version, bool(active.confirmed)


async def has_fallen() -> bool:
    """Tell whether no device is connected to any adapter."""
    devices = (interfaces.get("org.bluez.Device1", {}) for interfaces in (await objects()).values())
    return not any(device.get("Connected") for device in devices)


async def test_smpclient_updates_the_target_over_bluetooth(tmp_path: Path) -> None:
    await forget_devices()
    adapter = await other_adapter()
    config, new = write_config(tmp_path, adapter)
    async with running(config) as target:
        assert target.ready["transports"] == [
            {"transport": "ble", "adapter": adapter, "address": shown(int(adapter[-1]))}
        ]
        async with client(target) as updating:
            assert running_image(await images(updating)) == ("1.0.0", True)
            began = time.monotonic()
            async for _ in updating.upload(new, upgrade=False, first_timeout_s=EMULATED_S):
                pass
            speed = len(new) / 1000 / (time.monotonic() - began)
            waiting = [image for image in await images(updating) if not image.active]
            await mark(updating, waiting[0].hash, confirm=False)
            await updating.request(ResetWrite())
            asked = time.monotonic()
            await eventually(has_fallen, EMULATED_S)
            fell = time.monotonic()
        async with asyncio.timeout(EMULATED_S), client(target) as confirming:
            back = time.monotonic()
            assert running_image(await images(confirming)) == ("2.0.0", False)
            assert running_image(await mark(confirming, None, confirm=True)) == ("2.0.0", True)
        print(f"{speed:.1f} kB/s; fell {fell - asked:.1f} s after the reset, reconnected {back - fell:.1f} s later")
    devices = [held["org.bluez.Device1"] for held in (await objects()).values() if "org.bluez.Device1" in held]
    assert [device["Bonded"] for device in devices] == [True, True]

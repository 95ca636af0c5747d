"""A whole update by smpclient's Bluetooth transport, which we did not write, of a server that runs as its own process.

smpclient ─ bleak ─ bluetoothd ─ one controller )) ((  another one ─ bluetoothd ─ bless ─ server ─ slots
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import cbor2
import pytest
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from smp.image_management import ImageState
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.transport.ble import SMPBLETransport

from smp_dfu_host.wire.header import Header, Op
from tests import target as targets
from tests.ble.agents import Desk, pairer
from tests.ble.conftest import directed, eventually, forget_devices, objects
from tests.ble.raw_central import RawCentral, shown
from tests.ble.test_peers import beside
from tests.target import Target, make_image, make_key, running

pytestmark = pytest.mark.ble

LEVELS = ("encrypt", *(pytest.param(each, marks=pytest.mark.slow) for each in ("none", "authenticate", "secure")))

IMAGE_SIZE = 100_000
CONNECTABLE_S = 2.0
"""Longest from the later of the link's fall and the swap's end until the target is on the air again."""
EMULATED_S = 120.0
"""Time-out of everything that the emulated processor has to compute: starting Python, swapping, pairing."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting the server takes half a minute there."""
    monkeypatch.setattr(targets, "READY_S", EMULATED_S)


@dataclass(frozen=True)
class Controllers:
    """Which controller is what; bleak takes any of them by default, and that one is the phone."""

    phone: int
    server: int
    second: int
    dummy: int


async def controllers() -> Controllers:
    phone = int((await get_global_bluez_manager()).get_default_adapter()[-1])
    return Controllers(phone, *(number for number in range(4) if number != phone))


def write_config(folder: Path, server: int, security: str) -> tuple[Path, bytes]:
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
        transport.ble = {{ enabled = true, adapter = "hci{server}", security = "{security}" }}
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


async def is_on_air(server: int) -> bool:
    """Tell whether an adapter advertises."""
    held = (await objects())[f"/org/bluez/hci{server}"]["org.bluez.LEAdvertisingManager1"]
    return bool(held["ActiveInstances"])


async def pair_by_passkey(target: Target, phone: int, server: int) -> None:
    """Bond the phone's controller, typing the passkey that the server logs."""

    async def read_the_log() -> bool:
        if found := re.search(r"type the passkey (\d{6})", target.log.read_text()):
            desk.show("", found[1])
        return found is not None

    desk = Desk()
    async with pairer(desk, "KeyboardOnly") as other, await RawCentral(phone).connect(server):
        await asyncio.gather(eventually(read_the_log, EMULATED_S), other.pair(phone, server))
    await eventually(has_fallen, EMULATED_S)


Company = Callable[[], AbstractAsyncContextManager[None]]
"""What goes on while an image is uploaded."""


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    yield


async def update(target: Target, new: bytes, company: Company = alone) -> None:
    """Upload, test, reset, confirm."""
    async with client(target) as updating:
        assert running_image(await images(updating)) == ("1.0.0", True)
        async with company():
            began = time.monotonic()
            async for _ in updating.upload(new, upgrade=False, first_timeout_s=EMULATED_S):
                pass
            speed = len(new) / 1000 / (time.monotonic() - began)
        waiting = [image for image in await images(updating) if not image.active]
        await mark(updating, waiting[0].hash, confirm=False)
        await updating.request(ResetWrite())
        asked = time.time()
        await eventually(has_fallen, EMULATED_S)
        fell = time.time()
    await eventually(lambda: is_on_air(int(target.ready["transports"][0]["adapter"][3:])), EMULATED_S)
    late = time.time() - max(fell, (Path(target.ready["store"]) / "history.jsonl").stat().st_mtime)
    async with asyncio.timeout(EMULATED_S), client(target) as confirming:
        back = time.time()
        assert running_image(await images(confirming)) == ("2.0.0", False)
        assert running_image(await mark(confirming, None, confirm=True)) == ("2.0.0", True)
    print(
        f"{speed:.1f} kB/s; fell {fell - asked:.1f} s after the reset, on the air {late:.1f} s after that and swap, "
        f"reconnected {back - fell:.1f} s after it fell"
    )
    assert late <= CONNECTABLE_S


@pytest.mark.parametrize("security", LEVELS)
async def test_smpclient_updates_the_target_at_each_security_level(tmp_path: Path, security: str) -> None:
    await forget_devices()
    which = await controllers()
    config, new = write_config(tmp_path, which.server, security)
    async with running(config) as target:
        assert target.ready["transports"] == [
            {"transport": "ble", "adapter": f"hci{which.server}", "address": shown(which.server)}
        ]
        if security in ("authenticate", "secure"):
            await pair_by_passkey(target, which.phone, which.server)
        await update(target, new)
    devices = [held["org.bluez.Device1"] for held in (await objects()).values() if "org.bluez.Device1" in held]
    assert [device["Bonded"] for device in devices] == [security != "none"] * 2


@pytest.mark.slow
async def test_smpclient_updates_the_target_beside_a_second_central(tmp_path: Path) -> None:
    """It reads the image list all the while, and gets its own replies; before BlueZ 5.76 it does not get in."""
    await forget_devices()
    which = await controllers()
    config, new = write_config(tmp_path, which.server, "encrypt")
    rounds: list[int] = []

    @asynccontextmanager
    async def reader() -> AsyncIterator[None]:
        done = asyncio.Event()
        work = images_of_the_second if await directed() else attempts_of_the_second
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(work(which, done))
            yield
            done.set()
        rounds.append(reading.result())

    async with running(config) as target:
        await update(target, new, reader)
    assert rounds[0] > 2
    print(f"{rounds[0]} image lists or attempts of the second central")


async def images_of_the_second(which: Controllers, done: asyncio.Event) -> int:
    """Read the image list until done; check that every reply is whole and its own; return how many came."""
    count = 0
    async with beside(which.server, which.second, which.dummy) as second:
        await second.setup()
        while not done.is_set():
            header = Header(Op.READ, 1, 0, 1, 1, count % 256, 0)
            reply = await second.ask(header.pack() + b"\xa0")
            assert Header.parse(reply) == header.reply(len(reply) - Header.SIZE)
            assert cbor2.loads(reply[Header.SIZE :])["images"][0]["slot"] == 0
            count += 1
    return count


async def attempts_of_the_second(which: Controllers, done: asyncio.Event) -> int:
    """Try to connect until done; return how often that failed."""
    count = 0
    while not done.is_set():
        with pytest.raises(TimeoutError):
            await RawCentral(which.second).connect(which.server, timeout_s=2)
        count += 1
    return count

"""What befalls the target from outside, in the middle of an upload, over the real BlueZ.

Each time it serves again within FAULT_S of the cause's end, which is when bluetoothd answers on D-Bus and has its
adapter on; the upload goes on where it was, and no more tasks and descriptors are held than before.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ble.conftest import (
    CENTRAL,
    DUMMY,
    SECOND,
    SERVER,
    Daemon,
    adapter,
    adapter_is_back,
    eventually,
    forget_devices,
    set_powered,
)
from tests.ble.raw_central import RawCentral
from tests.ble.rig_parts import GONE_S, Part, remove_controllers
from tests.ble.uploads import fallen, finish, image, pair, phone, target, upload
from tests.leaks import held, released

pytestmark = [pytest.mark.ble, pytest.mark.slow]

IMAGE_SIZE = 20_000
FAULT_S = 5.0


async def restart_bluetoothd(_central: RawCentral) -> None:
    daemon = Daemon()
    daemon.stop()
    daemon.start()


async def restart_dbus(_central: RawCentral) -> None:
    """bluetoothd ends with it, and is started again when it is back, as systemd does."""
    bus, daemon = Part("dbus-daemon"), Daemon()
    await bus.stop()
    daemon.stop()
    bus.start()
    await eventually(socket_is_there, GONE_S)
    daemon.start()


async def socket_is_there() -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_unix_connection("/run/dbus/system_bus_socket")
        writer.close()
        return True
    return False


async def turn_adapter_off_and_on(_central: RawCentral) -> None:
    await set_powered(on=False)
    await set_powered(on=True)


async def remove_adapter(_central: RawCentral) -> None:
    await remove_controllers()


async def kill_central(central: RawCentral) -> None:
    """What the kernel does when a process is killed within a message: its socket is closed, and the link falls."""
    await central.write(bytes.fromhex("02 00 0100 0000 01 00"))
    central.die()
    await eventually(lambda: fallen(SERVER), GONE_S)


Fault = Callable[[RawCentral], Awaitable[None]]
FAULTS: list[Fault] = [restart_bluetoothd, restart_dbus, turn_adapter_off_and_on, remove_adapter, kill_central]


async def advertising() -> bool:
    return (await adapter("org.bluez.LEAdvertisingManager1")).get("ActiveInstances") == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_upload_goes_on_after(fault: Fault, tmp_path: Path) -> None:
    await forget_devices()
    async with target(tmp_path) as running:
        await pair()
        await finish(image(1000), running)
        await eventually(advertising)
        before = held()
        new = image(IMAGE_SIZE)
        async with phone() as (client, central):
            await upload(client, new, until=0.4)
            await fault(central)
            await eventually(adapter_is_back, GONE_S)
            ended = time.monotonic()
            await eventually(advertising, FAULT_S)
            print(f"{fault.__name__}: serving again {time.monotonic() - ended:.1f} s after bluetoothd")
        assert await finish(new, running) >= 0.4 * len(new)
        await eventually(advertising)
        await released(before)


async def test_two_targets_on_two_adapters_are_told_apart(tmp_path: Path) -> None:
    """Both take uploads at once, and both outlive a restart of bluetoothd in the middle of them."""
    await forget_devices()
    pairs = ((SERVER, CENTRAL), (SECOND, DUMMY))
    images = [image(IMAGE_SIZE) for _ in pairs]
    async with target(tmp_path, SERVER) as first, target(tmp_path, SECOND) as second:
        async with phone(CENTRAL, SERVER) as (one, _), phone(DUMMY, SECOND) as (other, _):
            await asyncio.gather(*(upload(each, new, 0.3) for each, new in zip((one, other), images, strict=True)))
            daemon = Daemon()
            daemon.stop()
            daemon.start()
            await eventually(adapter_is_back, GONE_S)
        await asyncio.gather(
            *(
                finish(new, running, controller, to)
                for new, running, (to, controller) in zip(images, (first, second), pairs, strict=True)
            )
        )

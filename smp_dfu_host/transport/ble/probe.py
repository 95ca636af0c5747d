"""What BlueZ says about itself, and an echo from outside: for `doctor`.

This is the client's side of D-Bus and Bluetooth: it registers nothing and leaves a running target alone. `look` reads
BlueZ's objects once; `echo` is a central on another adapter of the same machine that finds the target by its service
UUID, connects, and sends one SMP echo.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_adapters import ADAPTER, ADVERTISING_MANAGER, GATT_MANAGER
from smp_dfu_host.transport.ble.bluez_bus import Bus
from smp_dfu_host.transport.ble.bluez_devices import OBJECTS, Values
from smp_dfu_host.transport.ble.bluez_version import Version, bluez_version, main_conf_path
from smp_dfu_host.transport.ble.link import SMP_CHARACTERISTIC, SMP_SERVICE
from smp_dfu_host.transport.ble.main_conf import Conf, main_conf
from smp_dfu_host.wire.body import encode
from smp_dfu_host.wire.header import Header, Op


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter, as bluetoothd knows it."""

    name: str
    """`hci0`."""
    address: str
    powered: bool
    roles: tuple[str, ...]
    """`central`, `peripheral`, `central-peripheral`; empty where BlueZ is too old to say."""
    serves_gatt: bool
    advertisements: int
    """How many more advertisements it takes; 0 also when it cannot advertise."""
    services: tuple[str, ...]
    """UUIDs of the services registered on it, lower case."""


@dataclass(frozen=True, slots=True)
class Host:
    """bluetoothd and what it has."""

    version: Version | None
    """Such as (5, 66); None if it does not say."""
    conf: Conf
    """Its main.conf."""
    adapters: tuple[Adapter, ...]


async def look() -> Host:
    """Return what bluetoothd says.

    Raises:
        TransportError: If there is no system bus, no bluetoothd, or no permission; the message says what to do.
    """
    bus = await Bus.open()
    try:
        (objects,) = await bus.ask("/", f"{OBJECTS}.GetManagedObjects")
        version, conf = await bluez_version(bus), main_conf(await main_conf_path(bus))
    finally:
        await bus.close()
    adapters = tuple(_adapter(path, objects[path]) for path in sorted(objects) if ADAPTER in objects[path])
    return Host(version, conf, adapters)


def _adapter(path: str, interfaces: Mapping[str, Values]) -> Adapter:
    adapter = {name: variant.value for name, variant in interfaces[ADAPTER].items()}
    manager = interfaces.get(ADVERTISING_MANAGER, {})
    return Adapter(
        name=path.rsplit("/", 1)[-1],
        address=adapter.get("Address", ""),
        powered=bool(adapter.get("Powered")),
        roles=tuple(adapter.get("Roles", ())),
        serves_gatt=GATT_MANAGER in interfaces and ADVERTISING_MANAGER in interfaces,
        advertisements=manager["SupportedInstances"].value if "SupportedInstances" in manager else 0,
        services=tuple(uuid.lower() for uuid in adapter.get("UUIDs", ())),
    )


@dataclass(frozen=True, slots=True)
class Echo:
    """What came of an echo over the air."""

    name: str
    """The advertised name."""
    address: str
    seconds: float
    """From the write to the whole reply."""


async def echo(adapter: str, target: str | None, *, scan_s: float = 6.0, timeout_s: float = 20.0) -> Echo | None:
    """Find a target with another adapter and let it echo; None when none is on the air.

    Args:
        adapter: The adapter to be a central on, not the target's own.
        target: The target's address; None takes the first that offers the SMP service.
        scan_s: How long to listen, in seconds.
        timeout_s: How long connecting (with pairing) and the echo may take, in seconds.

    Raises:
        TransportError: If a target was heard but did not answer.
    """
    try:
        device = await _find(adapter, target, scan_s)
        if device is None:
            return None
        async with asyncio.timeout(timeout_s), BleakClient(device, bluez={"adapter": adapter}) as client:
            return Echo(device.name or "", device.address, await _echo(client))
    except TimeoutError as exc:
        raise TransportError(f"the target was heard, but there was no echo within {timeout_s:g} s") from exc
    except (BleakError, OSError, EOFError) as exc:
        raise TransportError(f"the echo failed: {type(exc).__name__}: {exc}") from exc


async def _find(adapter: str, target: str | None, scan_s: float) -> BLEDevice | None:
    return await find(
        lambda device, said: SMP_SERVICE in said.service_uuids and target in (None, device.address),
        scan_s,
        bluez={"adapter": adapter},
    )


async def find(
    wanted: Callable[[BLEDevice, AdvertisementData], bool], scan_s: float, **options: Any
) -> BLEDevice | None:
    """Return the first device on the air that is wanted; None if none is heard in time.

    It listens before the scan begins. bleak's own `find_device_by_filter` listens afterwards, and a device whose signal
    strength never changes, as a virtual one's, is told of only once.

    Args:
        wanted: Looks at a device and what it advertises.
        scan_s: How long to listen, in seconds.
        options: For `BleakScanner`.
    """
    heard: asyncio.Future[BLEDevice] = asyncio.get_running_loop().create_future()

    def detected(device: BLEDevice, said: AdvertisementData) -> None:
        if not heard.done() and wanted(device, said):
            heard.set_result(device)

    async with BleakScanner(detected, **options):
        await asyncio.wait([heard], timeout=scan_s)
    return heard.result() if heard.done() else None


async def _echo(client: BleakClient) -> float:
    payload = encode({"d": "doctor"})
    request = Header(Op.WRITE, 1, 0, len(payload), 0, 0, 0).pack() + payload
    expected = encode({"r": "doctor"})
    got = bytearray()
    done = asyncio.Event()

    def notified(_characteristic: object, data: bytearray) -> None:
        got.extend(data)
        if len(got) >= Header.SIZE + Header.parse(bytes(got)).length:
            done.set()

    await client.start_notify(SMP_CHARACTERISTIC, notified)
    started = asyncio.get_running_loop().time()
    await client.write_gatt_char(SMP_CHARACTERISTIC, request, response=False)
    await done.wait()
    if bytes(got[Header.SIZE :]) != expected:
        raise TransportError(f"the echo came back as {bytes(got).hex(' ')}")
    return asyncio.get_running_loop().time() - started

"""Bonds, as bluetoothd has them: those of our centrals, and those of everything else that pairs with this host."""

from collections.abc import Mapping
from dataclasses import dataclass

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_adapters import ADAPTER, Objects
from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError
from smp_dfu_host.transport.ble.bluez_devices import DEVICE, OBJECTS


@dataclass(frozen=True, slots=True)
class Bond:
    """A device that is bonded with an adapter."""

    path: str
    """Of its D-Bus object."""
    adapter: str
    """`hci0`."""
    address: str
    name: str
    """As the device calls itself, or its address."""
    connected: bool
    made: str | None
    """How, if it is a central of ours: `just-works`, `passkey`, `confirm`, or empty if that is not known. None: it has
    never been a central of ours."""


async def bonds(bus: Bus, adapter: str, ours: Mapping[str, str]) -> tuple[Bond, ...]:
    """Return the bonds of an adapter.

    Args:
        bus: Where bluetoothd is.
        adapter: A name such as `hci0`, an address, or nothing for all adapters.
        ours: How our centrals were bonded, by address (status.Written.bonds).

    Raises:
        TransportError: If bluetoothd cannot be asked, or has no such adapter.
    """
    (objects,) = await bus.ask("/", f"{OBJECTS}.GetManagedObjects")
    paths = _adapters(objects, adapter)
    found = []
    for path, held in sorted(objects.items()):
        parent = path.rpartition("/")[0]
        if parent not in paths or DEVICE not in held:
            continue
        said = {name: variant.value for name, variant in held[DEVICE].items()}
        if said.get("Bonded", said["Paired"]):  # BlueZ has Bonded since 5.65
            address = str(said["Address"])
            name = str(said.get("Alias", address))
            found.append(
                Bond(path, parent.rpartition("/")[2], address, name, bool(said["Connected"]), ours.get(address))
            )
    return tuple(found)


async def forget(bus: Bus, bond: Bond) -> None:
    """Remove a bond; a device that is connected is disconnected.

    Raises:
        TransportError: If bluetoothd refuses it; that it is gone already is none.
    """
    try:
        await bus.ask(bond.path.rpartition("/")[0], f"{ADAPTER}.RemoveDevice", "o", bond.path)
    except BusError as exc:
        if not exc.name.endswith("DoesNotExist"):
            raise


def _adapters(objects: Objects, wanted: str) -> frozenset[str]:
    there = {path: str(held[ADAPTER]["Address"].value) for path, held in objects.items() if ADAPTER in held}
    chosen = [
        path
        for path, address in there.items()
        if wanted.upper() in ("", address.upper(), path.rpartition("/")[2].upper())
    ]
    if not chosen:
        names = ", ".join(sorted(path.rpartition("/")[2] for path in there)) or "none"
        raise TransportError(f"no Bluetooth adapter {wanted}; there is {names}".replace(" ;", ";"))
    return frozenset(chosen)

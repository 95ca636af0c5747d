"""Which adapter to serve on: the one that is named, or the first that can."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import rfkill
from smp_dfu_host.transport.ble.link import SMP_SERVICE

ADAPTER = "org.bluez.Adapter1"
ADVERTISING_MANAGER = "org.bluez.LEAdvertisingManager1"
GATT_MANAGER = "org.bluez.GattManager1"

Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""bluetoothd's objects by path, as D-Bus has them: each value is a variant."""


class TakenError(TransportError):
    """A target is registered on the adapter; bluetoothd may be about to notice that it has ended."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter, and what speaks against it."""

    name: str
    """`hci0`."""
    address: str
    problem: TransportError | None


def choose(
    objects: Objects, wanted: str, blocked: Callable[[str], bool] = rfkill.blocked, *, patient: bool = False
) -> str:
    """Return the name of the adapter to serve on.

    Args:
        objects: bluetoothd's.
        wanted: A name such as `hci1`, an address, or nothing: the first that can.
        blocked: Says of a name whether a switch keeps it off.
        patient: Do not pass over an adapter because of a target that may be about to go.

    Raises:
        TakenError: If a target is registered there (or, of several, on one and the others cannot, or are passed over).
        TransportError: If it is not there or cannot serve; the message says why, and what to do about it.
    """
    found = [
        _candidate(path, held, blocked)
        for path, held in sorted(objects.items(), key=lambda each: (len(each[0]), each[0]))  # hci2 before hci10
        if ADAPTER in held
    ]
    best = min(_named(found, wanted), key=lambda each: _rank(each, patient=patient))
    if best.problem:
        raise best.problem
    return best.name


def _named(found: Sequence[Candidate], wanted: str) -> Sequence[Candidate]:
    """Return the one that is wanted, or all."""
    if not wanted and found:
        return found
    named = [each for each in found if wanted.upper() in (each.name.upper(), each.address.upper())]
    if not named:
        there = ", ".join(each.name for each in found)
        hint = f"there is {there}" if there else "plug one in, or load its driver"
        raise TransportError(f"no Bluetooth adapter{' ' * bool(wanted)}{wanted}; {hint}")
    return named


def _rank(candidate: Candidate, *, patient: bool) -> int:
    """Return how far back an adapter stands; of several, the first in line is chosen."""
    if isinstance(candidate.problem, TakenError):
        return 0 if patient else 1
    return 2 if candidate.problem else 0


def _candidate(path: str, held: Mapping[str, Mapping[str, Any]], blocked: Callable[[str], bool]) -> Candidate:
    adapter = {key: variant.value for key, variant in held[ADAPTER].items()}
    name = path.rpartition("/")[2]
    peripheral = {GATT_MANAGER, ADVERTISING_MANAGER} <= held.keys()
    roles = adapter.get("Roles", ["peripheral"])
    problem = None
    if not adapter["Powered"]:
        why = "is off; turn it on: bluetoothctl power on"
        if blocked(name):
            why = "is switched off by rfkill; turn it on: rfkill unblock bluetooth"
        problem = TransportError(f"Bluetooth adapter {name} {why}")
    elif not peripheral or not any("peripheral" in role for role in roles):
        problem = TransportError(f"Bluetooth adapter {name} cannot be a Bluetooth LE peripheral; use another one")
    elif SMP_SERVICE in map(str.lower, adapter.get("UUIDs", ())):
        problem = TakenError(f"a target runs on Bluetooth adapter {name} already; end it, or use another adapter")
    return Candidate(name, str(adapter["Address"]), problem)

"""Choosing the adapter."""

from typing import Any

import pytest
from dbus_next.signature import Variant

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_adapters import (
    ADAPTER,
    ADVERTISING_MANAGER,
    GATT_MANAGER,
    Objects,
    TakenError,
    choose,
)
from smp_dfu_host.transport.ble.link import SMP_SERVICE


def objects(**adapters: dict[str, Any]) -> Objects:
    """bluetoothd's objects with those adapters, and a device; a property that is None is missing."""
    made: dict[str, Any] = {"/org/bluez": {}, "/org/bluez/hci0/dev_AA": {"org.bluez.Device1": {}}}
    for number, (name, changed) in enumerate(adapters.items()):
        values = {"Powered": True, "Address": f"AA:BB:CC:00:00:0{number}", "Roles": ["central-peripheral"], **changed}
        managers = values.pop("managers", True)
        held = {
            ADAPTER: {
                key: Variant("as" if isinstance(value, list) else "b" if isinstance(value, bool) else "s", value)
                for key, value in values.items()
            }
        }
        made[f"/org/bluez/{name}"] = held | ({GATT_MANAGER: {}, ADVERTISING_MANAGER: {}} if managers else {})
    return made


def no(_name: str) -> bool:
    return False


OFF = {"Powered": False}
CENTRAL = {"Roles": ["central"]}
TAKEN = {"UUIDs": ["00001800-0000-1000-8000-00805f9b34fb", SMP_SERVICE.upper()]}


def test_the_first_that_can_is_chosen() -> None:
    assert choose(objects(hci10={}, hci2={}), "", no) == "hci2"
    assert choose(objects(hci0=OFF, hci1=CENTRAL, hci2={"managers": False}, hci3=TAKEN, hci4={}), "", no) == "hci4"


def test_an_adapter_is_not_passed_over_for_a_target_that_may_be_about_to_go() -> None:
    there = objects(hci0=OFF, hci1=TAKEN, hci2={})
    with pytest.raises(TakenError):
        choose(there, "", no, patient=True)
    assert choose(there, "hci2", no, patient=True) == "hci2"
    assert choose(objects(hci0={}, hci1=TAKEN), "", no, patient=True) == "hci0"


def test_an_old_bluez_tells_no_roles() -> None:
    old = objects(hci0={})
    del old["/org/bluez/hci0"][ADAPTER]["Roles"]  # type: ignore[attr-defined]
    assert choose(old, "", no) == "hci0"


def test_one_is_named_by_its_name_or_its_address() -> None:
    there = objects(hci0={}, hci1={}, hci10={})
    assert choose(there, "hci1", no) == "hci1"
    assert choose(there, "aa:bb:cc:00:00:02", no) == "hci10"


@pytest.mark.parametrize("wanted", ["", "hci0", "AA:BB:CC:00:00:00"])
@pytest.mark.parametrize(
    ("values", "blocked", "words"),
    [
        (OFF, False, "Bluetooth adapter hci0 is off; turn it on: bluetoothctl power on"),
        (OFF, True, "Bluetooth adapter hci0 is switched off by rfkill; turn it on: rfkill unblock bluetooth"),
        (CENTRAL, False, "Bluetooth adapter hci0 cannot be a Bluetooth LE peripheral; use another one"),
        ({"managers": False}, False, "Bluetooth adapter hci0 cannot be a Bluetooth LE peripheral; use another one"),
        (TAKEN, False, "a target runs on Bluetooth adapter hci0 already; end it, or use another adapter"),
    ],
)
def test_what_speaks_against_it_is_one_line(wanted: str, values: dict[str, Any], blocked: bool, words: str) -> None:
    with pytest.raises(TransportError) as wrong:
        choose(objects(hci0=values), wanted, lambda name: blocked and name == "hci0")
    assert str(wrong.value) == words


def test_one_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(TransportError, match=r"^no Bluetooth adapter hci7; there is hci0, hci1$"):
        choose(objects(hci0={}, hci1={}), "hci7", no)
    for wanted, shown in (("", "adapter;"), ("hci0", "adapter hci0;")):
        with pytest.raises(TransportError, match=rf"^no Bluetooth {shown} plug one in, or load its driver$"):
            choose(objects(), wanted, no)


def test_where_only_a_target_is_in_the_way_it_may_be_about_to_go() -> None:
    with pytest.raises(TakenError):
        choose(objects(hci0=OFF, hci1=TAKEN), "", no)

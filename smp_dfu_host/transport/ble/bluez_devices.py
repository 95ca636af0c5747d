"""Who is there: bluetoothd itself, our adapter, and the devices that are connected to it.

A known device connects with a PropertiesChanged, a new one with an InterfacesAdded that says `Connected` at once. The
objects of bluetoothd vanish without a signal when it ends; NameOwnerChanged is the only one then.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from smp_dfu_host.transport.ble.bluez_adapters import (
    ADAPTER,
    ADVERTISING_MANAGER,
    GATT_MANAGER,
    Objects,
    TakenError,
    choose,
)
from smp_dfu_host.transport.ble.bluez_bus import Bus

log = logging.getLogger(__name__)

DEVICE = "org.bluez.Device1"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
DBUS = "org.freedesktop.DBus"

LEFTOVER_S = 3.0
"""Longest wait for bluetoothd to notice that a target has ended, as when it is started again at once."""
POLL_S = 0.1

WATCHED = (
    f"type='signal',sender='org.bluez',interface='{PROPERTIES}',member='PropertiesChanged'",
    f"type='signal',sender='org.bluez',interface='{OBJECTS}'",
    f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='org.bluez'",
)

Values = Mapping[str, Variant]


class Events(Protocol):
    """What the watcher tells."""

    def arrived(self, path: str) -> None:
        """Take note of a device that has connected."""
        ...

    def left(self, path: str) -> None:
        """Take note of a device that has disconnected or vanished."""
        ...

    def identified(self, path: str) -> None:
        """Take note of a device whose address is another one now."""
        ...

    def paired(self, path: str) -> None:
        """Take note of a device that is paired now, and was not before."""
        ...

    def adapter_came(self) -> None:
        """Take note that the adapter is there (again), with nothing registered on it."""
        ...

    def adapter_moved(self) -> None:
        """Take note that the adapter is there under another name."""
        ...

    def adapter_on(self) -> None:
        """Take note that the adapter was turned on; registrations have outlived its being off."""
        ...

    def adapter_went(self) -> None:
        """Take note that the adapter, or bluetoothd, is gone and all registrations with it."""
        ...


@dataclass(slots=True)
class Device:
    """What BlueZ has told about a device."""

    address: str
    connected: bool
    paired: bool


class Devices:
    """Follows the objects of one adapter.

    Args:
        wanted: Its name, such as `hci0`, or its address; empty: the first that can serve.
    """

    def __init__(self, bus: Bus, wanted: str) -> None:
        self._bus = bus
        self._wanted = wanted
        self._events: Events | None = None
        self._known: dict[str, Device] = {}
        self._named = wanted.startswith("hci")
        self._owner = ""
        self._interfaces: set[str] = set()
        self._strange: frozenset[str] = frozenset()
        """What is not counted as present, because another adapter has our one's name."""
        self.name = ""
        """The adapter's, such as `hci0`; known from `open` on."""
        self.path = ""
        """Its D-Bus path."""
        self.own_address = ""
        """Its Bluetooth address. Unless the adapter is wanted by its name, no other one takes its place."""
        self.paced = False
        """True where bluetoothd obeys advertising intervals (see bluez_advertising)."""

    @property
    def present(self) -> bool:
        """True while an application and an advertisement can be registered on the adapter."""
        return {ADAPTER, GATT_MANAGER, ADVERTISING_MANAGER} <= self._interfaces

    @property
    def owner(self) -> str:
        """The name of bluetoothd on the bus; empty while it does not run."""
        return self._owner

    @property
    def connected(self) -> frozenset[str]:
        """The devices that are connected, by path."""
        return frozenset(path for path, device in self._known.items() if device.connected)

    def gone(self, path: str) -> bool:
        """Say whether bluetoothd has told that a device is not connected (any more).

        What it had written before may still come: bluetoothd reads it from the socket behind the connection's end.
        """
        return path in self._known and not self._known[path].connected

    def paired(self, path: str) -> bool:
        """Say whether a device is paired, most likely bonded, but perhaps for this connection only."""
        return path in self._known and self._known[path].paired

    def address(self, path: str) -> str:
        """Return a device's address; bluetoothd changes it to the identity address when pairing has told it."""
        if device := self._known.get(path):
            return device.address
        return path.rpartition("dev_")[2].replace("_", ":")

    async def open(self) -> Values:
        """Begin to watch; return the adapter's properties.

        Raises:
            TransportError: If there is no bluetoothd or no such adapter, or it cannot serve.
        """
        await self._choose()
        self._bus.add_message_handler(self._signal)
        await self._bus.watch(*WATCHED)
        (objects,) = await self._bus.ask("/", f"{OBJECTS}.GetManagedObjects")
        (self._owner,) = await self._bus.ask(
            f"/{DBUS.replace('.', '/')}", f"{DBUS}.GetNameOwner", "s", "org.bluez", to=DBUS
        )
        choose(objects, self.name)
        adapter: Values = objects[self.path][ADAPTER]
        self.own_address = str(adapter["Address"].value)
        self.paced = "SupportedFeatures" in objects[self.path][ADVERTISING_MANAGER]
        for path, interfaces in objects.items():
            self._added(path, interfaces)
        return adapter

    def lost(self) -> None:
        """Take note that there is no D-Bus any more, and nothing that was there by it."""
        self._owned("")

    def follow(self, events: Events) -> None:
        """Tell of changes from now on."""
        self._events = events

    async def _choose(self) -> None:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + LEFTOVER_S
        while not self.name:
            objects: Objects
            (objects,) = await self._bus.ask("/", f"{OBJECTS}.GetManagedObjects")
            try:
                self.name = choose(objects, self._wanted, patient=clock.time() < deadline)
            except TakenError:
                if clock.time() >= deadline:
                    raise
                await asyncio.sleep(POLL_S)  # bluetoothd has no signal for it that can be relied on
        self.path = f"/org/bluez/{self.name}"

    def _signal(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.sender == DBUS:
            if message.member == "NameOwnerChanged" and message.body[0] == "org.bluez":
                self._owned(message.body[2])
        elif message.sender == self._owner:  # any local user may send us signals
            match message.member:
                case "PropertiesChanged":
                    self._changed(message.path, message.body[0], message.body[1])
                case "InterfacesAdded":
                    self._added(*message.body)
                case "InterfacesRemoved":
                    self._removed(*message.body)

    def _owned(self, owner: str) -> None:
        self._owner = owner
        log.warning("bluetoothd has %s", "started" if owner else "ended; waiting for it")
        for path in tuple(self._known):
            self._forget(path)
        before = self.present
        self._interfaces.clear()
        self._compare(before)

    def _added(self, path: str, interfaces: Mapping[str, Values]) -> None:
        if values := interfaces.get(ADAPTER):
            self._adapter_added(path, str(values["Address"].value))
        if path == self.path:
            before = self.present
            self._interfaces |= interfaces.keys() - self._strange
            self._compare(before)
        elif (values := interfaces.get(DEVICE)) and path.startswith(f"{self.path}/"):
            connected = bool(values["Connected"].value)
            self._known[path] = Device(str(values["Address"].value), connected, bool(values["Paired"].value))
            if connected and self._events:
                self._events.arrived(path)

    def _adapter_added(self, path: str, address: str) -> None:
        if path != self.path:
            if address == self.own_address and not self._named and self._events:
                self._events.adapter_moved()
            return
        if self._named:
            self.own_address = address
        self._strange = frozenset() if address == self.own_address else frozenset({ADAPTER})
        if self._strange:
            log.warning("%s is %s now; waiting for %s", self.name, address, self.own_address)

    def _removed(self, path: str, interfaces: list[str]) -> None:
        if path == self.path:
            before = self.present
            self._interfaces -= set(interfaces)
            self._compare(before)
        elif DEVICE in interfaces:
            self._forget(path)

    def _changed(self, path: str, interface: str, values: Values) -> None:
        if path == self.path and "Powered" in values and values["Powered"].value and self._events:
            self._events.adapter_on()
        if interface != DEVICE or not (device := self._known.get(path)):
            return
        if "Address" in values:
            device.address = str(values["Address"].value)
            if self._events:
                self._events.identified(path)
        if "Paired" in values:
            device.paired = bool(values["Paired"].value)
            if device.paired and self._events:
                self._events.paired(path)
        if "Connected" in values:
            device.connected = bool(values["Connected"].value)
            if self._events:
                (self._events.arrived if device.connected else self._events.left)(path)

    def _forget(self, path: str) -> None:
        if self._known.pop(path, None) and self._events:
            self._events.left(path)

    def _compare(self, before: bool) -> None:
        if self._events and self.present != before:
            (self._events.adapter_came if self.present else self._events.adapter_went)()

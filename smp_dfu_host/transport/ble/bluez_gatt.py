"""The GATT application, on bless: SMP's service and characteristic, and the advertisement.

What bless 0.3.0 lacks is overridden here, and the names are pinned by tests/transport/ble/test_bluez_contract.py:

- WriteValue passes its options on, which name the central and its MTU (bless drops them);
- flags guard the write command and the subscription too (bless maps `write_encryption_required` to neither);
- NotifyAcquired makes BlueZ ask for a socket a central (bless broadcasts by PropertiesChanged);
- Handle keeps the attribute handles, so that a phone's cache stays true (bluez doc/gatt-api.txt);
- Discoverable sets the flag without which scanners overlook the advertisement; it stays a legacy one, which every phone
  sees: the UUID in it, the name in the scan response (bluez src/advertising.c).
"""

# The annotations of D-Bus methods and properties are signatures, not types.
# mypy: disable-error-code="no-untyped-call, untyped-decorator, valid-type, name-defined, misc, override"
# mypy: disable-error-code="no-redef, attr-defined"
# ruff: noqa: F722, F821, N802

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from bless.backends.attribute import GATTAttributePermissions
from bless.backends.bluezdbus.dbus.advertisement import BlueZLEAdvertisement, Type
from bless.backends.bluezdbus.dbus.application import BlueZGattApplication
from bless.backends.bluezdbus.dbus.characteristic import BlueZGattCharacteristic, Flags
from bless.backends.bluezdbus.dbus.service import BlueZGattService
from bless.backends.bluezdbus.server import BlessServerBlueZDBus
from bless.backends.characteristic import GATTCharacteristicProperties
from dbus_next.constants import MessageType, PropertyAccess
from dbus_next.errors import DBusError, InterfaceNotFoundError
from dbus_next.message import Message
from dbus_next.service import dbus_property, method
from dbus_next.signature import Variant

from smp_dfu_host.transport.ble.advertising import Interval
from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError, bus_error
from smp_dfu_host.transport.ble.link import SMP_CHARACTERISTIC, SMP_SERVICE

log = logging.getLogger(__name__)

FLAGS = {
    "none": ["write-without-response", "notify"],
    "encrypt": ["write-without-response", "encrypt-write", "notify", "encrypt-notify"],
    "authenticate": [
        *("write-without-response", "encrypt-authenticated-write"),
        *("notify", "encrypt-authenticated-notify"),
    ],
    "secure": ["write-without-response", "secure-write", "notify", "secure-notify"],
}
"""BlueZ's flags of the SMP characteristic by `[transport.ble] security`. `encrypt-write` alone would drop an
unencrypted write command in silence; `encrypt-notify` refuses the subscription, and that makes a phone pair."""

SERVICE_HANDLE = 0x0100
"""Attribute handle of the service; beyond what bluetoothd's own services take. The declaration of the characteristic
follows."""
VALUE_HANDLE = SERVICE_HANDLE + 2
"""Handle of the characteristic's value; BlueZ wants this one, not the declaration's."""

TAKEN = "org.bluez.Error.Failed"
"""The error of an application whose handles are not to be had (bluez src/gatt-database.c, client_ready_cb)."""

Written = Callable[[bytes, Mapping[str, Variant]], None]


class Characteristic(BlueZGattCharacteristic):
    """SMP's characteristic."""

    @method()
    def WriteValue(self, value: "ay", options: "a{sv}"):  # type: ignore[no-untyped-def]
        """Pass on what a central wrote, with `device`, `mtu` and `link`; nobody would hear of an error."""
        self._service.app.on_write(bytes(value), options)

    @method()
    def StartNotify(self):  # type: ignore[no-untyped-def]
        """Note nothing: it names no central, and comes once for all of them."""

    @method()
    def StopNotify(self):  # type: ignore[no-untyped-def]
        """Note nothing, as for StartNotify."""

    @dbus_property(access=PropertyAccess.READ)
    def NotifyAcquired(self) -> "b":
        """Say that AcquireNotify is served (by `BlueZ`, which must close the passed descriptor after the answer)."""
        return False

    @dbus_property()
    def Handle(self) -> "q":
        """Return where the value lies; 0 lets bluetoothd choose and fill in its choice."""
        return self._service.app.handles[1]

    @Handle.setter
    def Handle(self, handle: "q") -> None:
        self._service.app.handles[1] = handle

    def changed(self, value: bytes, to: str) -> Message:
        """Return the signal that makes BlueZ notify every subscribed central.

        It is addressed to bluetoothd, because every local user may read a broadcast.
        """
        return Message(
            message_type=MessageType.SIGNAL,
            destination=to,
            path=self.path,
            interface="org.freedesktop.DBus.Properties",
            member="PropertiesChanged",
            signature="sa{sv}as",
            body=[self.name, {"Value": Variant("ay", value)}, []],
        )


class Service(BlueZGattService):
    """SMP's service."""

    @dbus_property()
    def Handle(self) -> "q":
        """Return where the service begins; 0 as for the characteristic."""
        return self.app.handles[0]

    @Handle.setter
    def Handle(self, handle: "q") -> None:
        self.app.handles[0] = handle

    async def add_characteristic(self, uuid: str, flags: list[Flags], value: Any) -> Characteristic:
        """Add a characteristic of our kind, with the flags that bless has no names for."""
        characteristic = Characteristic(uuid, flags, len(self.characteristics) + 1, self)
        characteristic._flags = list(self.app.flags)  # noqa: SLF001
        characteristic._value = bytes(value)  # noqa: SLF001
        self.characteristics.append(characteristic)
        await self.app._register_object(characteristic)  # noqa: SLF001
        return characteristic


class Advertisement(BlueZLEAdvertisement):
    """What is on the air while a central may connect."""

    @method()
    def Release(self):  # type: ignore[no-untyped-def]
        """Note nothing: whoever owns the registration sees the adapter or bluetoothd go."""

    @dbus_property(access=PropertyAccess.READ)
    def Discoverable(self) -> "b":
        """Set the general discoverable flag."""
        return True

    def change(self, to: Interval) -> None:
        """Have bluetoothd change the interval without a gap; it takes one end at a time, and none beyond the other."""
        ends = [("MaxInterval", to.max_ms), ("MinInterval", to.min_ms)]
        if to.max_ms < self._max_interval:
            ends.reverse()
        self._min_interval, self._max_interval = to.min_ms, to.max_ms
        for end in ends:
            self.emit_properties_changed(dict([end]))

    @dbus_property(access=PropertyAccess.READ, disabled=True)
    def TxPower(self) -> "n":
        """Leave the power to the controller."""
        return 0


class Application(BlueZGattApplication):
    """The tree of our D-Bus objects."""

    def __init__(self, name: str, bus: Bus, flags: list[str], on_write: Written) -> None:
        super().__init__(name, "org.bluez", bus)
        self.base_path = "/org/smp_dfu_host"  # bless makes an invalid path of a name without ASCII letters
        self.flags = flags
        self.on_write = on_write
        self.handles = [SERVICE_HANDLE, VALUE_HANDLE]

    async def add_service(self, uuid: str) -> Service:
        """Add a service of our kind, a primary one (bless makes only its first primary)."""
        service = Service(uuid, True, len(self.services) + 1, self)
        self.services.append(service)
        self.bus.export(service.path, service)
        return service

    def advertisement(self, interval: Interval) -> Advertisement:
        """Return the advertisement: complete local name and SMP's UUID."""
        made = Advertisement(Type.PERIPHERAL, 1, self)
        made._service_uuids = [SMP_SERVICE]  # noqa: SLF001
        made._min_interval, made._max_interval = interval.min_ms, interval.max_ms  # noqa: SLF001
        return made


class GattServer(BlessServerBlueZDBus):
    """bless's server with our application, on a bus and an adapter that are there already.

    `start` and `stop` of bless register and advertise in one step and leave much behind; here the application stays
    while the advertisement comes and goes, and both can be brought back after a restart of bluetoothd.
    """

    def __init__(self, name: str, bus: Bus, adapter_path: str, flags: list[str], on_write: Written) -> None:
        self._parts = (bus, adapter_path, Application(name, bus, flags, on_write))
        self._advertisement: Advertisement | None = None
        self._losses = 0
        self.registered = False
        """True while bluetoothd has our application."""
        super().__init__(name)

    @property
    def advertising(self) -> bool:
        """True while bluetoothd has our advertisement."""
        return self._advertisement is not None

    async def setup(self) -> None:
        """Find the adapter by its exact path (bless takes hci10 for hci1)."""
        self.bus, path, self.app = self._parts
        self.adapter = self.bus.get_proxy_object("org.bluez", path, await self.bus.introspect("org.bluez", path))

    async def populate(self) -> Characteristic:
        """Make SMP's service and return its characteristic.

        Raises:
            BusError: If bluetoothd does not describe the adapter.
        """
        properties = GATTCharacteristicProperties.write_without_response | GATTCharacteristicProperties.notify
        permissions = GATTAttributePermissions.writeable
        with translated():
            await self.add_new_service(SMP_SERVICE)
            await self.add_new_characteristic(SMP_SERVICE, SMP_CHARACTERISTIC, properties, None, permissions)
        self.bus.export(self.app.path, self.app)
        return cast("Characteristic", self.app.services[0].characteristics[0])

    async def register(self) -> None:
        """Give bluetoothd the application, at our handles or, where those are taken, at handles of its choice.

        Raises:
            BusError: If it refuses.
        """
        with self._unless_lost():
            try:
                with translated():
                    await self.app.register(self.adapter)
            except BusError as exc:
                if exc.name != TAKEN or not any(self.app.handles):
                    raise
                log.info("handles 0x%04x to 0x%04x not to be had (%s); taking others", *self.app.handles, exc)
                self.app.handles[:] = [0, 0]
                with translated():
                    await self.app.register(self.adapter)
        self.registered = True

    async def advertise(self, interval: Interval) -> None:
        """Go on the air.

        Raises:
            BusError: If bluetoothd refuses.
        """
        made = self.app.advertisement(interval)
        self.bus.export(made.path, made)
        try:
            with self._unless_lost(), translated():
                manager = self.adapter.get_interface("org.bluez.LEAdvertisingManager1")
                await manager.call_register_advertisement(made.path, {})
        except BusError:
            self.bus.unexport(made.path)
            raise
        self._advertisement = made

    def change(self, interval: Interval) -> None:
        """Stay on the air at another interval; bluetoothd hears of it soon."""
        if self._advertisement:
            self._advertisement.change(interval)

    async def hush(self) -> None:
        """Go off the air.

        Raises:
            BusError: If bluetoothd refuses; the advertisement counts as gone all the same.
        """
        if made := self._advertisement:
            self._advertisement = None
            self.bus.unexport(made.path)
            with translated():
                manager = self.adapter.get_interface("org.bluez.LEAdvertisingManager1")
                await manager.call_unregister_advertisement(made.path)

    async def withdraw(self) -> None:
        """Take everything back from bluetoothd.

        Raises:
            BusError: If it refuses.
        """
        await self.hush()
        if self.registered:
            self.registered = False
            with translated():
                await self.app.unregister(self.adapter)

    def lost(self) -> None:
        """Take note that bluetoothd or the adapter has gone and forgotten us."""
        self._losses += 1
        self.registered = False
        if made := self._advertisement:
            self._advertisement = None
            self.bus.unexport(made.path)

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        """Refuse what bluetoothd has taken and forgotten again: its answer is read after `lost` was called.

        Raises:
            BusError: If it was.
        """
        before = self._losses
        yield
        if self._losses != before:
            raise BusError("org.bluez.Error.NotReady", "bluetoothd: the adapter has gone meanwhile")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of dbus-next into ours."""
    try:
        yield
    except DBusError as exc:
        raise bus_error(exc) from exc
    except (OSError, EOFError, TimeoutError, InterfaceNotFoundError) as exc:
        raise BusError(type(exc).__name__, f"bluetoothd: {exc or 'the connection was lost'}") from exc

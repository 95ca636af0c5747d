"""A bluetoothd of our own on a private bus: enough of its D-Bus side to drive the transport without a controller.

It answers like BlueZ 5.82 (src/gatt-database.c, src/advertising.c): it reads the application's objects when one is
registered, calls WriteValue without wanting an answer, and takes AcquireNotify's socket.
"""

# mypy: disable-error-code="no-untyped-call, untyped-decorator, valid-type, name-defined, no-redef, misc"
# ruff: noqa: F722, F821, N802

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageFlag, MessageType
from dbus_next.errors import DBusError
from dbus_next.message import Message
from dbus_next.service import ServiceInterface, dbus_property, method
from dbus_next.signature import Variant

ADAPTER = "/org/bluez/hci0"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"
ADVERTISEMENT = "org.bluez.LEAdvertisement1"


class Adapter(ServiceInterface):
    """org.bluez.Adapter1."""

    def __init__(self, daemon: "Bluetoothd") -> None:
        super().__init__("org.bluez.Adapter1")
        self._daemon = daemon
        self.address = "AA:BB:CC:00:00:00"
        self.alias = "host"
        self.powered = True
        self.uuids: list[str] = []
        self.looked: Callable[[], None] = lambda: None
        """Called when somebody has read the UUIDs."""

    @dbus_property()
    def Alias(self) -> "s":
        return self.alias

    @Alias.setter
    def Alias(self, value: "s") -> None:
        self.alias = value

    @dbus_property()
    def Powered(self) -> "b":
        return self.powered

    @Powered.setter
    def Powered(self, value: "b") -> None:
        self.powered = value

    @dbus_property()
    def UUIDs(self) -> "as":
        said = list(self.uuids)
        self.looked()
        return said

    @UUIDs.setter
    def UUIDs(self, value: "as") -> None: ...

    @dbus_property()
    def AddressType(self) -> "s":
        return "public"

    @AddressType.setter
    def AddressType(self, value: "s") -> None: ...

    @dbus_property()
    def Address(self) -> "s":
        return self.address

    @Address.setter
    def Address(self, value: "s") -> None: ...

    @method()
    def RemoveDevice(self, path: "o"):  # type: ignore[no-untyped-def]
        if path not in self._daemon.devices:
            raise DBusError("org.bluez.Error.DoesNotExist", "Does Not Exist")
        self._daemon.remove(path)


class GattManager(ServiceInterface):
    """org.bluez.GattManager1."""

    def __init__(self, daemon: "Bluetoothd") -> None:
        super().__init__("org.bluez.GattManager1")
        self._daemon = daemon

    @method()
    async def RegisterApplication(self, path: "o", options: "a{sv}"):  # type: ignore[no-untyped-def]
        await self._daemon.read_application()

    @method()
    def UnregisterApplication(self, path: "o"):  # type: ignore[no-untyped-def]
        self._daemon.application = {}


class AdvertisingManager(ServiceInterface):
    """org.bluez.LEAdvertisingManager1."""

    def __init__(self, daemon: "Bluetoothd") -> None:
        super().__init__("org.bluez.LEAdvertisingManager1")
        self._daemon = daemon

    @method()
    async def RegisterAdvertisement(self, path: "o", options: "a{sv}"):  # type: ignore[no-untyped-def]
        if self._daemon.refusals:
            self._daemon.refusals -= 1
            raise DBusError("org.bluez.Error.Failed", "try again")
        self._daemon.registrations += 1
        self._daemon.advertisement = await self._daemon.properties(path, ADVERTISEMENT)
        await self._daemon.watch(path)

    @method()
    def UnregisterAdvertisement(self, path: "o"):  # type: ignore[no-untyped-def]
        self._daemon.advertisement = {}


class NewAdvertisingManager(AdvertisingManager):
    """The same where intervals are obeyed."""

    @dbus_property()
    def SupportedFeatures(self) -> "as":
        return []

    @SupportedFeatures.setter
    def SupportedFeatures(self, value: "as") -> None: ...


class AgentManager(ServiceInterface):
    """org.bluez.AgentManager1."""

    def __init__(self) -> None:
        super().__init__("org.bluez.AgentManager1")
        self.agent = ""
        self.capability = ""
        self.default = ""
        """Which is asked."""

    @method()
    def RegisterAgent(self, path: "o", capability: "s"):  # type: ignore[no-untyped-def]
        self.agent = path
        self.capability = capability

    @method()
    def UnregisterAgent(self, path: "o"):  # type: ignore[no-untyped-def]
        self.agent = ""

    @method()
    def RequestDefaultAgent(self, path: "o"):  # type: ignore[no-untyped-def]
        assert self.agent == path
        self.default = path


class Device(ServiceInterface):
    """org.bluez.Device1."""

    def __init__(self, daemon: "Bluetoothd", path: str, address: str) -> None:
        super().__init__("org.bluez.Device1")
        self._daemon = daemon
        self.path = path
        self.address = address
        self.connected = True
        self.paired = False

    @dbus_property()
    def Paired(self) -> "b":
        return self.paired

    @Paired.setter
    def Paired(self, value: "b") -> None: ...

    @dbus_property()
    def Bonded(self) -> "b":
        return self.paired

    @Bonded.setter
    def Bonded(self, value: "b") -> None: ...

    @dbus_property()
    def Alias(self) -> "s":
        return f"phone {self.address}"

    @Alias.setter
    def Alias(self, value: "s") -> None: ...

    @dbus_property()
    def Address(self) -> "s":
        return self.address

    @Address.setter
    def Address(self, value: "s") -> None: ...

    @dbus_property()
    def Connected(self) -> "b":
        return self.connected

    @Connected.setter
    def Connected(self, value: "b") -> None: ...

    @method()
    def Disconnect(self):  # type: ignore[no-untyped-def]
        self._daemon.disconnections.append(self.path)
        self._daemon.disconnect(self.path)


class Bluetoothd:
    """The daemon, and the centrals that are connected to it."""

    def __init__(self) -> None:
        self.adapter = Adapter(self)
        self.agents = AgentManager()
        self.application: dict[str, Any] = {}
        """What GetManagedObjects of the application said, with plain values."""
        self.advertisement: dict[str, Any] = {}
        """The properties of the advertisement that is on the air."""
        self.intervals: list[tuple[int, int]] = []
        """The advertising intervals that it was told while on the air."""
        self.registrations = 0
        """How many advertisements it has taken."""
        self.disconnections: list[str] = []
        """The devices that it was asked to disconnect."""
        self.refusals = 0
        """How many registrations of advertisements fail from now on."""
        self.devices: dict[str, Device] = {}
        self.notified: list[bytes] = []
        """What came by PropertiesChanged, which goes to every subscribed central."""
        self._client = ""

    async def start(self) -> None:
        self._bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
        self._bus.add_message_handler(self._message)
        await self._bus.request_name("org.bluez")
        self._bus.export("/org/bluez", self.agents)
        self._advertising: ServiceInterface = NewAdvertisingManager(self)
        self._gatt = GattManager(self)
        self.plug()

    def plug(self) -> None:
        """Have the adapter turn up."""
        for interface in (self.adapter, self._gatt, self._advertising):
            self._bus.export(ADAPTER, interface)

    def unplug(self) -> None:
        """Remove the adapter, and with it its devices and what was registered on it."""
        for path in tuple(self.devices):
            self.remove(path)
        for interface in (self._advertising, self._gatt, self.adapter):
            self._bus.unexport(ADAPTER, interface)
        self.application, self.advertisement = {}, {}

    def ignore_intervals(self) -> None:
        """Be a BlueZ that does not obey them."""
        self._bus.unexport(ADAPTER, self._advertising)
        self._bus.export(ADAPTER, AdvertisingManager(self))

    async def stop(self) -> None:
        self._bus.disconnect()
        with suppress(OSError, EOFError):  # D-Bus has ended before
            await self._bus.wait_for_disconnect()
        self._bus._stream.close()
        self._bus._sock.close()

    def connect(self, number: int) -> str:
        """Have a central connect; return its path."""
        address = f"AA:00:00:00:00:{number:02X}"
        path = f"{ADAPTER}/dev_{address.replace(':', '_')}"
        if known := self.devices.get(path):
            known.connected = True
            known.emit_properties_changed({"Connected": True})
        else:
            self.devices[path] = Device(self, path, address)
            self._bus.export(path, self.devices[path])
        return path

    def pair(self, path: str) -> None:
        """Have a central end its pairing well."""
        self.devices[path].paired = True
        self.devices[path].emit_properties_changed({"Paired": True, "Bonded": True})

    def identify(self, path: str, address: str) -> None:
        """Have pairing tell a central's identity address."""
        self.devices[path].address = address
        self.devices[path].emit_properties_changed({"Address": address})

    def disconnect(self, path: str) -> None:
        """End a connection."""
        self.devices[path].connected = False
        self.devices[path].emit_properties_changed({"Connected": False})

    def remove(self, path: str) -> None:
        """Forget a device."""
        self._bus.unexport(path, self.devices.pop(path))

    async def write(self, path: str, value: bytes, mtu: int = 247) -> None:
        """Pass on a write command of a central."""
        options = {"device": Variant("o", path), "mtu": Variant("q", mtu), "link": Variant("s", "LE")}
        await self._bus.send(
            self._call(f"{CHARACTERISTIC}.WriteValue", "aya{sv}", value, options, flags=MessageFlag.NO_REPLY_EXPECTED)
        )

    async def subscribe(self, path: str, mtu: int = 247) -> socket.socket:
        """Subscribe a central; return the socket of its notifications.

        Raises:
            ConnectionRefusedError: If it gets none.
        """
        options = {"device": Variant("o", path), "mtu": Variant("q", mtu)}
        reply = await self._bus.call(self._call(f"{CHARACTERISTIC}.AcquireNotify", "a{sv}", options))
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise ConnectionRefusedError(reply.error_name)
        sock = socket.socket(fileno=reply.unix_fds[reply.body[0]])
        sock.setblocking(False)
        return sock

    async def heard(self) -> None:
        """Return when the server has taken all that was sent to it, and we what it sent until then."""
        await self._bus.call(self._message_to("/", "org.freedesktop.DBus.Peer", "Ping", ""))

    async def ask_agent(self, member: str, signature: str, *body: object) -> str:
        """Ask the agent something; return the name of its error, or nothing."""
        message = self._message_to(self.agents.agent, "org.bluez.Agent1", member, signature, *body)
        reply = await self._bus.call(message)
        assert reply is not None
        return reply.error_name or ""

    async def read_application(self) -> None:
        """Read the objects of who registers; choose handles for those that leave them to us."""
        reply = await self._bus.call(self._message_to("/", OBJECTS, "GetManagedObjects", ""))
        assert reply is not None
        self.application = {
            path: {name: {key: variant.value for key, variant in values.items()} for name, values in held.items()}
            for path, held in reply.body[0].items()
        }

    async def watch(self, path: str) -> None:
        """Hear of changes of an object of who registers."""
        rule = f"type='signal',sender='{self._client}',path='{path}'"
        to = "org.freedesktop.DBus"
        await self._bus.call(
            Message(
                destination=to,
                path="/org/freedesktop/DBus",
                interface=to,
                member="AddMatch",
                signature="s",
                body=[rule],
            )
        )

    async def properties(self, path: str, interface: str) -> dict[str, Any]:
        """Read an object of who registers."""
        reply = await self._bus.call(
            self._message_to(path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface)
        )
        assert reply is not None
        return {name: variant.value for name, variant in reply.body[0].items()}

    @property
    def characteristic(self) -> str:
        """Path of the registered characteristic."""
        return next(path for path, held in self.application.items() if CHARACTERISTIC in held)

    def _call(self, name: str, signature: str, *body: object, **options: Any) -> Message:
        interface, member = name.rsplit(".", 1)
        return self._message_to(self.characteristic, interface, member, signature, *body, **options)

    def _message_to(
        self, path: str, interface: str, member: str, signature: str, *body: object, **options: Any
    ) -> Message:
        return Message(
            destination=self._client,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            **options,
        )

    def _message(self, message: Message) -> None:
        if message.message_type is MessageType.METHOD_CALL and message.sender:
            self._client = message.sender
        if message.member == "PropertiesChanged" and message.sender == self._client:
            interface, changed, _ = message.body
            if interface == ADVERTISEMENT:
                self._refresh({name: variant.value for name, variant in changed.items()})
            else:
                self.notified.append(changed["Value"].value)

    def _refresh(self, changed: dict[str, Any]) -> None:
        """Change the advertisement that is on the air; the kernel takes one end of the interval after the other."""
        for name, value in changed.items():
            self.advertisement[name] = value
            self.intervals.append((self.advertisement["MinInterval"], self.advertisement["MaxInterval"]))


async def private_bus(folder: str) -> tuple[asyncio.subprocess.Process, str]:
    """Start a dbus-daemon that lets everybody do everything; return it and its address."""
    address = f"unix:path={folder}/bus"
    config = os.path.join(folder, "bus.conf")
    with open(config, "w") as file:  # noqa: ASYNC230  (a few hundred bytes)
        file.write(
            f"""<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth><policy context="default">
            <allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/>
            <allow send_type="method_call"/></policy></busconfig>"""
        )
    process = await asyncio.create_subprocess_exec(
        "dbus-daemon", f"--config-file={config}", "--nofork", "--print-address", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process, address

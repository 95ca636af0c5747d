"""The names of bless and dbus-next that we override or reach into, pinned: most of them are private to those packages.

When one of these fails after an upgrade, read the new code of that package, then mend the override, then the test.
"""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from bless.backends.bluezdbus.dbus.advertisement import BlueZLEAdvertisement, Type
from bless.backends.bluezdbus.dbus.application import BlueZGattApplication
from bless.backends.bluezdbus.dbus.characteristic import BlueZGattCharacteristic
from bless.backends.bluezdbus.dbus.service import BlueZGattService
from bless.backends.bluezdbus.server import BlessServerBlueZDBus
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio import message_bus
from dbus_next.message import Message
from dbus_next.message_bus import BaseMessageBus
from dbus_next.proxy_object import BaseProxyObject
from dbus_next.service import ServiceInterface

from smp_dfu_host.transport.ble import bluez_bus, bluez_gatt

FUNCTIONS: list[tuple[Callable[..., Any], str]] = [
    (message_bus._MessageWriter.__init__, "self bus"),
    (message_bus._MessageWriter.write_callback, "self"),
    (message_bus.MessageBus.__init__, "self bus_address bus_type auth negotiate_unix_fd"),
    (message_bus._MessageWriter.buffer_message, "self msg future"),
    (message_bus.MessageBus._message_reader, "self"),
    (Unmarshaller.__init__, "self stream sock"),
    (Unmarshaller.unmarshall, "self"),
    (message_bus.MessageBus.send, "self msg"),
    (message_bus.MessageBus.call, "self msg"),
    (message_bus.MessageBus.introspect, "self bus_name path timeout"),
    (BaseMessageBus._setup_socket, "self"),
    (BaseMessageBus._finalize, "self err"),
    (BaseMessageBus._on_message, "self msg"),
    (BaseMessageBus.add_message_handler, "self handler"),
    (BaseMessageBus.export, "self path interface"),
    (BaseMessageBus.unexport, "self path interface"),
    (BaseMessageBus.get_proxy_object, "self bus_name path introspection"),
    (BaseMessageBus.disconnect, "self"),
    (BaseProxyObject.get_interface, "self name"),
    (ServiceInterface.__init__, "self name"),
    (Message._marshall, "self negotiate_unix_fd"),
    (Message.new_method_return, "msg signature body unix_fds"),
    (Message.new_error, "msg error_name error_text"),
    (BlueZGattCharacteristic.__init__, "self uuid flags index service"),
    (BlueZGattService.__init__, "self uuid primary index app"),
    (BlueZGattService.add_characteristic, "self uuid flags value"),
    (BlueZLEAdvertisement.__init__, "self advertising_type index app"),
    (BlueZGattApplication.__init__, "self name destination bus"),
    (BlueZGattApplication.add_service, "self uuid"),
    (BlueZGattApplication._register_object, "self o"),
    (BlueZGattApplication.register, "self adapter"),
    (BlueZGattApplication.unregister, "self adapter"),
    (BlessServerBlueZDBus.__init__, "self name loop kwargs"),
    (BlessServerBlueZDBus.setup, "self"),
    (BlessServerBlueZDBus.add_new_service, "self uuid"),
    (
        BlessServerBlueZDBus.add_new_characteristic,
        "self service_uuid char_uuid properties value permissions",
    ),
]
"""What we override or call, and its parameters."""


@pytest.mark.parametrize(
    ("function", "parameters"),
    FUNCTIONS,
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_a_function_that_we_override_or_call_has_the_parameters_that_we_know(
    function: Callable[..., Any], parameters: str
) -> None:
    assert list(inspect.signature(function).parameters) == parameters.split()


OURS = [
    bluez_gatt.Characteristic,
    bluez_gatt.Service,
    bluez_gatt.Advertisement,
    bluez_gatt.Application,
    bluez_gatt.GattServer,
    bluez_bus.PatientWriter,
    bluez_bus.Bus,
]


@pytest.mark.parametrize("ours", OURS)
def test_every_function_that_we_override_is_pinned_here(ours: type) -> None:
    """What bluetoothd calls is pinned by its D-Bus name instead, below."""
    pinned = {function.__qualname__ for function, _ in FUNCTIONS}
    for name, member in vars(ours).items():
        if inspect.isfunction(member) and "__DBUS_METHOD" not in member.__dict__:
            above = {base.__qualname__ for base in ours.__mro__[1:-1] if name in vars(base)}
            assert not above or {f"{base}.{name}" for base in above} & pinned, name


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (message_bus._MessageWriter.__init__, "messages negotiate_unix_fd bus sock loop buf fd offset unix_fds fut"),
        (message_bus.MessageBus.__init__, "_negotiate_unix_fd _loop _writer _disconnect_future"),
        (BaseMessageBus.__init__, "_disconnected _user_disconnect"),
        (BaseMessageBus._setup_socket, "_sock _stream _fd"),
        (BlueZGattCharacteristic.__init__, "path _flags _value _service"),
        (BlueZGattService.__init__, "path app characteristics"),
        (BlueZLEAdvertisement.__init__, "path _service_uuids _min_interval _max_interval"),
        (BlueZGattApplication.__init__, "path base_path services bus app_name"),
        (BlessServerBlueZDBus.__init__, "setup_task"),
        (BlessServerBlueZDBus.setup, "bus app adapter"),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_an_attribute_that_we_use_or_set_is_still_set_there(function: Callable[..., Any], names: str) -> None:
    source = inspect.getsource(function)
    for name in names.split():
        assert f"self.{name} =" in source or f"self.{name}:" in source, name


@pytest.mark.parametrize(
    ("ours", "methods", "properties"),
    [
        (
            bluez_gatt.Characteristic,
            {"ReadValue", "WriteValue", "StartNotify", "StopNotify"},
            {
                "UUID": "s",
                "Service": "o",
                "Value": "ay",
                "Notifying": "b",
                "Flags": "as",
                "Handle": "q",
                "NotifyAcquired": "b",
            },
        ),
        (bluez_gatt.Service, set(), {"UUID": "s", "Primary": "b", "Handle": "q"}),
        (
            bluez_gatt.Advertisement,
            {"Release"},
            {
                "Type": "s",
                "ServiceUUIDs": "as",
                "ManufacturerData": "a{qv}",
                "ServiceData": "a{sv}",
                "MaxInterval": "u",
                "MinInterval": "u",
                "LocalName": "s",
                "Discoverable": "b",
            },
        ),
    ],
)
def test_bluetoothd_sees_what_it_should_and_nothing_else(
    ours: type[ServiceInterface], methods: set[str], properties: dict[str, str]
) -> None:
    """A property too many changes what BlueZ does: WriteAcquired, or TxPower."""
    members = [getattr(ours, name) for name in dir(ours)]
    found = {
        member.fn.__name__ if hasattr(member, "fn") else member.__dict__["__DBUS_METHOD"].name
        for member in members
        if "__DBUS_METHOD" in getattr(member, "__dict__", {})
    }
    exported = {
        member.name: member.signature
        for member in members
        if "__DBUS_PROPERTY" in getattr(member, "__dict__", {}) and not member.disabled
    }
    assert found == methods
    assert exported == properties


def test_write_value_still_takes_the_options_that_name_the_central() -> None:
    theirs = inspect.signature(inspect.unwrap(BlueZGattCharacteristic.WriteValue))
    ours = inspect.signature(inspect.unwrap(bluez_gatt.Characteristic.WriteValue))
    assert [p.annotation for p in ours.parameters.values()] == [p.annotation for p in theirs.parameters.values()]


def test_every_service_is_primary_and_the_advertisement_a_peripheral() -> None:
    assert Type.PERIPHERAL.value == "peripheral"
    assert "primary: bool = index == 1" in inspect.getsource(BlueZGattApplication.add_service)


def test_the_fault_that_the_patient_writer_mends_is_still_there() -> None:
    """If dbus-next learns patience, our writer can go."""
    assert "BlockingIOError" not in inspect.getsource(message_bus._MessageWriter.write_callback)
    assert issubclass(bluez_bus.PatientWriter, message_bus._MessageWriter)


def test_versions_are_those_that_were_read() -> None:
    assert version("bless").startswith("0.3.")
    assert version("dbus-next") == "0.2.3"

"""What comes at the wrong moment: behind an end, before another beginning, or from somebody else."""

# mypy: disable-error-code="no-untyped-call"

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from dbus_next.errors import DBusError

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.bluez_gatt import SERVICE_HANDLE, VALUE_HANDLE
from smp_dfu_host.transport.ble.hci_connections import HciConnections
from tests.transport.ble.rig import HELLO, Rig, message, until

LARGE = message(bytes(60_000))
"""Hundreds of notifications: it is under way for a while."""


def configure(rig: Rig, **options: object) -> None:
    """Give the rig a transport with other options."""
    rig.transport = BleTransport(BleConfig(enabled=True, **options), "x", 2475)  # type: ignore[arg-type]
    rig.transport.connections = HciConnections(rig.controller.connect, lambda _adapter: rig.links)


async def admitted(rig: Rig, number: int) -> str:
    """Have a central connect, pair and ask; return its path."""
    path = rig.connect(number)
    rig.daemon.pair(path)
    await rig.daemon.write(path, HELLO)
    await rig.inbox.next()
    return path


def leave(rig: Rig, path: str) -> None:
    rig.connections.discard(path.rpartition("dev_")[2].replace("_", ":"))
    rig.daemon.disconnect(path)


async def end(rig: Rig) -> None:
    """End bluetoothd, and all that it knew."""
    await rig.daemon.stop()
    rig.daemon.application = {}


def handles(rig: Rig) -> list[int]:
    """Return the attribute handles of our application, in order."""
    held = (values for interfaces in rig.daemon.application.values() for values in interfaces.values())
    return sorted(values["Handle"] for values in held if "Handle" in values)


def on_air(rig: Rig) -> bool:
    return bool(rig.daemon.application and rig.daemon.advertisement)


def once(rig: Rig, instead: Callable[[], Awaitable[None]]) -> None:
    """Have the next application that is registered read in another way."""
    usual = rig.daemon.read_application

    async def read() -> None:
        rig.daemon.read_application = usual  # type: ignore[method-assign]
        await instead()

    rig.daemon.read_application = read  # type: ignore[method-assign]


@pytest.mark.parametrize("kernel_tells", [True, False])
@pytest.mark.parametrize("security", ["none", "encrypt"])
async def test_what_a_central_wrote_before_it_left_makes_no_link(rig: Rig, security: str, kernel_tells: bool) -> None:
    """bluetoothd may still read it from the socket; a link that never ends would keep everybody out for good."""
    rig.version, rig.kernel_tells = (5, 66), kernel_tells
    configure(rig, security=security)
    await rig.online()
    path = await admitted(rig, 1)
    leave(rig, path)
    await rig.daemon.write(path, HELLO)
    await rig.daemon.heard()
    await until(lambda: on_air(rig))
    assert len(rig.inbox.gone) == 1
    assert not rig.inbox.present
    rig.connect(1)
    await admitted(rig, 1)


async def test_nor_does_it_beside_another_central(rig: Rig) -> None:
    """The other one's link is encrypted, and alone in the kernel's list: it must not speak for the one that left."""
    await rig.online()
    first, second = await admitted(rig, 1), await admitted(rig, 2)
    leave(rig, first)
    await rig.daemon.write(first, HELLO)
    await rig.daemon.write(second, HELLO)
    link, _ = await rig.inbox.next()
    assert link.peer.address == "AA:00:00:00:00:02"
    assert rig.inbox.present == [link]


async def test_a_central_that_has_left_gets_no_socket(rig: Rig) -> None:
    await rig.online()
    path = await admitted(rig, 1)
    leave(rig, path)
    with pytest.raises(ConnectionRefusedError):
        await rig.daemon.subscribe(path)


async def test_an_adapter_that_goes_right_behind_its_answer_gets_everything_again(rig: Rig) -> None:
    """The answer is read after the adapter's end, and says nothing any more."""
    await rig.online()
    usual = rig.daemon.read_application

    async def answer_and_go() -> None:
        await usual()
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, go)

    def go() -> None:
        rig.daemon.unplug()
        asyncio.get_running_loop().call_later(0.1, rig.daemon.plug)

    rig.daemon.unplug()
    once(rig, answer_and_go)
    rig.daemon.plug()
    await asyncio.sleep(0.05)
    await until(lambda: on_air(rig))


@pytest.mark.parametrize(("error", "same"), [("NotReady", True), ("Failed", False)])
async def test_handles_are_given_up_only_where_they_are_taken(rig: Rig, error: str, same: bool) -> None:
    """A phone that has our handles in its cache is lost with others."""
    await rig.online()
    assert handles(rig) == [SERVICE_HANDLE, VALUE_HANDLE]

    async def refuse() -> None:
        raise DBusError(f"org.bluez.Error.{error}", "no")

    rig.daemon.unplug()
    once(rig, refuse)
    rig.daemon.plug()
    await until(lambda: on_air(rig))
    assert (handles(rig) == [SERVICE_HANDLE, VALUE_HANDLE]) is same


async def test_nor_when_bluetoothd_ends_while_they_are_registered(rig: Rig) -> None:
    await rig.online()
    await end(rig)
    once(rig, rig.daemon.stop)
    await rig.daemon.start()
    await asyncio.sleep(0.05)
    await rig.daemon.start()
    await until(lambda: on_air(rig))
    assert handles(rig) == [SERVICE_HANDLE, VALUE_HANDLE]


async def test_another_adapter_of_the_same_name_does_not_take_its_place(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    configure(rig, adapter="AA:BB:CC:00:00:00")
    await rig.online()
    rig.daemon.unplug()
    await until(lambda: "waiting for it" in caplog.text)
    rig.daemon.adapter.address = "AA:BB:CC:00:00:99"
    rig.daemon.plug()
    await until(lambda: "hci0 is AA:BB:CC:00:00:99 now; waiting for AA:BB:CC:00:00:00" in caplog.text)
    await rig.daemon.heard()
    assert not rig.daemon.application
    rig.daemon.unplug()
    rig.daemon.adapter.address = "AA:BB:CC:00:00:00"
    rig.daemon.plug()
    await until(lambda: on_air(rig))


async def test_an_adapter_that_is_wanted_by_its_name_may_be_another_one(rig: Rig) -> None:
    configure(rig, adapter="hci0")
    await rig.online()
    rig.daemon.unplug()
    rig.daemon.adapter.address = "AA:BB:CC:00:00:99"
    rig.daemon.plug()
    await until(lambda: on_air(rig))


async def test_bluetoothd_that_comes_back_with_more_att_channels_is_not_served_and_the_next_is(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """main.conf takes effect by a restart, for better or worse."""
    await rig.online()
    rig.main_conf.write_text("[GATT]\nChannels = 3\n")
    await end(rig)
    await rig.daemon.start()
    await until(lambda: "set `Channels = 1` under [GATT]" in caplog.text)
    await rig.daemon.heard()
    assert not rig.daemon.application
    assert caplog.text.count("ATT channels a connection") == 1
    rig.main_conf.write_text("[GATT]\nChannels = 1\n")
    await end(rig)
    await rig.daemon.start()
    await until(lambda: on_air(rig))


async def test_another_version_of_bluetoothd_is_served_as_it_wants(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await rig.online()
    await end(rig)
    rig.version = (5, 66)
    await rig.daemon.start()
    await until(lambda: "Bluetooth is back" in caplog.text)
    await until(lambda: on_air(rig))
    assert "BlueZ 5.66, one central at a time" in caplog.text


async def test_a_reply_does_not_go_on_over_another_subscription(rig: Rig) -> None:
    """Its rest would be taken for the beginning of a message."""
    await rig.online()
    path = await admitted(rig, 1)
    link = rig.inbox.present[0]
    sending = asyncio.create_task(link.send(LARGE))
    await until(lambda: len(rig.daemon.notified) >= 2)
    with await rig.daemon.subscribe(path) as sock:
        with pytest.raises(TransportError, match="subscription"):
            await sending
        await link.send(HELLO)
        assert sock.recv(600) == HELLO


async def test_nor_by_another_way_once_its_socket_has_closed(rig: Rig) -> None:
    await rig.online()
    path = await admitted(rig, 1)
    link = rig.inbox.present[0]
    sock = await rig.daemon.subscribe(path)
    sending = asyncio.create_task(link.send(LARGE))
    assert await asyncio.get_running_loop().sock_recv(sock, 600)
    sock.close()
    with pytest.raises(TransportError):
        await sending
    assert not rig.daemon.notified

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dbus_next.constants import MessageType
from dbus_next.errors import DBusError
from dbus_next.message import Message

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import bluez_bus
from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError, bus_error
from tests.leaks import held, released
from tests.transport.ble.bluetoothd import private_bus

needs_dbus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon: apt-get install dbus")


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.subprocess.Process]:
    process, address = await private_bus(str(tmp_path))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    yield process
    if process.returncode is None:
        process.terminate()
    await process.wait()


@pytest.fixture
async def bus(daemon: asyncio.subprocess.Process) -> AsyncIterator[Bus]:
    made = await Bus.open()
    yield made
    await made.close()


def to_itself(bus: Bus, number: int) -> Message:
    return Message(
        message_type=MessageType.SIGNAL,
        destination=str(bus.unique_name),
        path="/",
        interface="a.b",
        member="Number",
        signature="uay",
        body=[number, bytes(500)],
    )


@needs_dbus
async def test_a_burst_that_fills_the_socket_is_written_in_order(bus: Bus) -> None:
    """Stock dbus-next takes the full socket for the end of the connection (python-dbus-next issue 153)."""
    got: list[int] = []
    done = asyncio.Event()

    def heard(message: Message) -> None:
        if message.member == "Number":
            got.append(message.body[0])
            if len(got) == 3000:
                done.set()

    bus.add_message_handler(heard)
    for number in range(3000):
        bus.send(to_itself(bus, number))
    async with asyncio.timeout(20):
        await done.wait()
    assert got == list(range(3000))
    assert bus.connected


@needs_dbus
async def test_a_flood_of_messages_leaves_others_their_turn(bus: Bus) -> None:
    """Stock dbus-next goes on as long as there is one more message."""
    got: list[int] = []
    bus.add_message_handler(lambda message: got.append(message.body[0]) if message.member == "Number" else None)
    await asyncio.gather(*(bus.send(to_itself(bus, number)) for number in range(500)))
    largest = 0
    async with asyncio.timeout(20):
        while (before := len(got)) < 500:
            await asyncio.sleep(0)
            largest = max(largest, len(got) - before)
    assert 0 < largest * 500 <= bluez_bus.BYTES_A_TURN


@needs_dbus
async def test_an_error_answer_is_raised_with_its_name(bus: Bus) -> None:
    with pytest.raises(BusError, match="bluetoothd") as refused:
        await bus.ask("/", "org.freedesktop.DBus.NoSuchMethod", to="org.freedesktop.DBus")
    assert refused.value.name == "org.freedesktop.DBus.Error.UnknownMethod"


@needs_dbus
async def test_no_answer_is_an_error_after_a_while(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = await Bus.open()
    monkeypatch.setattr(bluez_bus, "ANSWER_S", 0.01)
    silent.add_message_handler(lambda message: message.member == "Silence")
    assert silent.unique_name is not None
    with pytest.raises(BusError, match=r"no answer to Silence within 0\.01 s"):
        await bus.ask("/", "a.b.Silence", to=silent.unique_name)
    await silent.close()


@needs_dbus
async def test_what_is_asked_or_sent_after_close_fails_at_once(bus: Bus) -> None:
    await bus.close()
    await bus.close()
    with pytest.raises(BusError, match="the connection was lost"):
        await bus.ask("/", "org.freedesktop.DBus.GetId", to="org.freedesktop.DBus")
    with pytest.raises(EOFError):
        await bus.send(Message.new_signal("/", "a.b", "Late"))


@needs_dbus
async def test_the_end_of_the_daemon_ends_what_waits(bus: Bus, daemon: asyncio.subprocess.Process) -> None:
    silent = await Bus.open()
    silent.add_message_handler(lambda message: message.member == "Silence")
    assert silent.unique_name is not None
    asking = asyncio.create_task(bus.ask("/", "a.b.Silence", to=silent.unique_name))
    await bus.ask("/", "org.freedesktop.DBus.GetId", to="org.freedesktop.DBus")
    daemon.kill()
    with pytest.raises(BusError, match="the connection was lost"):
        await asking
    async with asyncio.timeout(5):
        await bus.lost()
    await silent.close()


async def test_something_else_than_dbus_is_no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"REJECTED EXTERNAL\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(hang_up, tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    async with server:
        with pytest.raises(TransportError, match=r"^no system D-Bus "):
            await Bus.open()


async def test_nothing_stays_open_when_connecting_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await given_up.wait()
        writer.close()

    server = await asyncio.start_unix_server(say_nothing, tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    async with server:
        before = held()
        opening = asyncio.create_task(Bus.open())
        await asked.wait()
        opening.cancel()
        await asyncio.wait([opening])
        given_up.set()
        await released(before)
    assert opening.cancelled()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("org.freedesktop.DBus.Error.ServiceUnknown", "bluetoothd is not running; start it"),
        ("org.freedesktop.DBus.Error.NameHasNoOwner", "bluetoothd is not running; start it"),
        ("org.freedesktop.DBus.Error.Spawn.ExecFailed", "bluetoothd is not running; start it"),
        ("org.freedesktop.DBus.Error.AccessDenied", "no permission to use bluetoothd; run as root or"),
        ("org.bluez.Error.Failed", "bluetoothd: the words of it"),
    ],
)
def test_errors_say_what_to_do_where_that_is_known(name: str, text: str) -> None:
    made = bus_error(DBusError(name, "the words of it"))  # type: ignore[no-untyped-call]
    assert made.name == name
    assert str(made).startswith(text)

"""What befalls the transport from outside, on a bus that can end: each time it serves as before, and nothing leaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from smp_dfu_host.transport import ble
from tests.leaks import held, released
from tests.transport.ble.bluetoothd import Bluetoothd, private_bus
from tests.transport.ble.rig import HELLO, Rig, message, until


class SystemBus:
    """A D-Bus daemon that can be started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = ""

    async def start(self) -> None:
        self._process, self.address = await private_bus(str(self._folder))

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@pytest.fixture
async def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SystemBus]:
    monkeypatch.setattr(ble, "AGAIN_S", 0.01)
    made = SystemBus(tmp_path)
    await made.start()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
    yield made
    await made.stop()


async def serve_one(rig: Rig, number: int) -> None:
    """Have a central connect, ask and leave."""
    before = len(rig.inbox.gone)
    path = rig.connect(number)
    with await rig.daemon.subscribe(path) as sock:
        await rig.daemon.write(path, HELLO)
        link, packet = await rig.inbox.next()
        await link.send(packet)
        assert sock.recv(100) == HELLO
    rig.daemon.disconnect(path)
    rig.connections.clear()
    await until(lambda: len(rig.inbox.gone) > before)


async def end_daemon(rig: Rig) -> None:
    await rig.daemon.stop()
    rig.connections.clear()


async def begin_daemon(rig: Rig) -> None:
    rig.daemon = Bluetoothd()
    await rig.daemon.start()


async def restart_bluetoothd(rig: Rig, bus: SystemBus) -> None:
    await end_daemon(rig)
    await until(lambda: not rig.inbox.present)
    await begin_daemon(rig)


async def restart_dbus(rig: Rig, bus: SystemBus) -> None:
    await bus.stop()
    await until(lambda: not rig.inbox.present)
    await end_daemon(rig)
    await bus.start()
    await begin_daemon(rig)


async def remove_adapter(rig: Rig, bus: SystemBus) -> None:
    rig.daemon.unplug()
    rig.connections.clear()
    await until(lambda: not rig.inbox.present)
    rig.daemon.plug()


async def turn_off_and_on(rig: Rig, bus: SystemBus) -> None:
    rig.daemon.adapter.emit_properties_changed({"Powered": False})
    for path in rig.daemon.devices:
        rig.daemon.disconnect(path)
    rig.connections.clear()
    await until(lambda: not rig.inbox.present)
    rig.daemon.adapter.emit_properties_changed({"Powered": True})


async def kill_central(rig: Rig, bus: SystemBus) -> None:
    for path in rig.daemon.devices:
        rig.daemon.disconnect(path)
    rig.connections.clear()
    await until(lambda: not rig.inbox.present)


Fault = Callable[[Rig, SystemBus], Awaitable[None]]
FAULTS: list[Fault] = [restart_bluetoothd, restart_dbus, remove_adapter, turn_off_and_on, kill_central]


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_in_the_middle_of_a_message_it_serves_as_before_and_holds_no_more(
    rig: Rig, bus: SystemBus, fault: Fault
) -> None:
    await rig.online()
    for number in (1, 2):
        await serve_one(rig, number)
    before = held()
    for number in (3, 4, 5):
        path = rig.connect(number)
        with await rig.daemon.subscribe(path) as sock:
            await rig.daemon.write(path, message(bytes(300))[:100])
            await until(lambda: rig.inbox.present)
            link = rig.inbox.present[0]
            await fault(rig, bus)
            assert link.closed
            sock.close()
        await until(lambda: rig.daemon.advertisement)
        await serve_one(rig, number)
    await released(before)


async def test_dbus_that_ends_while_a_reply_is_sent_costs_that_reply_only(rig: Rig, bus: SystemBus) -> None:
    await rig.online()
    path = rig.connect()
    with await rig.daemon.subscribe(path):
        await rig.daemon.write(path, HELLO)
        link, _ = await rig.inbox.next()
        await bus.stop()
        sending = asyncio.gather(*(link.send(message(bytes(2000))) for _ in range(500)), return_exceptions=True)
        await until(lambda: link.closed)
        async with asyncio.timeout(5):
            await sending
    await end_daemon(rig)
    await bus.start()
    await begin_daemon(rig)
    await until(lambda: rig.daemon.advertisement)
    await serve_one(rig, 2)


async def test_a_target_that_is_offline_when_dbus_comes_back_stays_off_the_air(rig: Rig, bus: SystemBus) -> None:
    await rig.online()
    await rig.transport.offline()
    await restart_dbus(rig, bus)
    await until(lambda: rig.daemon.application)
    assert rig.daemon.registrations == 0
    await rig.transport.online()
    await until(lambda: rig.daemon.advertisement)


async def test_going_offline_while_dbus_is_away_takes_no_time(rig: Rig, bus: SystemBus) -> None:
    await rig.online()
    rig.connect()
    await until(lambda: rig.inbox.present)
    await bus.stop()
    await until(lambda: not rig.inbox.present)
    async with asyncio.timeout(0.4):
        await rig.transport.offline()
        await rig.transport.online()
    await end_daemon(rig)
    await bus.start()
    await begin_daemon(rig)
    await until(lambda: rig.daemon.advertisement)


async def test_closing_while_dbus_is_away_ends_everything(rig: Rig, bus: SystemBus) -> None:
    await end_daemon(rig)
    await bus.stop()
    before = held()
    await bus.start()
    await begin_daemon(rig)
    await rig.online()
    await bus.stop()
    await until(lambda: rig.transport._bluez is None)
    await rig.transport.close()
    await end_daemon(rig)
    await released(before)


async def test_the_same_adapter_is_taken_when_dbus_comes_back(
    rig: Rig, bus: SystemBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await rig.online()
    await bus.stop()
    await end_daemon(rig)
    await until(lambda: "the system D-Bus is gone" in caplog.text)
    await bus.start()
    await until(lambda: "bluetoothd is not running" in caplog.text)
    rig.daemon = Bluetoothd()
    rig.daemon.adapter.address = "AA:BB:CC:00:00:01"
    await rig.daemon.start()
    await until(lambda: "no Bluetooth adapter AA:BB:CC:00:00:00; there is hci0" in caplog.text)
    assert not rig.daemon.application
    assert caplog.text.count("bluetoothd is not running") == 1
    await rig.daemon.stop()
    await begin_daemon(rig)
    await until(lambda: rig.daemon.advertisement)


async def test_an_adapter_that_was_off_gets_its_interval_again(rig: Rig, bus: SystemBus) -> None:
    """The kernel forgets what the controller was told past it."""
    rig.daemon.ignore_intervals()
    rig.controller.wrong = None
    await rig.online()
    await until(lambda: rig.controller.sent)
    told = len(rig.controller.sent)
    rig.daemon.adapter.emit_properties_changed({"Powered": False})
    rig.daemon.adapter.emit_properties_changed({"Powered": True})
    await until(lambda: len(rig.controller.sent) > told)
    assert rig.daemon.registrations == 1


async def test_a_new_central_makes_ours_the_agent_that_is_asked_again(rig: Rig, bus: SystemBus) -> None:
    """A target on another adapter has become it meanwhile, and would refuse a central that is none of its own."""
    await rig.online()
    rig.daemon.agents.default = "/of/another"
    path = rig.connect()
    await until(lambda: rig.daemon.agents.default == rig.daemon.agents.agent)
    rig.daemon.pair(path)
    rig.daemon.disconnect(path)
    await until(lambda: rig.inbox.gone)
    rig.daemon.agents.default = "/of/another"
    await serve_one(rig, 1)
    assert rig.daemon.agents.default == "/of/another"

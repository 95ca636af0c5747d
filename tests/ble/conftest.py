"""The rig of the Bluetooth LE tests: controllers that hear each other, bluetoothd, and a transport whose inbox echoes.

Run them by `scripts/ble-vm -- .venv/bin/python -u -m pytest -m ble tests/ble`. Anywhere else they are skipped: they
take bluetoothd's devices away and restart it.
"""

import asyncio
import os
import signal
import struct
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bleak import BleakScanner

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from tests.ble import mgmt
from tests.ble.raw_central import disputes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # dbus-next's own, of things that Python 3.13 deprecates
    from smp_dfu_host.transport.ble.bluez_bus import Bus
    from smp_dfu_host.transport.ble.bluez_version import DIRECTED, Version, bluez_version
    from smp_dfu_host.transport.ble.probe import find

NAME = "SMP DFU Host"
SERVER, CENTRAL, SECOND, DUMMY = range(4)
"""Which controller is what."""
PID = Path("/run/bluetoothd.pid")
HELLO = bytes.fromhex("00 00 0001 0000 ff 06 a0")
"""The shortest message."""


def message(payload: bytes, sequence: int = 0) -> bytes:
    """A message with any payload: the inbox of these tests looks at the header alone."""
    return struct.pack(">BBHHBB", 2, 0, len(payload), 0, sequence, 0) + payload


def why_not() -> str:
    """Say what the tests lack here; empty if nothing."""
    controllers = len(list(Path("/sys/class/bluetooth").glob("hci[0-9]")))
    if not Path("/run/ble-vm").is_dir():
        return "needs the virtual machine: scripts/ble-vm -- .venv/bin/python -u -m pytest -m ble tests/ble"
    return "" if controllers >= 2 else f"needs two Bluetooth controllers, there are {controllers}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := why_not():
        for item in items:
            if item.get_closest_marker("ble"):
                item.add_marker(pytest.mark.skip(reason=reason))


class EchoInbox:
    """Sends back what comes; keeps it, too."""

    def __init__(self) -> None:
        self.packets: list[tuple[Link, bytes]] = []
        self.present: list[Link] = []
        self.echoing = True
        self._news = asyncio.Event()

    def joined(self, link: Link) -> None:
        self.present.append(link)
        self._news.set()

    def left(self, link: Link) -> None:
        self.present.remove(link)
        self._news.set()

    async def put(self, link: Link, packet: bytes) -> None:
        self.packets.append((link, packet))
        self._news.set()
        if self.echoing:
            await link.send(packet)

    def put_now(self, link: Link, packet: bytes) -> bool:
        return False

    def offer(self, link: Link, packet: bytes) -> bool:
        raise AssertionError("a stream waits")

    async def received(self, count: int, stall_s: float = 120) -> None:
        """Wait for that many packets, as long as they keep coming; bluetoothd, at real-time priority, comes first."""
        while (now := len(self.packets)) < count:
            await self.until(lambda before=now: len(self.packets) > before, stall_s)  # type: ignore[misc]

    async def until(self, true: Callable[[], bool], timeout_s: float = 10) -> None:
        """Wait until something is true of what came, who is present and so on."""
        async with asyncio.timeout(timeout_s):
            while not true():
                self._news.clear()
                await self._news.wait()


@pytest.fixture(autouse=True)
def hearing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bleak listen before it scans: btvirt's signal strength never changes, so BlueZ tells of a device once."""
    monkeypatch.setattr(
        BleakScanner,
        "find_device_by_filter",
        lambda wanted, timeout=10.0, **options: find(wanted, timeout, **options),
    )


@pytest.fixture
def inbox() -> EchoInbox:
    return EchoInbox()


@pytest.fixture
def security() -> str:
    """Overridden by tests with another one."""
    return "encrypt"


@pytest.fixture
async def transport(inbox: EchoInbox, security: str) -> AsyncIterator[BleTransport]:
    """A transport that is on the air, with no bonds left from other tests."""
    await forget_devices()
    made = BleTransport(BleConfig(enabled=True, security=security), NAME, 2475)
    await made.open(inbox)
    await made.online()
    yield made
    await made.close()


forgotten: Counter[str] = Counter()
"""How often each device was forgotten, by path."""


@pytest.fixture(autouse=True)
def explained() -> Iterator[None]:
    """Fail a test in which bluetoothd had a central's channel more often than there were pairings."""
    disputes.clear()
    forgotten.clear()
    yield
    more = {ends: count for ends, count in disputes.items() if count > 1 + forgotten.total()}
    assert not more, f"connections refused because bluetoothd had the channel, by controllers: {more}"


async def objects() -> dict[str, dict[str, dict[str, object]]]:
    """What bluetoothd has, with plain values."""
    bus = await Bus.open()
    try:
        (tree,) = await bus.ask("/", "org.freedesktop.DBus.ObjectManager.GetManagedObjects")
    finally:
        await bus.close()
    return {
        path: {name: {key: variant.value for key, variant in values.items()} for name, values in interfaces.items()}
        for path, interfaces in tree.items()
    }


async def adapter(interface: str) -> dict[str, object]:
    """The properties of an interface of the server's adapter; nothing while bluetoothd or the adapter is away."""
    try:
        return (await objects())[f"/org/bluez/hci{SERVER}"].get(interface, {})
    except (TransportError, KeyError):
        return {}


async def adapter_is_back() -> bool:
    """Tell whether the server's adapter takes registrations."""
    serves = "ActiveInstances" in await adapter("org.bluez.LEAdvertisingManager1")
    return serves and bool((await adapter("org.bluez.Adapter1")).get("Powered"))


async def forget_devices() -> None:
    """Remove every device, connected or bonded, from every adapter."""
    bus = await Bus.open()
    try:
        for path, interfaces in (await objects()).items():
            if "org.bluez.Device1" in interfaces:
                await bus.ask(path.rpartition("/")[0], "org.bluez.Adapter1.RemoveDevice", "o", path)
                forgotten[path] += 1
    finally:
        await bus.close()


async def eventually(true: Callable[[], Awaitable[bool]], timeout_s: float = 15) -> None:
    """Wait for something that has no event in this process."""
    async with asyncio.timeout(timeout_s):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def version() -> Version:
    """BlueZ's version."""
    bus = await Bus.open()
    try:
        found = await bluez_version(bus)
    finally:
        await bus.close()
    assert found
    return found


async def directed() -> bool:
    """Tell whether this BlueZ notifies one central alone; before 5.76, every notification reaches every central."""
    return await version() >= DIRECTED


async def set_powered(*, on: bool) -> None:
    """Turn the server's adapter on or off."""
    await asyncio.to_thread(mgmt.switch, SERVER, mgmt.SET_POWERED, on=on)

    async def settled() -> bool:
        return (await adapter("org.bluez.Adapter1")).get("Powered") is on

    await eventually(settled)


def runs(pid: int) -> bool:
    """Tell whether a process has not ended yet; one that nobody has waited for has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


class Daemon:
    """The bluetoothd of the rig."""

    def __init__(self) -> None:
        self._pid = int(PID.read_text())
        self._command = Path(f"/proc/{self._pid}/cmdline").read_text().split("\0")[:-1]

    def stop(self) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself, as without D-Bus
            os.kill(self._pid, signal.SIGTERM)
        while runs(self._pid):  # nobody's child, or ours: waitpid does not serve both
            time.sleep(0.01)

    @property
    def shipped_conf(self) -> Path:
        """The main.conf that came with it."""
        program = next(Path(word) for word in self._command if word.endswith("bluetoothd"))
        return program.parents[3] / "etc/bluetooth/main.conf"

    async def restart(self, conf: Path) -> Path:
        """Have it run with another main.conf; return the one that it had."""
        at = self._command.index("-f") + 1
        before, self._command[at] = Path(self._command[at]), str(conf)
        self.stop()
        self.start()
        await eventually(adapter_is_back)
        return before

    def start(self) -> None:
        """Start it with all controllers off, as they are at boot and after its own orderly end.

        When a controller is on already, as after the end of D-Bus, the kernel has its pairing channel from before, and
        sets up ATT's first at each connection (linux net/bluetooth/l2cap_core.c, l2cap_connect_cfm). bluetoothd, at
        real-time priority, then asks for encryption before the pairing channel is there, is refused ("security
        requested but not available"), and drops whoever is bonded.
        """
        for controller in mgmt.controllers():
            mgmt.switch(controller, mgmt.SET_POWERED, on=False)
        log = (os.POSIX_SPAWN_OPEN, 1, "/run/ble-vm/bluetoothd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        command = ["chrt", "-f", "10", *self._command]
        actions = [log, (os.POSIX_SPAWN_DUP2, 1, 2)]
        self._pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
        PID.write_text(str(self._pid))


@pytest.fixture
def bluetoothd() -> Daemon:
    return Daemon()

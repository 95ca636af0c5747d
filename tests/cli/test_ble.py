"""`ble`: as a process or in one, against a bluetoothd of our own on a private bus."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from smp_dfu_host.store.occupancy import occupied
from smp_dfu_host.transport.ble import status, window
from tests.cli.conftest import Cli
from tests.transport.ble.bluetoothd import Bluetoothd, private_bus

OURS, MOUSE = "AA:00:00:00:00:01", "AA:00:00:00:00:09"
SAID: dict[str, Any] = {
    "adapter": "hci0",
    "address": "AA:BB:CC:00:00:00",
    "bluez": "5.82",
    "security": "encrypt",
    "pairing": "just-works",
    "pairing_window": True,
    "advertising": True,
    "advertising_interval": "30 to 60 ms",
    "centrals": [
        {
            "address": OURS,
            "mtu": 247,
            "security": "encrypt",
            "bonded": True,
            "interval_ms": 7.5,
            "latency": 0,
        },
        {
            "address": "AA:00:00:00:00:02",
            "mtu": 23,
            "security": "none",
            "bonded": False,
            "interval_ms": None,
            "latency": None,
        },
    ],
}


class Daemon(threading.Thread):
    """bluetoothd in a loop of its own, with a central of ours and a mouse that are bonded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self.address = ""
        self.bluetoothd: Bluetoothd

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        process, self.address = await private_bus(str(self._folder))
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = self.address  # put back by the fixture
        self.bluetoothd = Bluetoothd()
        self._end = asyncio.Event()
        await self.bluetoothd.start()
        for number in (1, 9):
            self.bluetoothd.pair(self.bluetoothd.connect(number))
        self._up.set()
        await self._end.wait()
        await self.bluetoothd.stop()
        process.terminate()
        await process.wait()

    def __enter__(self) -> Self:
        self.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self.join(10)

    def bond(self, number: int) -> None:
        """Have somebody new bond."""
        self._loop.call_soon_threadsafe(lambda: self.bluetoothd.pair(self.bluetoothd.connect(number)))

    @property
    def addresses(self) -> set[str]:
        return {device.address for device in self.bluetoothd.devices.values()}


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "")
    with Daemon(tmp_path) as made:
        yield made


def write_status(cli: Cli, said: dict[str, Any], pid: int) -> None:
    cli.store.mkdir(exist_ok=True)
    written = {"pid": pid, "status": said, "bonds": {OURS: "passkey"}}
    (cli.store / status.NAME).write_text(json.dumps(written))


@pytest.fixture
def server(cli: Cli) -> Iterator[None]:
    """A server runs on the store."""
    write_status(cli, SAID, os.getpid())
    with occupied(cli.store):
        yield


def test_bonds_tells_ours_from_others(cli: Cli, daemon: Daemon, server: None) -> None:
    found = cli.json("ble", "bonds")
    assert [(bond["address"], bond["ours"], bond["made"], bond["connected"]) for bond in found] == [
        (OURS, True, "passkey", True),
        (MOUSE, False, None, True),
    ]
    text = " ".join(cli("ble", "bonds").output.split())
    assert f"phone {OURS}: bonded, by passkey, connected" in text
    assert f"phone {MOUSE}: bonded, never a central of ours, connected" in text


def test_forget_all_forgets_ours_and_leaves_the_mouse(cli: Cli, daemon: Daemon, server: None) -> None:
    assert cli("ble", "forget", "--all").output == f"forgot {OURS} (phone {OURS})\n"
    assert daemon.addresses == {MOUSE}


def test_forget_by_address_takes_anybody(cli: Cli, daemon: Daemon, server: None) -> None:
    assert cli("ble", "forget", MOUSE.lower()).exit_code == 0
    assert daemon.addresses == {OURS}
    result = cli("ble", "forget", MOUSE)
    assert (result.exit_code, result.stderr) == (1, f"smp-dfu-host: {MOUSE} is not bonded; there is {OURS}\n")
    assert cli("ble", "bonds").exit_code == 0


@pytest.mark.parametrize("arguments", [(), (OURS, "--all")])
def test_forget_wants_one_or_all(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("ble", "forget", *arguments)
    assert (result.exit_code, result.stderr) == (2, "smp-dfu-host: give an ADDRESS, or --all\n")


def test_status_of_a_running_server(cli: Cli, daemon: Daemon, server: None) -> None:
    said = cli.json("ble", "status")
    assert said["running"] is True
    assert said["centrals"] == SAID["centrals"]
    assert [bond["address"] for bond in said["bonds"]] == [OURS, MOUSE]
    text = " ".join(cli("ble", "status", columns=120).output.split())
    assert "encrypt; pairing just-works, in a window" in text
    assert "advertising every 30 to 60 ms" in text
    assert f"{OURS}, MTU 247, security encrypt, interval 7.5 ms, latency 0" in text
    assert "AA:00:00:00:00:02, MTU 23, security none" in text


@pytest.mark.parametrize("pid", [0, 1])
def test_what_a_dead_server_has_left_is_not_believed(cli: Cli, daemon: Daemon, pid: int) -> None:
    write_status(cli, SAID if pid else {}, pid)
    said = cli.json("ble", "status")
    assert said["running"] is False
    assert "centrals" not in said
    assert said["adapters"] == [{"adapter": "hci0", "address": "AA:BB:CC:00:00:00", "powered": True}]
    assert "hci0 AA:BB:CC:00:00:00, on" in cli("ble", "status").output
    assert "none with Bluetooth runs on this store" in cli("ble", "status").output


def test_pair_wants_a_server_that_lets_somebody_in(cli: Cli) -> None:
    result = cli("ble", "pair")
    assert (result.exit_code, "no server with Bluetooth runs" in result.stderr) == (1, True)
    write_status(cli, {**SAID, "pairing": "reject"}, os.getpid())
    with occupied(cli.store):
        result = cli("ble", "pair")
    assert (result.exit_code, "the server lets nobody bond" in result.stderr) == (2, True)


async def pairing(cli: Cli, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-u", "-m", "smp_dfu_host", "ble", "pair", "--config", str(cli.config), *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def test_pair_opens_the_window_says_who_bonds_and_ends_by_ctrl_c(cli: Cli, daemon: Daemon, server: None) -> None:
    process = await pairing(cli, "--for", "600")
    assert process.stdout
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"New centrals may bond for 600 s.\n"
        assert 500 < window.remaining(cli.store) <= 600
        daemon.bond(3)
        assert await process.stdout.readline() == b"bonded: AA:00:00:00:00:03 (phone AA:00:00:00:00:03)\n"
        process.send_signal(signal.SIGINT)
        assert await process.stdout.read() == b"The window is closed.\n"
        assert await process.wait() == 0
    assert window.remaining(cli.store) == 0


async def test_pair_ends_by_itself_and_says_where_no_window_is_needed(cli: Cli, daemon: Daemon) -> None:
    write_status(cli, {**SAID, "pairing_window": False}, os.getpid())
    with occupied(cli.store):
        process = await pairing(cli, "--for", "1")
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
    assert out.decode().splitlines() == [
        "The server needs no window: [transport.ble] pairing_window = false.",
        "New centrals may bond for 1 s.",
        "The window is closed.",
    ]
    assert process.returncode == 0

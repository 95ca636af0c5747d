"""The programs that the rig runs besides bluetoothd, to be ended and started again by tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.ble.conftest import adapter, eventually, objects, runs

GONE_S = 30.0
TRIES = 4


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Every process."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(entry.parent.name), entry.read_text().split("\0")[:-1]
        except FileNotFoundError:
            continue  # it has just ended


class Part:
    """A program, found by a word of its command line."""

    def __init__(self, word: str, *, real_time: bool = False) -> None:
        found = [(pid, line) for pid, line in command_lines() if any(each.endswith(word) for each in line)]
        self._pid, self._command = min(found)
        self._first = ["chrt", "-f", "10"] if real_time else []

    async def stop(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        await eventually(self._ended, GONE_S)

    async def _ended(self) -> bool:
        return not runs(self._pid)

    def start(self) -> None:
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        command = [*self._first, *self._command]
        self._pid = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet)


async def powered() -> int:
    """How many adapters bluetoothd has that are on."""
    found = (held.get("org.bluez.Adapter1", {}) for held in (await objects()).values())
    return sum(bool(each.get("Powered")) for each in found)


async def remove_controllers() -> None:
    """Have all controllers vanish and come back, under the same names and addresses."""
    controllers, count = Part("btvirt", real_time=True), await powered()
    for _ in range(TRIES):  # on a host under load, the kernel may give up on one
        await controllers.stop()

        async def gone() -> bool:
            return not await adapter("org.bluez.Adapter1")

        async def back() -> bool:
            return await powered() == count

        await eventually(gone, GONE_S)
        controllers.start()
        try:
            await eventually(back, GONE_S)
        except TimeoutError:
            continue
        return
    raise AssertionError("the controllers did not come back")

"""Which version of BlueZ runs, and with what configuration: D-Bus does not say."""

import asyncio
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError

Version = tuple[int, int]

DIRECTED: Version = (5, 76)
"""From here on a notify socket reaches its own central only (bluez src/gatt-database.c, a08ec1a4e)."""
LONG_WRITES: Version = (5, 69)
"""From here on a write command may have 512 bytes; before, more than 510 vanished."""

MAIN_CONF = Path("/etc/bluetooth/main.conf")
"""Where bluetoothd looks unless it is told another place."""

TIMEOUT_S = 10.0
"""Longest wait for a program to print its version; milliseconds, but not while a small machine boots."""


async def bluez_version(bus: Bus) -> Version | None:
    """Return the running daemon's version, such as (5, 66); None if it cannot be told."""
    for command in (await _running(bus), ["bluetoothctl", "--version"]):
        if command and (found := parse(await _output(command))):
            return found
    return None


def parse(output: str) -> Version | None:
    """Return the version in what `--version` printed."""
    match = re.search(r"\b(\d+)\.(\d+)\b", output)
    return (int(match[1]), int(match[2])) if match else None


async def main_conf_path(bus: Bus) -> Path:
    """Return where the running daemon has its configuration from (`bluetoothd -f FILE`)."""
    command = await _command(bus)
    for word, following in pairwise([*command, ""]):
        if word in ("-f", "--configfile"):
            return Path(following)
        if word.startswith("--configfile="):
            return Path(word.removeprefix("--configfile="))
    return MAIN_CONF


async def _running(bus: Bus) -> list[str]:
    """Return the command that asks the daemon's own program; only root may own org.bluez, so it can be trusted."""
    command = await _command(bus)
    program = [i for i, word in enumerate(command) if word.endswith("bluetoothd")]
    return [*command[: program[0] + 1], "--version"] if program else []


async def _command(bus: Bus) -> list[str]:
    """Return the running daemon's command line; nothing if it cannot be read."""
    try:
        owner = "org.freedesktop.DBus"
        (pid,) = await bus.ask(
            f"/{owner.replace('.', '/')}", f"{owner}.GetConnectionUnixProcessID", "s", "org.bluez", to=owner
        )
        return _command_line(pid)
    except (BusError, OSError):
        return []


def _command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")


async def _output(command: list[str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):  # it has ended just now
            process.kill()
        await process.wait()
        return ""
    return output.decode(errors="replace")

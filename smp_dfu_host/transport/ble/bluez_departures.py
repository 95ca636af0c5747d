"""Ending connections, and knowing when they have ended."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError
from smp_dfu_host.transport.ble.bluez_devices import DEVICE, Devices

log = logging.getLogger(__name__)

DROP_S = 4.0
"""Longest wait for links to fall; BlueZ takes 2 s to drop one (bluez src/device.c, DISCONNECT_TIMER)."""


class Departures:
    """Has devices of the adapter leave.

    Args:
        hang_up: Ends a connection by the device's address at once; False if it cannot, and bluetoothd must be asked.
    """

    def __init__(self, bus: Bus, devices: Devices, hang_up: Callable[[str], bool]) -> None:
        self._bus = bus
        self._devices = devices
        self._hang_up = hang_up
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def noted(self) -> None:
        """Take note that a device has left."""
        self._moved.set()

    def begin(self, path: str) -> None:
        """Begin to drop the connection to a device."""
        task = asyncio.create_task(self._disconnect(path))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drop(self, paths: frozenset[str]) -> None:
        """Drop connections; return when they are down, or after DROP_S."""
        for path in paths:
            self.begin(path)
        if not await self.gone(lambda: paths & self._devices.connected):
            still = ", ".join(map(self._devices.address, paths & self._devices.connected))
            log.warning("bluetoothd has not dropped %s within %g s", still, DROP_S)

    async def gone(self, paths: Callable[[], frozenset[str]]) -> bool:
        """Return True when those devices have left, False when they have not within DROP_S."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DROP_S):
                while paths():
                    self._moved.clear()
                    await self._moved.wait()
        return not paths()

    async def close(self) -> None:
        """Wait for no departure any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _disconnect(self, path: str) -> None:
        if self._hang_up(self._devices.address(path)):
            return  # at once; bluetoothd takes two seconds
        with suppress(BusError):  # it has left by itself
            await self._bus.ask(path, f"{DEVICE}.Disconnect")

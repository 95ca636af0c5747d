"""Pairing and security on BlueZ: what `pairing` and `security` decide, put together with who knows and who acts.

bluetoothd ─ Agent1 ─► Agent ─► Pairing ◄─ Guard ─ View ─► Devices, the kernel's list, the notes of bonds
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.transport.ble import agent, hci
from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError
from smp_dfu_host.transport.ble.bluez_devices import Devices
from smp_dfu_host.transport.ble.pairing import CAPABILITIES, JUST_WORKS, Desk, Pairing
from smp_dfu_host.transport.ble.security import Guard
from smp_dfu_host.transport.ble.status import Report

log = logging.getLogger(__name__)


class Security:
    """Who may pair with an adapter, and whose link is good enough; a `security.View`.

    Args:
        folder: The store, where the pairing window is; None: no window is ever open.
        report: Keeps the notes of bonds.
        disconnect: Begins to drop the connection of a device, by path.
    """

    def __init__(
        self,
        bus: Bus,
        devices: Devices,
        config: BleConfig,
        *,
        folder: Path | None,
        desk: Desk,
        report: Report,
        counters: Counters,
        disconnect: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._devices = devices
        self._config = config
        self._report = report
        self.disconnect = disconnect
        self._tasks: set[asyncio.Task[None]] = set()
        self._pairing = self._policy(config, folder, desk)
        clock = asyncio.get_running_loop()
        self._guard = Guard(
            config.security, config.secure_within_s, self, self._pairing, clock, counters, changed=report.changed
        )
        if self._pairing:
            bus.add_message_handler(agent.Agent(bus, lambda: devices.owner, self._pairing).called)

    def _policy(self, config: BleConfig, folder: Path | None, desk: Desk) -> Pairing | None:
        if not config.policy:
            return None
        return Pairing(
            config.policy,
            desk,
            is_central=self.may_be_central,
            address=self.address,
            drop=self.disconnect,
            window_in=(folder or Path("/nonexistent")) if config.pairing_window else None,
        )

    async def register(self) -> None:
        """Make our agent the one that is asked.

        Raises:
            BusError: If bluetoothd refuses it.
        """
        if self._pairing:
            await agent.register(self._bus, CAPABILITIES[self._config.policy])

    async def unregister(self) -> None:
        """Take the agent back; nothing to do if bluetoothd has forgotten it."""
        if self._pairing:
            await agent.unregister(self._bus)

    def close(self) -> None:
        """Watch nobody, and ask nobody anything, any more."""
        self._guard.close()

    # What happens to devices.

    def arrived(self, path: str) -> None:
        """Watch a central that has connected."""
        self._guard.arrived(path)
        if self._devices.paired(path):
            self._report.note(self.address(path), "")
        else:
            self._report.forget(self.address(path))
            self._spawn(self._be_asked())
        self._report.changed()

    def left(self, path: str) -> None:
        """Forget its connection."""
        self._guard.left(path)
        self._report.changed()

    def bonded(self, path: str) -> None:
        """Take note of a central that is paired now."""
        if not self.may_be_central(path):
            return
        self._guard.bonded(path)
        if self._pairing and (how := self._pairing.agreed(path)):
            self._report.note(self.address(path), how)

    def admits(self, path: str) -> bool:
        """Say whether what a central has written may be served."""
        return self._guard.admits(path)

    def secured(self, path: str) -> bool:
        """Say whether a central's link is secured as the level asks."""
        return self._guard.secured(path)

    def shown(self, path: str) -> str:
        """Return what is known of a link: `none`, `encrypt` or `authenticate`."""
        if not self.encrypted(path):
            return "none"
        how = (self._pairing.agreed(path) if self._pairing else "") or self.made(path)
        return "encrypt" if how in ("", JUST_WORKS) else "authenticate"

    # security.View

    def address(self, key: str) -> str:
        """Return a central's address."""
        return self._devices.address(key)

    def encrypted(self, key: str) -> bool | None:
        """Say whether a central's link is encrypted; None: the kernel does not tell."""
        if (links := hci.connections(self._devices.name)) is None:
            return None
        address = self.address(key)
        found = [link for link in links if link.address == address]
        if not found:  # the kernel learns the identity address a moment before bluetoothd tells it
            others = {self.address(path) for path in self._devices.connected if path != key}
            found = [link for link in links if link.address not in others] if len(links) == 1 else []
        return any(link.encrypted for link in found)

    def paired(self, key: str) -> bool:
        """Say whether bluetoothd has a central as paired."""
        return self._devices.paired(key)

    def made(self, key: str) -> str:
        """Return how a central's bond was made; empty if unknown."""
        return self._report.made(self.address(key))

    def remove(self, key: str) -> None:
        """Have bluetoothd forget a device, which drops its connection, too."""
        self._spawn(self._remove(key))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _be_asked(self) -> None:
        """Become the agent that is asked again: there is one for all adapters, and another target may have one, too."""
        with suppress(BusError):  # there is no bluetoothd any more
            await self.register()

    async def _remove(self, path: str) -> None:
        log.warning("ble %s: its bond is removed, nobody has agreed to it", self.address(path))
        try:
            await self._bus.ask(self._devices.path, "org.bluez.Adapter1.RemoveDevice", "o", path)
        except BusError as exc:
            log.warning("ble %s: not removed: %s", self.address(path), exc)

    def may_be_central(self, path: str) -> bool:
        """Say whether a device is a central of ours, or unknown to the kernel's list."""
        incoming = hci.incoming(self._devices.name)
        return path.startswith(f"{self._devices.path}/") and (incoming is None or self.address(path) in incoming)

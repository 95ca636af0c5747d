"""Bluetooth LE: the SMP service on BlueZ through bless.

BleTransport   what the server sees; imports the rest when it opens, so that the package works where bless does not
link           GATT to SMP and back, a link per central; knows no D-Bus
channel        the socket of a central's notifications
hci            the kernel's list of connections; hci_connections, hci_socket, hci_packets: past bluetoothd
parameters     how often a central and we speak; advertising: how often we are on the air
bluez          the adapter's GATT server: what is registered, when it advertises
bluez_notify   how replies go out; bluez_seclusion: who may hear them; bluez_departures: who has to leave
bluez_frames   what centrals write, taken out of D-Bus messages cheaply
bluez_*        what knows bless or dbus-next, besides these: bus, GATT objects, devices, version and abilities
main_conf      what bluetoothd's configuration allows to promise
security       whose link is good enough; pairing: who may pair, and how; window: when; none of them knows D-Bus
agent          what bluetoothd asks about pairings; bluez_security: all of this put together; bluez_bonds: who is bonded
status         what `ble status` shows, in the store
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.peer import Inbox
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.hci_connections import HciConnections
from smp_dfu_host.transport.ble.pairing import Desk, NobodyThere

if TYPE_CHECKING:
    from smp_dfu_host.transport.ble.bluez import BlueZ

log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""Between attempts to come back when the system D-Bus was gone."""


class BleTransport:
    """SMP over Bluetooth LE (see `transport.base.Transport`).

    Args:
        name: The device's name, advertised.
        buf_size: Largest message in either direction, in bytes.
        folder: The store, where status and pairing window are; None: nowhere.
        desk: Who is asked about pairings; nobody unless said.
        counters: What is counted: `unsecured`, requests that were not served because the link was not secured.
    """

    name = "ble"

    def __init__(
        self,
        config: BleConfig,
        name: str,
        buf_size: int,
        *,
        folder: Path | None = None,
        desk: Desk | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._desk = desk or NobodyThere()
        self._counters = Counters(unsecured=0) if counters is None else counters
        self._device_name = name
        self._buf_size = buf_size
        self._bluez: BlueZ | None = None
        self._inbox: Inbox | None = None
        self._online = False
        self._keeper: asyncio.Task[None] | None = None
        self.connections = HciConnections()
        """The centrals' connections and their parameters; nothing without CAP_NET_RAW."""

    async def open(self, inbox: Inbox) -> Mapping[str, str | int]:
        """Register with bluetoothd; return adapter and address.

        Raises:
            TransportError: If something is missing; the message says what, and what to do about it.
        """
        if self._config.security == "none":
            log.warning("Bluetooth LE without security: anybody in range can read and write the slots")
        self._bluez = bluez = await self._reach(self._config)
        self._inbox = inbox
        self._keeper = asyncio.create_task(self._keep(bluez), name="ble keeper")
        return {"adapter": bluez.adapter, "address": bluez.adapter_address}

    async def online(self) -> None:
        """Advertise, and admit centrals."""
        self._online = True
        if self._bluez and self._inbox:
            await self._bluez.online(self._inbox)

    async def offline(self) -> None:
        """Go off the air and drop every link; the application stays registered, so that handles stay."""
        self._online = False
        if self._bluez:
            await self._bluez.offline()

    async def close(self) -> None:
        """Take everything back from bluetoothd; can be called twice."""
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if bluez := self._bluez:
            self._bluez = None
            await bluez.close()

    async def _reach(self, config: BleConfig) -> "BlueZ":
        return await _bluez().open(
            config, self._device_name, self._buf_size, self._folder, self._desk, self._counters, self.connections
        )

    async def _keep(self, bluez: "BlueZ") -> None:
        """Come back by a new connection whenever all that belonged to the old one is lost."""
        while True:
            log.warning("%s, and what was registered is gone; Bluetooth begins anew", await bluez.lost())
            await bluez.close()
            self._bluez = None
            self._bluez = bluez = await self._reach_again(bluez.adapter_address)
            log.info("Bluetooth is back")
            if self._online and self._inbox:
                await bluez.online(self._inbox)

    async def _reach_again(self, address: str) -> "BlueZ":
        """Return once the same adapter serves; bluetoothd comes after D-Bus, and powers its adapters after that."""
        told = ""
        while True:
            try:
                return await self._reach(replace(self._config, adapter=address))
            except TransportError as exc:
                if told != (told := str(exc)):
                    log.info("%s; trying again every %g s", exc, AGAIN_S)
            await asyncio.sleep(AGAIN_S)


def _bluez() -> "type[BlueZ]":
    try:
        from smp_dfu_host.transport.ble.bluez import BlueZ
    except ImportError as exc:
        raise TransportError(f"Bluetooth LE needs bless and dbus-next: {exc}; install them: pip install bless") from exc
    return BlueZ

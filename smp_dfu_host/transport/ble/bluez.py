"""BlueZ: registration, advertising, input and output. Implements `link.Gatt`.

    bluetoothd ── WriteValue(value, device, mtu) ─► Centrals.written
               ◄─ Notifier ◄─ notify

Input is WriteValue, which names the central every time; AcquireWrite would mix centrals up and repeat the last packet
of a burst (bluez src/gatt-database.c, acquire_write keeps a pointer into the read buffer). Output is bluez_notify's;
who may listen meanwhile is bluez_seclusion's. What should be (registered, advertising) is brought about by
`_settle`, whatever happened before: bluetoothd restarted, the adapter unplugged, a central gone.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

from dbus_next.signature import Variant

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.peer import Inbox
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import hci
from smp_dfu_host.transport.ble.advertising import Pace
from smp_dfu_host.transport.ble.bluez_abilities import abilities
from smp_dfu_host.transport.ble.bluez_adapters import ADAPTER
from smp_dfu_host.transport.ble.bluez_advertising import Advertiser
from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError
from smp_dfu_host.transport.ble.bluez_departures import Departures
from smp_dfu_host.transport.ble.bluez_devices import PROPERTIES, Devices, Values
from smp_dfu_host.transport.ble.bluez_gatt import FLAGS, GattServer
from smp_dfu_host.transport.ble.bluez_notify import Notifier
from smp_dfu_host.transport.ble.bluez_seclusion import Seclusion
from smp_dfu_host.transport.ble.bluez_security import Security
from smp_dfu_host.transport.ble.bluez_status import status
from smp_dfu_host.transport.ble.hci_connections import HciConnections
from smp_dfu_host.transport.ble.link import MIN_MTU, Centrals, Limits
from smp_dfu_host.transport.ble.pairing import Desk
from smp_dfu_host.transport.ble.status import Report, Status

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Between attempts to register again."""
UNFIT_S = 10.0
"""Between looks at a bluetoothd that is not to be served, or whose version could not be told in time."""


class BlueZ:
    """The SMP GATT server on one adapter; made by `open`, which returns once the application is registered.

    Args:
        name: The device's, advertised.
        buf_size: Largest message in either direction, in bytes.
        folder: The store, for status and pairing window; None: neither is there.
        desk: Who is asked about pairings.
        counters: What is counted.
        connections: The way past bluetoothd, opened here.
    """

    def __init__(
        self,
        bus: Bus,
        config: BleConfig,
        name: str,
        buf_size: int,
        folder: Path | None,
        desk: Desk,
        counters: Counters,
        connections: HciConnections,
    ) -> None:
        self._bus = bus
        self._config = config
        self._name = name
        self._buf_size = buf_size
        self._devices = Devices(bus, config.adapter)
        self._report = Report(folder, self._status, asyncio.get_running_loop())
        self._around = (folder, desk, counters)
        self._connections = connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling = asyncio.Lock()
        self._wake = asyncio.Event()
        self._departures = Departures(bus, self._devices, connections.hang_up)
        self._pace = Pace(asyncio.get_running_loop(), self._wake.set)
        self._online = False
        self._outdated = asyncio.Event()
        self._asked = ""
        self._fit = True
        self._told = ""

    @classmethod
    async def open(
        cls,
        config: BleConfig,
        name: str,
        buf_size: int,
        folder: Path | None,
        desk: Desk,
        counters: Counters,
        connections: HciConnections,
    ) -> "BlueZ":
        """Connect to bluetoothd and register the application.

        Raises:
            TransportError: If something is missing; the message says what, and what to do about it.
        """
        self = cls(await Bus.open(), config, name, buf_size, folder, desk, counters, connections)
        try:
            await self._start()
        except BaseException:
            await self._bus.close()
            raise
        return self

    async def _start(self) -> None:
        adapter = await self._devices.open()
        alias = str(adapter["Alias"].value)
        self._alias = "" if alias == self._name else alias  # ours is a leftover; empty means the system's name
        self._asked = self._devices.owner
        self._able = able = await abilities(self._bus)
        log.info("%s, on %s", able, self._devices.name)
        if able.private:
            log.warning("Privacy is on in main.conf: phones do not know a target again whose address changes")
        limits = Limits(self._buf_size, self._config.max_fragment, able.longest_write)
        self._centrals = Centrals(self, limits, single=not able.directed, changed=self._wake.set)
        folder, desk, counters = self._around
        self._security = Security(
            self._bus,
            self._devices,
            self._config,
            folder=folder,
            desk=desk,
            report=self._report,
            counters=counters,
            disconnect=self.disconnect,
        )
        flags = FLAGS[self._config.security]
        self._server = GattServer(self._name, self._bus, self._devices.path, flags, self._written)
        public = "AddressType" in adapter and adapter["AddressType"].value == "public"
        direct = public and not able.private
        self._advertiser = Advertiser(
            self._server, self._connections, self._pace, obeyed=self._devices.paced, direct=direct
        )
        self._seclusion = Seclusion(
            self._centrals,
            self._devices,
            self._departures,
            is_central=self._security.may_be_central,
            hidden=lambda: not (self._settling.locked() or self._server.advertising),
            hide=self._try_to_settle,
        )
        characteristic = await self._server.populate()
        self._notifier = Notifier(self._bus, characteristic, self._devices, self._seclusion, directed=able.directed)
        self._bus.add_message_handler(self._notifier.called)
        self._bus.take_writes(characteristic.path, self._written)
        self._devices.follow(self)
        await self._settle()
        self._connections.open(self._devices.name, self._report.changed)
        self._spawn(self._keep())

    @property
    def adapter(self) -> str:
        """The adapter's name, such as `hci0`."""
        return self._devices.name

    @property
    def adapter_address(self) -> str:
        """The adapter's Bluetooth address."""
        return self._devices.own_address

    # What the transport asks for.

    async def lost(self) -> str:
        """Return, when all must be made anew, why; only `close` is of use then."""
        ends = [asyncio.create_task(self._bus.lost()), asyncio.create_task(self._outdated.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if self._bus.connected:
            return "bluetoothd or the adapter is another one"
        self._devices.lost()
        return "the system D-Bus is gone"

    async def online(self, inbox: Inbox) -> None:
        """Advertise and admit centrals; a failure is logged and retried."""
        self._online = True
        self._pace.hurry()
        self._centrals.open(inbox)
        for path in self._devices.connected:
            self.arrived(path)
        await self._try_to_settle()

    async def offline(self) -> None:
        """Stop advertising and drop every central; returns when the links are down, or after departures.DROP_S."""
        self._online = False
        paths = frozenset(filter(self._is_central, self._devices.connected)) | frozenset(self._centrals.keys)
        self._close_links()
        await self._try_to_settle()
        await self._departures.drop(paths)

    async def close(self) -> None:
        """Give everything back; can be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._departures.close()
        self._online = False
        self._pace.stop()
        self._connections.close()
        self._close_links()
        self._security.close()
        self._report.close()
        if self._bus.connected and self._devices.owner:
            with suppress(BusError):
                await self._server.withdraw()
                await self._security.unregister()
                await self._rename(self._alias)
        await self._bus.close()

    # link.Gatt

    def address(self, key: str) -> str:
        """Return a central's address."""
        return self._devices.address(key)

    async def notify(self, key: str, value: bytes) -> None:
        """Send one notification to one central.

        Raises:
            TransportError: If it cannot be reached, or not without others.
        """
        await self._notifier.notify(key, value)

    def way(self, key: str) -> object:
        """Return a central's notification socket, if it has one."""
        return self._notifier.way(key)

    def notify_now(self, key: str, value: bytes) -> bool:
        """Send one notification to one central if nothing must be waited for."""
        return self._notifier.notify_now(key, value)

    def disconnect(self, key: str) -> None:
        """Begin to drop the connection to a central."""
        self._departures.begin(key)

    # bluez_devices.Events

    def arrived(self, path: str) -> None:
        """Give a central its link; other devices of the adapter are none of ours."""
        if self._is_central(path) and self._centrals.connected(path):
            self._security.arrived(path)

    def left(self, path: str) -> None:
        """End the link; a central that left may be back in a moment."""
        if path in self._centrals.keys:
            self._pace.hurry()
        self._departures.noted()
        self._notifier.forget(path)
        self._centrals.disconnected(path)
        self._security.left(path)
        self._connections.refresh()

    def identified(self, path: str) -> None:
        """Tell the link its central's identity."""
        self._centrals.identified(path)

    def paired(self, path: str) -> None:
        """See whether it should be."""
        self._security.bonded(path)

    def adapter_came(self) -> None:
        """Register again."""
        self._connections.open(self._devices.name, self._report.changed)
        self._wake.set()

    def adapter_moved(self) -> None:
        """Begin anew: much of what was made knows the adapter by its name."""
        self._outdated.set()

    def adapter_on(self) -> None:
        """Be on the air as before; the kernel has kept the advertisement, but not an interval that it was not told."""
        self._pace.hurry()
        self._advertiser.forgotten()
        self._wake.set()

    def adapter_went(self) -> None:
        """Forget what was registered."""
        log.warning("Bluetooth adapter %s has gone; waiting for it", self._devices.name)
        self._connections.close()
        self._server.lost()

    # Input: what bluetoothd calls.

    def _written(self, value: bytes, options: Values) -> None:
        if "device" not in options:
            log.warning("dropped %d bytes that bluetoothd ascribes to nobody", len(value))
            return
        path = options["device"].value
        if self._devices.gone(path):
            log.debug("ble %s: dropped %d bytes, it has disconnected", self.address(path), len(value))
        elif self._security.admits(path):
            self._centrals.written(path, value, options["mtu"].value if "mtu" in options else MIN_MTU)

    def _is_central(self, path: str) -> bool:
        incoming = hci.incoming(self._devices.name)
        return incoming is not None and self.address(path) in incoming

    def _status(self) -> Status:
        return status(
            self._config,
            self._devices,
            self.adapter_address,
            self._able.version,
            self._centrals,
            self._security,
            self._advertiser.interval,
            self._connections.parameters,
        )

    # What should be, and bringing it about.

    async def _keep(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._try_to_settle()

    async def _try_to_settle(self) -> None:
        try:
            await self._settle()
        except BusError as exc:
            log.warning("%s; trying again in %g s", exc, RETRY_S)
            asyncio.get_running_loop().call_later(RETRY_S, self._wake.set)
        except TransportError as exc:
            self._asked = ""
            if self._told != (told := str(exc)):
                self._told = told
                log.error("%s", exc)  # noqa: TRY400  (no fault of the code)
            asyncio.get_running_loop().call_later(UNFIT_S, self._wake.set)

    async def _settle(self) -> None:
        async with self._settling:
            if not self._devices.present or not await self._as_before():
                return
            if not self._server.registered:
                await self._register()
            await self._advertiser.settle(wanted=self._online and not self._centrals.full)
        self._report.changed()

    async def _as_before(self) -> bool:
        """Say whether this bluetoothd can promise what the one could for which all was made.

        Raises:
            TransportError: If it does not keep the order; nothing is registered with it.
        """
        if (owner := self._devices.owner) != self._asked:
            self._asked, self._fit = owner, False
            self._fit = await abilities(self._bus) == self._able
            if not self._fit:
                self._outdated.set()
            self._told = ""
        return self._fit

    async def _register(self) -> None:
        await self._security.register()
        await self._rename(self._name)
        await self._server.register()

    async def _rename(self, alias: str) -> None:
        """Set the adapter's alias, which a central reads as the device's name once it is connected."""
        await self._bus.ask(self._devices.path, f"{PROPERTIES}.Set", "ssv", ADAPTER, "Alias", Variant("s", alias))

    def _close_links(self) -> None:
        self._centrals.close()
        self._notifier.close()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""BlueZ: registration, advertising, input and output. Implements `link.Gatt`.

    bluetoothd ── WriteValue(value, device, mtu) ─────────────► Centrals.written
               ── AcquireNotify(device) ─► a socket for that central ◄─ notify
               ◄─ PropertiesChanged(Value): every subscribed central ◄─ notify, without a socket

Input is WriteValue, which names the central every time; AcquireWrite would mix centrals up and repeat the last packet
of a burst (bluez src/gatt-database.c, acquire_write keeps a pointer into the read buffer). Output is AcquireNotify's
socket. A bonded central that comes back is subscribed already and opens none; PropertiesChanged reaches it, and is
used while it is the only central. What should be (registered, advertising) is brought about by `_settle`, whatever
happened before: bluetoothd restarted, the adapter unplugged, a central gone.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress

from dbus_next.message import Message
from dbus_next.signature import Variant

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.peer import Inbox
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import agent, hci
from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError
from smp_dfu_host.transport.ble.bluez_devices import ADAPTER, DEVICE, PROPERTIES, Devices, Values
from smp_dfu_host.transport.ble.bluez_gatt import FLAGS, GattServer
from smp_dfu_host.transport.ble.bluez_version import DIRECTED, LONG_WRITES, bluez_version
from smp_dfu_host.transport.ble.channel import Channel
from smp_dfu_host.transport.ble.link import MAX_VALUE, MIN_MTU, Centrals, Limits

log = logging.getLogger(__name__)

OLD_LONGEST_WRITE = 510
"""Bytes; see LONG_WRITES."""
RETRY_S = 1.0
"""Between attempts to register again."""
DROP_S = 4.0
"""Longest wait for links to fall; BlueZ takes 2 s to drop one (bluez src/device.c, DISCONNECT_TIMER)."""


class BlueZ:
    """The SMP GATT server on one adapter; made by `open`, which returns once the application is registered."""

    def __init__(self, bus: Bus, config: BleConfig, name: str, buf_size: int) -> None:
        self._bus = bus
        self._config = config
        self._name = name
        self._buf_size = buf_size
        self._devices = Devices(bus, config.adapter)
        self._channels: dict[str, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling = asyncio.Lock()
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._online = False
        self.adapter_address = ""
        """The adapter's Bluetooth address."""

    @classmethod
    async def open(cls, config: BleConfig, name: str, buf_size: int) -> "BlueZ":
        """Connect to bluetoothd and register the application.

        Raises:
            TransportError: If something is missing; the message says what, and what to do about it.
        """
        self = cls(await Bus.open(), config, name, buf_size)
        try:
            await self._start()
        except BaseException:
            await self._bus.close()
            raise
        return self

    async def _start(self) -> None:
        adapter = await self._devices.open()
        self.adapter_address = str(adapter["Address"].value)
        alias = str(adapter["Alias"].value)
        self._alias = "" if alias == self._name else alias  # ours is a leftover; empty means the system's name
        self._centrals = await self._admission()
        flags = FLAGS[self._config.security]
        self._server = GattServer(self._name, self._bus, self._devices.path, flags, self._written)
        self._characteristic = await self._server.populate()
        self._bus.export(agent.PATH, agent.Agent(self._welcome))
        self._bus.add_message_handler(self._called)
        self._devices.follow(self)
        await self._settle()
        self._spawn(self._keep())
        self._spawn(self._mourn())

    async def _admission(self) -> Centrals:
        version = await bluez_version(self._bus)
        shown = ".".join(map(str, version)) if version else "of unknown version"
        single = version is None or version < DIRECTED
        how = "one central at a time" if single else "several centrals"
        log.info("BlueZ %s on %s, %s", shown, self._config.adapter, how)
        longest_write = MAX_VALUE if version and version >= LONG_WRITES else OLD_LONGEST_WRITE
        limits = Limits(self._buf_size, self._config.max_fragment, longest_write)
        return Centrals(self, limits, single=single, changed=self._wake.set)

    # What the transport asks for.

    async def online(self, inbox: Inbox) -> None:
        """Advertise and admit centrals; a failure is logged and retried."""
        self._online = True
        self._centrals.open(inbox)
        for path in self._devices.connected:
            self.arrived(path)
        await self._try_to_settle()

    async def offline(self) -> None:
        """Stop advertising and drop every central; returns when the links are down, or after DROP_S."""
        self._online = False
        paths = frozenset(filter(self._is_central, self._devices.connected)) | frozenset(self._centrals.keys)
        self._close_links()
        await self._try_to_settle()
        await self._drop(paths)

    async def close(self) -> None:
        """Give everything back; can be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._online = False
        self._close_links()
        if self._bus.connected and self._devices.owner:
            with suppress(BusError):
                await self._server.withdraw()
                await agent.unregister(self._bus)
                await self._rename(self._alias)
        await self._bus.close()

    # link.Gatt

    def address(self, key: str) -> str:
        """Return a central's address."""
        return self._devices.address(key)

    async def notify(self, key: str, value: bytes) -> None:
        """Send one notification to one central.

        Raises:
            TransportError: If it has no socket of its own and others are connected, who would hear it too.
        """
        if channel := self._channels.get(key):
            await channel.send(value)
            return
        if self._centrals.keys != (key,):
            self.disconnect(key)
            raise TransportError(
                f"ble {self.address(key)}: dropped, bluetoothd cannot notify it alone beside other centrals"
            )
        try:
            await self._bus.send(self._characteristic.changed(value, self._devices.owner))
        except (OSError, EOFError) as exc:
            raise TransportError(f"ble {self.address(key)}: {exc}") from exc

    def disconnect(self, key: str) -> None:
        """Begin to drop the connection to a central."""
        self._spawn(self._disconnect(key))

    # bluez_devices.Events

    def arrived(self, path: str) -> None:
        """Give a central its link; other devices of the adapter are none of ours."""
        if self._is_central(path):
            self._centrals.connected(path)

    def left(self, path: str) -> None:
        """End the link."""
        self._moved.set()
        if channel := self._channels.pop(path, None):
            channel.close()
        self._centrals.disconnected(path)

    def identified(self, path: str) -> None:
        """Tell the link its central's identity."""
        self._centrals.identified(path)

    def adapter_came(self) -> None:
        """Register again."""
        self._wake.set()

    def adapter_went(self) -> None:
        """Forget what was registered."""
        log.warning("Bluetooth adapter %s has gone; waiting for it", self._config.adapter)
        self._server.lost()

    # Input: what bluetoothd calls.

    def _written(self, value: bytes, options: Values) -> None:
        if "device" not in options:
            log.warning("dropped %d bytes that bluetoothd ascribes to nobody", len(value))
            return
        mtu = options["mtu"].value if "mtu" in options else MIN_MTU
        self._centrals.written(options["device"].value, value, mtu)

    def _called(self, message: Message) -> bool:
        """Take AcquireNotify: dbus-next's own dispatch would leave the passed descriptor open."""
        if message.member != "AcquireNotify" or message.path != self._characteristic.path:
            return False
        options: Values = message.body[0]
        path = options["device"].value
        self._centrals.subscribed(path)
        if old := self._channels.pop(path, None):
            old.close()
        channel = self._channels[path] = Channel(lambda ended: self._channel_ended(path, ended))
        mtu = options["mtu"].value if "mtu" in options else MIN_MTU
        self._bus.answer(message, "hq", [0, mtu], [channel.theirs.fileno()])
        channel.passed()
        return True

    def _channel_ended(self, path: str, channel: Channel) -> None:
        """Fall back to PropertiesChanged: the central unsubscribed, or another one left (BlueZ issue 1452)."""
        if self._channels.get(path) is channel:
            del self._channels[path]
            log.debug("ble %s: notify socket closed", self.address(path))

    def _is_central(self, path: str) -> bool:
        incoming = hci.incoming(self._config.adapter)
        return incoming is not None and self.address(path) in incoming

    def _welcome(self, path: str) -> bool:
        """Say whether a device may pair: a central of ours, or unknown to the kernel's list."""
        incoming = hci.incoming(self._config.adapter)
        return path.startswith(f"{self._devices.path}/") and (incoming is None or self.address(path) in incoming)

    # What should be, and bringing it about.

    async def _keep(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._try_to_settle()

    async def _mourn(self) -> None:
        await self._bus.lost()
        log.error("the system D-Bus is gone; there is no Bluetooth until the server is started again")
        self._close_links()

    async def _try_to_settle(self) -> None:
        try:
            await self._settle()
        except BusError as exc:
            log.warning("%s; trying again in %g s", exc, RETRY_S)
            asyncio.get_running_loop().call_later(RETRY_S, self._wake.set)

    async def _settle(self) -> None:
        async with self._settling:
            if not self._devices.present:
                return
            if not self._server.registered:
                await self._register()
            wanted = self._online and not self._centrals.full
            if wanted and not self._server.advertising:
                await self._server.advertise()
            elif not wanted and self._server.advertising:
                await self._server.hush()

    async def _register(self) -> None:
        if self._config.security != "none":
            await agent.register(self._bus)
        await self._rename(self._name)
        await self._server.register()

    async def _rename(self, alias: str) -> None:
        """Set the adapter's alias, which a central reads as the device's name once it is connected."""
        await self._bus.ask(self._devices.path, f"{PROPERTIES}.Set", "ssv", ADAPTER, "Alias", Variant("s", alias))

    async def _drop(self, paths: frozenset[str]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DROP_S):
                await asyncio.gather(*map(self._disconnect, paths))
                while paths & self._devices.connected:
                    self._moved.clear()
                    await self._moved.wait()
        if still := paths & self._devices.connected:
            log.warning("bluetoothd has not dropped %s within %g s", ", ".join(map(self.address, still)), DROP_S)

    async def _disconnect(self, path: str) -> None:
        with suppress(BusError):  # it has left by itself
            await self._bus.ask(path, f"{DEVICE}.Disconnect")

    def _close_links(self) -> None:
        self._centrals.close()
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

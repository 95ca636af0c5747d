"""Output: every notification reaches one central, or is not sent.

    BlueZ 5.76 and later   the central has a socket ─► its own socket ─► this central
    otherwise              once it is alone         ─► a socket, or PropertiesChanged ─► every subscribed central

A central gets its socket when it subscribes (AcquireNotify). One that comes back bonded is subscribed already, and
opens none (bluez src/gatt-database.c, gatt_ccc_write_cb); nor has one whose socket bluetoothd closed when another
central left (BlueZ issue 1452). PropertiesChanged reaches those, and everybody else: so it is sent while nobody else is
connected and nobody can come in, and no more of it than bluetoothd takes.
"""

# mypy: disable-error-code="no-untyped-call"

import logging
from collections.abc import Awaitable
from typing import Protocol

from dbus_next.message import Message

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_bus import Bus
from smp_dfu_host.transport.ble.bluez_devices import Devices
from smp_dfu_host.transport.ble.bluez_gatt import Characteristic
from smp_dfu_host.transport.ble.channel import Channel
from smp_dfu_host.transport.ble.link import MIN_MTU

log = logging.getLogger(__name__)

PING = "org.freedesktop.DBus.Peer.Ping"
UNASKED = 16
"""So many PropertiesChanged go out before bluetoothd is asked whether it has taken them: the bus itself would keep
megabytes for it, and an answer for each costs more than the notification."""
REFUSED = "org.bluez.Error.Failed"
"""The error of AcquireNotify that makes bluetoothd try nothing else."""


class Policy(Protocol):
    """Who may hear what."""

    def subscribed(self, path: str) -> bool:
        """Take note of a subscription; False if the central is none of ours."""
        ...

    def is_alone(self, path: str) -> bool:
        """Say whether that central is the only one now, and stays so as long as it has no socket."""
        ...

    def alone(self, path: str) -> Awaitable[None]:
        """Return once that central is the only one, and stays so as long as it has no socket.

        Raises:
            TransportError: If it is not the only one.
        """
        ...


class Notifier:
    """The ways to the centrals.

    Args:
        directed: True where a socket reaches its own central only (`bluez_version.DIRECTED`).
    """

    def __init__(
        self, bus: Bus, characteristic: Characteristic, devices: Devices, policy: Policy, *, directed: bool
    ) -> None:
        self._bus = bus
        self._characteristic = characteristic
        self._devices = devices
        self._policy = policy
        self._directed = directed
        self._channels: dict[str, Channel] = {}
        self._unasked = 0

    def notify_now(self, path: str, value: bytes) -> bool:
        """Send one notification to one central if nothing must be waited for; False: nothing was sent."""
        channel = self._channels.get(path)
        if channel is None or not (self._directed or self._policy.is_alone(path)):
            return False
        return channel.send_now(value)

    def way(self, path: str) -> Channel | None:
        """Return a central's socket; None: it has none."""
        return self._channels.get(path)

    async def notify(self, path: str, value: bytes) -> None:
        """Send one notification to one central; return when the next may follow.

        Raises:
            TransportError: If it cannot be reached, or not without others, or subscribes anew before it is sent.
        """
        channel = self._channels.get(path)
        if not (self._directed and channel):
            await self._policy.alone(path)
        if self._channels.get(path) is not channel:
            raise TransportError(f"ble {self._devices.address(path)}: its subscription has just changed")
        if channel:
            await channel.send(value)
        else:
            await self._broadcast(path, value)

    async def _broadcast(self, path: str, value: bytes) -> None:
        try:
            await self._bus.send(self._characteristic.changed(value, self._devices.owner))
        except (OSError, EOFError) as exc:
            raise TransportError(f"ble {self._devices.address(path)}: {exc}") from exc
        self._unasked += 1
        if self._unasked == UNASKED:
            self._unasked = 0
            await self._bus.ask("/", PING)

    def called(self, message: Message) -> bool:
        """Take AcquireNotify: dbus-next's own dispatch would leave the passed descriptor open."""
        if message.member != "AcquireNotify" or message.path != self._characteristic.path:
            return False
        options = message.body[0]
        path = options["device"].value
        if self._devices.gone(path) or not self._policy.subscribed(path):
            self._bus.send(Message.new_error(message, REFUSED, "not connected"))
            return True
        self.forget(path)
        channel = self._channels[path] = Channel(lambda ended: self._ended(path, ended))
        mtu = options["mtu"].value if "mtu" in options else MIN_MTU
        self._bus.answer(message, "hq", [0, mtu], [channel.theirs.fileno()])
        channel.passed()
        return True

    def _ended(self, path: str, channel: Channel) -> None:
        """Fall back to PropertiesChanged: the central unsubscribed, or another one left (BlueZ issue 1452)."""
        if self._channels.get(path) is channel:
            del self._channels[path]
            log.info("ble %s: bluetoothd has closed its notification socket", self._devices.address(path))

    def forget(self, path: str) -> None:
        """Close a central's socket, if it has one."""
        if channel := self._channels.pop(path, None):
            channel.close()

    def close(self) -> None:
        """Close every socket."""
        for path in tuple(self._channels):
            self.forget(path)

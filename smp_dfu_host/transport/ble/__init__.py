"""Bluetooth LE: the SMP service on BlueZ through bless.

BleTransport   what the server sees; imports the rest when it opens, so that the package works where bless does not
link           GATT to SMP and back, a link per central; knows no D-Bus
channel, hci   the socket of a central's notifications; the kernel's list of connections
bluez          policy: who is admitted, how replies go out, what is registered
bluez_*        what knows bless or dbus-next, besides it: bus, GATT objects, devices, version
agent          pairing
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.peer import Inbox
from smp_dfu_host.errors import TransportError

if TYPE_CHECKING:
    from smp_dfu_host.transport.ble.bluez import BlueZ

log = logging.getLogger(__name__)


class BleTransport:
    """SMP over Bluetooth LE (see `transport.base.Transport`).

    Args:
        name: The device's name, advertised.
        buf_size: Largest message in either direction, in bytes.
    """

    name = "ble"

    def __init__(self, config: BleConfig, name: str, buf_size: int) -> None:
        self._config = config
        self._device_name = name
        self._buf_size = buf_size
        self._bluez: BlueZ | None = None
        self._inbox: Inbox | None = None

    async def open(self, inbox: Inbox) -> Mapping[str, str | int]:
        """Register with bluetoothd; return adapter and address.

        Raises:
            TransportError: If something is missing; the message says what, and what to do about it.
        """
        if self._config.security == "none":
            log.warning("Bluetooth LE without security: anybody in range can read and write the slots")
        self._bluez = await _bluez().open(self._config, self._device_name, self._buf_size)
        self._inbox = inbox
        return {"adapter": self._config.adapter, "address": self._bluez.adapter_address}

    async def online(self) -> None:
        """Advertise, and admit centrals."""
        if self._bluez and self._inbox:
            await self._bluez.online(self._inbox)

    async def offline(self) -> None:
        """Go off the air and drop every link; the application stays registered, so that handles stay."""
        if self._bluez:
            await self._bluez.offline()

    async def close(self) -> None:
        """Take everything back from bluetoothd; can be called twice."""
        if bluez := self._bluez:
            self._bluez = None
            await bluez.close()


def _bluez() -> "type[BlueZ]":
    try:
        from smp_dfu_host.transport.ble.bluez import BlueZ
    except ImportError as exc:
        raise TransportError(f"Bluetooth LE needs bless and dbus-next: {exc}; install them: pip install bless") from exc
    return BlueZ

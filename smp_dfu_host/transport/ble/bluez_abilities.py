"""What the running BlueZ can promise, by its version and its configuration."""

from dataclasses import dataclass

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_bus import Bus
from smp_dfu_host.transport.ble.bluez_version import DIRECTED, LONG_WRITES, Version, bluez_version, main_conf_path
from smp_dfu_host.transport.ble.link import MAX_VALUE
from smp_dfu_host.transport.ble.main_conf import channels, main_conf

OLD_LONGEST_WRITE = 510
"""Bytes; see LONG_WRITES."""

REORDERED = (
    "{count} ATT channels a connection: what is written and notified could overtake itself; "
    "set `Channels = 1` under [GATT] in {path}, then systemctl restart bluetooth"
)
"""Why EATT is refused; see main_conf."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What follows from the version; one that is not known counts as an old one."""

    version: Version | None
    private: bool = False
    """True where main.conf has the adapter hide its address."""

    @property
    def directed(self) -> bool:
        """True where a notification can reach one central alone."""
        return self.version is not None and self.version >= DIRECTED

    @property
    def longest_write(self) -> int:
        """Longest write command that is not lost, in bytes."""
        return MAX_VALUE if self.version and self.version >= LONG_WRITES else OLD_LONGEST_WRITE

    def __str__(self) -> str:
        shown = ".".join(map(str, self.version)) if self.version else "of unknown version"
        return f"BlueZ {shown}, {'several centrals' if self.directed else 'one central at a time'}"


async def abilities(bus: Bus) -> Abilities:
    """Return what the running BlueZ can promise.

    Raises:
        TransportError: If it does not even keep the order; the message names the setting.
    """
    version = await bluez_version(bus)
    path = await main_conf_path(bus)
    conf = main_conf(path)
    if (count := channels(conf, version)) > 1:
        raise TransportError(REORDERED.format(count=count, path=path))
    return Abilities(version, conf.get("General", {}).get("Privacy", "off") not in ("off", "false"))

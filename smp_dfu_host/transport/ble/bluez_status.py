"""What `ble status` shows, gathered from those who know it."""

from collections.abc import Mapping

from smp_dfu_host.config import BleConfig
from smp_dfu_host.transport.ble.advertising import Interval
from smp_dfu_host.transport.ble.bluez_devices import Devices
from smp_dfu_host.transport.ble.bluez_security import Security
from smp_dfu_host.transport.ble.bluez_version import Version
from smp_dfu_host.transport.ble.link import Centrals
from smp_dfu_host.transport.ble.parameters import Parameters
from smp_dfu_host.transport.ble.status import Central, Status


def status(
    config: BleConfig,
    devices: Devices,
    address: str,
    version: Version | None,
    centrals: Centrals,
    security: Security,
    advertising: Interval | None,
    parameters: Mapping[str, Parameters],
) -> Status:
    """Return what is the case now.

    Args:
        config: What was asked for.
        devices: Who is there.
        address: The adapter's.
        version: BlueZ's.
        centrals: Ours.
        security: Theirs.
        advertising: None while off the air.
        parameters: What is known to be in force, by the central's address.
    """
    return Status(
        adapter=devices.name,
        address=address,
        bluez=".".join(map(str, version)) if version else "",
        security=config.security,
        pairing=config.policy,
        pairing_window=config.pairing_window,
        advertising=advertising is not None,
        advertising_interval=str(advertising or ""),
        centrals=tuple(
            _central(key, devices, centrals, security, parameters.get(devices.address(key))) for key in centrals.keys
        ),
    )


def _central(key: str, devices: Devices, centrals: Centrals, security: Security, now: Parameters | None) -> Central:
    return Central(
        devices.address(key),
        centrals.mtu(key),
        security.shown(key),
        devices.paired(key),
        now.interval_ms if now else None,
        now.latency if now else None,
    )

"""What the options that decide between modules may be together (nrf-desktop-dfu.md section 7)."""

import logging

from smp_dfu_host.config import Config
from smp_dfu_host.errors import ConfigError

log = logging.getLogger(__name__)


def transports(config: Config) -> tuple[str, ...]:
    """Return which transports are on: `ble`, `udp`, `serial`."""
    transport = config.transport
    on = {
        "ble": transport.ble.enabled,
        "udp": transport.udp.enabled,
        "serial": transport.serial.device is not None or transport.serial.pty is not None,
    }
    return tuple(name for name, enabled in on.items() if enabled)


def check(config: Config) -> None:
    """Check the options of both modules, and log a warning about what is allowed but unwise.

    Raises:
        ConfigError: If no transport is on.
    """
    on = transports(config)
    if not on:
        wanted = "transport.ble.enabled, transport.udp.enabled, transport.serial.pty or transport.serial.device"
        raise ConfigError(f"no transport is on: set {wanted}")
    if config.smp.module == "dfu" and not config.dfu.lock and len(on) > 1:
        log.warning("dfu.lock = false with %s: uploads of two peers can get mixed", " and ".join(on))


def confirms(config: Config) -> bool:
    """Return whether the running image is confirmed at start.

    In direct-xip mode the boot loader boots the higher version and nothing is ever confirmed
    (CONFIG_DESKTOP_DFU_MCUMGR_MCUBOOT_DIRECT_XIP).
    """
    return config.dfu.confirm_at_start and config.bootloader.mode != "direct-xip"

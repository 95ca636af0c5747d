"""What bluetoothd's configuration says (bluez src/main.conf), as far as it decides what a peripheral can promise.

With more than one ATT channel (EATT) to a central, what it writes comes in by several sockets of bluetoothd, and what
is notified goes out by any of them: both may be overtaken by what was sent later, D-Bus does not say which channel was
used, and a fragment in SMP has no number. So the order can neither be seen nor put right; one channel keeps it.
"""

import configparser
from collections.abc import Mapping
from pathlib import Path

from smp_dfu_host.transport.ble.bluez_version import Version

ONE_CHANNEL: Version = (5, 67)
"""From here on one ATT channel is the default; before, three (bluez src/main.c, init_defaults)."""

Conf = Mapping[str, Mapping[str, str]]
"""Values by section and key."""


def main_conf(path: Path) -> Conf:
    """Return what main.conf says; nothing if it cannot be read."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # BlueZ's keys are case-sensitive
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        return {}
    return {section: dict(parser.items(section)) for section in parser.sections()}


def channels(conf: Conf, version: Version | None) -> int:
    """Return how many ATT channels a connection may have; a version that is not known counts as an old one."""
    default = 1 if version and version >= ONE_CHANNEL else 3
    try:
        return int(conf.get("GATT", {})["Channels"])
    except (KeyError, TypeError, ValueError):
        return default

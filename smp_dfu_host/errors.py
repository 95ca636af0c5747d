"""Every error that crosses a layer, in one tree.

    SmpHostError
    ├── WireError       no whole message: dropped, counted, logged; never answered
    ├── Refusal         a request that we will not serve: becomes the answer
    │   ├── MgmtError   {"rc": n} in both protocol versions
    │   └── GroupError  {"err": {"group": g, "rc": n}}, or {"rc": translated} for a version-0 request
    ├── StoreError      image, slot, flash, lock file: each group maps them in one table
    ├── TransportError  a link or a whole transport is lost; the server goes on
    ├── ConfigError     the command line prints one line, exit status 2
    └── PluginError     the same

Messages are lower-case and name the value and the limit. Foreign exceptions stop at the file that called the
foreign code and come out as one of these.
"""

from collections.abc import Mapping
from enum import IntEnum


class Rc(IntEnum):
    """MCUmgr's global codes (zephyr include/zephyr/mgmt/mcumgr/mgmt/mgmt_defines.h, enum mcumgr_err_t)."""

    OK = 0
    EUNKNOWN = 1
    ENOMEM = 2
    EINVAL = 3
    ETIMEOUT = 4
    ENOENT = 5
    EBADSTATE = 6
    EMSGSIZE = 7
    ENOTSUP = 8
    ECORRUPT = 9
    EBUSY = 10
    EACCESSDENIED = 11
    UNSUPPORTED_TOO_OLD = 12
    UNSUPPORTED_TOO_NEW = 13
    EPERUSER = 256


class SmpHostError(Exception):
    """Root of all errors of this package."""


class WireError(SmpHostError):
    """Bytes that hold no message: fewer than eight, or a broken console line. Never answered."""


class Refusal(SmpHostError):  # noqa: N818  (it says what it is)
    """A request that is answered with an error."""


class MgmtError(Refusal):
    """A refusal by SMP itself: answered with a bare `rc` in both protocol versions."""

    def __init__(self, rc: Rc | int, reason: str = "") -> None:
        super().__init__(reason or f"rc {int(rc)}")
        self.rc = int(rc)
        """Global code; 256 and up is the application's own."""
        self.reason = reason
        """Why, for the log."""


class GroupError(Refusal):
    """A refusal by a command, in its group's own codes."""

    def __init__(
        self, group: int, rc: int, reason: str = "", rsn: str | None = None, beside: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(reason or f"group {group} rc {rc}")
        self.group = group
        """The group that defines `rc`; it need not be the group asked."""
        self.rc = int(rc)
        self.reason = reason
        """Why, for the log."""
        self.rsn = rsn
        """Text that goes out beside a version-0 `rc`, or None (smp-protocol.md section 3)."""
        self.beside = beside or {}
        """Fields that go out beside the `err` map of version 1."""


class StoreError(SmpHostError):
    """An image, a slot, the flash or the store's files do not allow what was asked."""


class TransportError(SmpHostError):
    """A link is gone, or a transport cannot start; the message says what is missing and what to do."""


class ConfigError(SmpHostError):
    """The configuration cannot be used; the message names the option, the value and the limit."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option
        """Whose fault it is: an option's dotted name, such as `flash.slots[1]`, or its section's; empty: unknown."""


class PluginError(SmpHostError):
    """An entry point cannot be loaded or is not what its group of entry points wants."""

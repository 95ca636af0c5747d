"""The pairing agent: "just works" for the centrals that connected to us, nobody else.

BlueZ calls it for pairings that come in (bluez doc/agent-api.txt). Without input or output the only question that it
can be asked is whether the pairing is welcome. Of the devices of this adapter only LE centrals are, so that a laptop
does not accept other devices in silence while a target runs on it.
"""

# The annotations of D-Bus methods are signatures, not types.
# mypy: disable-error-code="no-untyped-call, untyped-decorator, valid-type, name-defined"
# ruff: noqa: F821, N802

import logging
from collections.abc import Callable
from contextlib import suppress

from dbus_next.errors import DBusError
from dbus_next.service import ServiceInterface, method

from smp_dfu_host.transport.ble.bluez_bus import Bus, BusError

log = logging.getLogger(__name__)

PATH = "/org/smp_dfu_host/agent"
MANAGER = "org.bluez.AgentManager1"
REJECTED = "org.bluez.Error.Rejected"


class Agent(ServiceInterface):
    """org.bluez.Agent1 with the capability NoInputNoOutput.

    Args:
        welcome: Says whether the device of that D-Bus path may pair.
    """

    def __init__(self, welcome: Callable[[str], bool]) -> None:
        super().__init__("org.bluez.Agent1")
        self._welcome = welcome

    @method()
    def Release(self):  # type: ignore[no-untyped-def]
        """Note nothing: bluetoothd ends, and is watched elsewhere."""

    @method()
    def Cancel(self):  # type: ignore[no-untyped-def]
        """Note nothing: every question is answered at once."""

    @method()
    def RequestAuthorization(self, device: "o"):  # type: ignore[no-untyped-def]
        """Accept the pairing of a central."""
        if not self._welcome(device):
            log.warning("pairing of %s refused: it is no central of ours", device)
            raise DBusError(REJECTED, "not a central of the SMP server")
        log.info("pairing with %s accepted (just works)", device)

    @method()
    def AuthorizeService(self, device: "o", uuid: "s"):  # type: ignore[no-untyped-def]
        """Refuse connections to profiles of classic Bluetooth: none is ours."""
        raise DBusError(REJECTED, "not a service of the SMP server")


async def register(bus: Bus) -> None:
    """Make the exported agent the one that BlueZ asks.

    Raises:
        BusError: If bluetoothd refuses it.
    """
    try:
        await bus.ask("/org/bluez", f"{MANAGER}.RegisterAgent", "os", PATH, "NoInputNoOutput")
    except BusError as exc:
        if not exc.name.endswith("AlreadyExists"):
            raise
    await bus.ask("/org/bluez", f"{MANAGER}.RequestDefaultAgent", "o", PATH)


async def unregister(bus: Bus) -> None:
    """Take the agent back; nothing to do if bluetoothd has forgotten it."""
    with suppress(BusError):
        await bus.ask("/org/bluez", f"{MANAGER}.UnregisterAgent", "o", PATH)

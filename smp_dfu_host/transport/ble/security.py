"""Whether a link is secured as `[transport.ble] security` asks: bluetoothd sees to it, and this checks it again.

bluetoothd refuses writes and subscriptions on a link that lacks what the characteristic's flags demand, and it knows
the link's exact level from its own L2CAP socket (bluez src/gatt-database.c). From outside less can be known:

- that a link is encrypted now: the kernel's list of connections says it to everybody. Where it cannot be asked, the
  device must be paired, which is less: a bond is not yet an encrypted link.
- how the key was made: as the agent was asked, or has noted of earlier connections. A key that is known to be
  just-works does not pass as authenticated. Of a bond older than our notes, and of whether Secure Connections made the
  key, nothing is known; there bluetoothd's flags alone decide. (HCIGETAUTHINFO speaks of classic links only;
  bluetoothd's key files are not for others to read.)
- that somebody here agreed to a new bond (`pairing.Pairing.unasked`).

What was secured stays so until the link falls: Bluetooth LE cannot turn encryption off.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smp_dfu_host.dispatch.clock import Clock, Timer
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.transport.ble.pairing import JUST_WORKS, Pairing

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Between looks at a link that is not secured yet: neither kernel nor bluetoothd announce it."""


class View(Protocol):
    """What can be known of a central, who is named by a key."""

    def address(self, key: str) -> str:
        """Return its address."""
        ...

    def encrypted(self, key: str) -> bool | None:
        """Say whether its link is encrypted; None: the kernel does not tell."""
        ...

    def paired(self, key: str) -> bool:
        """Say whether bluetoothd has it as paired."""
        ...

    def made(self, key: str) -> str:
        """Return how its bond was made on an earlier connection; empty if unknown."""
        ...

    def disconnect(self, key: str) -> None:
        """Begin to drop its connection."""
        ...

    def remove(self, key: str) -> None:
        """Have bluetoothd forget it, which drops its connection, too."""
        ...


@dataclass(slots=True)
class _Connection:
    """One connection of a central."""

    was_paired: bool
    """It had paired before this connection."""
    deadline: float
    """When it must have secured the link."""
    timer: Timer | None = None
    secured: bool = False
    scolded: bool = False
    """It was logged that its requests are dropped."""
    denied: bool = False
    """It has paired although nobody here may have agreed, and is being removed."""


class Guard:
    """Watches over the links of one adapter.

    Args:
        level: `none`, `encrypt`, `authenticate` or `secure`.
        within_s: How long a link may stay unsecured.
        pairing: Who may pair; None at level `none`, where bluetoothd's own agent decides.
        counters: `unsecured` counts the requests that were not served.
        changed: Called when a link has become secured, or a central bonded.
    """

    def __init__(
        self,
        level: str,
        within_s: float,
        view: View,
        pairing: Pairing | None,
        clock: Clock,
        counters: Counters,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._level = level
        self._within_s = within_s
        self._view = view
        self._pairing = pairing
        self._clock = clock
        self._counters = counters
        self._changed = changed
        self._connections: dict[str, _Connection] = {}

    def arrived(self, key: str) -> None:
        """Watch a new connection of a central."""
        if self._level == "none":
            return
        self._unwatch(key)
        deadline = self._clock.time() + self._within_s
        self._connections[key] = _Connection(self._view.paired(key), deadline)
        self._again(key)

    def left(self, key: str) -> None:
        """Forget a connection."""
        if self._pairing:
            self._pairing.left(key)
        connection = self._unwatch(key)
        if connection and connection.was_paired and not connection.secured:
            self._lost_bond(key, "left without encrypting the link")

    def bonded(self, key: str) -> None:
        """Take note that bluetoothd has a central as paired now; undo it if nobody here may have agreed."""
        connection = self._connections.get(key)
        if connection and not connection.was_paired and not self._agrees(key, connection):
            return
        if self._pairing:
            self._pairing.bonded(key)
            if how := self._pairing.agreed(key):
                log.info("ble %s: bonded (%s)", self._view.address(key), how)
        self._changed()

    def secured(self, key: str) -> bool:
        """Say whether a central's link is secured as the level asks; always true at level `none`."""
        if self._level == "none":
            return True
        if key not in self._connections:
            self.arrived(key)
        connection = self._connections[key]
        if not connection.secured and self._meets(key, connection):
            connection.secured = True
            self._changed()
        return connection.secured

    def admits(self, key: str) -> bool:
        """Say whether what a central has written may be served; count and log it if not."""
        if self.secured(key):
            return True
        self._counters["unsecured"] += 1
        connection = self._connections[key]
        if not connection.scolded:
            connection.scolded = True
            wanted = f"[transport.ble] security = {self._level}"
            log.warning("ble %s: requests dropped, the link is not secured as %s asks", self._name(key), wanted)
        return False

    def close(self) -> None:
        """Watch nobody any more."""
        for key in tuple(self._connections):
            self._unwatch(key)
        if self._pairing:
            self._pairing.cancel()

    def _unwatch(self, key: str) -> _Connection | None:
        connection = self._connections.pop(key, None)
        if connection and connection.timer:
            connection.timer.cancel()
        return connection

    def _meets(self, key: str, connection: _Connection) -> bool:
        encrypted = self._view.encrypted(key)
        if not (self._view.paired(key) if encrypted is None else encrypted):
            return False
        if not connection.was_paired and not self._agrees(key, connection):
            return False
        return self._level == "encrypt" or self._made(key) != JUST_WORKS

    def _made(self, key: str) -> str:
        return (self._pairing.agreed(key) if self._pairing else "") or self._view.made(key)

    def _agrees(self, key: str, connection: _Connection) -> bool:
        if not connection.denied and self._pairing and self._pairing.unasked(key):
            connection.denied = True
            self._view.remove(key)
        return not connection.denied

    def _again(self, key: str) -> None:
        """Look at a link until it is secured, or its time is over."""
        connection = self._connections[key]
        if self.secured(key):
            return
        if (left_s := connection.deadline - self._clock.time()) > 0:
            connection.timer = self._clock.call_later(min(LOOK_S, left_s), self._again, key)
            return
        log.warning("ble %s: disconnected, link not secured within %g s", self._name(key), self._within_s)
        if connection.was_paired:
            self._lost_bond(key, "has not encrypted the link")
            connection.was_paired = False  # said once is enough
        self._view.disconnect(key)

    def _lost_bond(self, key: str, what: str) -> None:
        address = self._name(key)
        log.warning(
            "ble %s: is bonded here, but %s; if it has forgotten the bond, forget it here, too: "
            "smp-dfu-host ble forget %s, then pair again",
            address,
            what,
            address,
        )

    def _name(self, key: str) -> str:
        return self._view.address(key)

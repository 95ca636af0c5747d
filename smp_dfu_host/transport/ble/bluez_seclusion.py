"""Who may hear what: a notification that reaches every subscribed central waits until there is only one.

A central without a socket of its own (see bluez_notify) keeps everybody else out as long as it is there: advertising
stops, and who slips in is disconnected. Beside others it is disconnected itself. Nothing of it leaks either way: the
command that brings advertising back follows the last notification on the same D-Bus connection.
"""

import logging
from collections.abc import Awaitable, Callable

from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble.bluez_departures import Departures
from smp_dfu_host.transport.ble.bluez_devices import Devices
from smp_dfu_host.transport.ble.link import BleLink, Centrals

log = logging.getLogger(__name__)


class Seclusion:
    """Decides who hears what; the `bluez_notify.Policy`.

    Args:
        is_central: Says whether a connected device may be a central, by path.
        hidden: Says whether nobody can connect: neither advertising nor about to.
        hide: Stops advertising while `Centrals.full`.
    """

    def __init__(
        self,
        centrals: Centrals,
        devices: Devices,
        departures: Departures,
        *,
        is_central: Callable[[str], bool],
        hidden: Callable[[], bool],
        hide: Callable[[], Awaitable[None]],
    ) -> None:
        self._centrals = centrals
        self._devices = devices
        self._departures = departures
        self._is_central = is_central
        self._hidden = hidden
        self._hide = hide

    def subscribed(self, path: str) -> bool:
        """Give a central that subscribes its link; False if it is refused."""
        return self._centrals.subscribed(path)

    def is_alone(self, path: str) -> bool:
        """Say whether a central is the only one and nobody else can connect."""
        return self._centrals.reserve(path) is not None and self._hidden() and not self._besides(path)

    async def alone(self, path: str) -> None:
        """Return once a central is the only one and nobody else can connect.

        Raises:
            TransportError: If others have links already: this one is disconnected, to come back when they have left; or
                if it has left itself, or others do not.
        """
        link = self._reserved(path)
        if self.is_alone(path):
            return
        await self._hide()
        if not await self._departures.gone(lambda: self._besides(path)) or self._reserved(path) is not link:
            raise self._unheard(path)

    def _reserved(self, path: str) -> BleLink:
        if link := self._centrals.reserve(path):
            return link
        log.warning(
            "ble %s: disconnected, it has no notification socket, and the other centrals would hear its replies",
            self._devices.address(path),
        )
        self._departures.begin(path)
        raise self._unheard(path)

    def _unheard(self, path: str) -> TransportError:
        return TransportError(f"ble {self._devices.address(path)}: not notified, others would hear it")

    def _besides(self, path: str) -> frozenset[str]:
        """Return the centrals that are connected besides one, with a link or not."""
        return frozenset(filter(self._is_central, self._devices.connected - {path}))

"""The connections of an adapter, their parameters, and what can be asked of their centrals past bluetoothd.

    kernel's list ─► who is connected ◄─ Connection Complete, Disconnection Complete ─┐
    ask ─► LE Connection Update ─► controller ─► central ─► Update Complete ──────────┴─► Watcher

BlueZ offers a peripheral no way to do this: the kernel sends one request after connecting, by main.conf's values, and
its Load Connection Parameters acts for the central's role only (linux net/bluetooth/mgmt.c).
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping

from smp_dfu_host.transport.ble import hci
from smp_dfu_host.transport.ble.advertising import Interval
from smp_dfu_host.transport.ble.hci_packets import (
    Connected,
    Disconnected,
    Taken,
    Updated,
    advertising_commands,
    disconnect_command,
    parse,
    reason,
    update_command,
)
from smp_dfu_host.transport.ble.hci_socket import Controller, HciSocket
from smp_dfu_host.transport.ble.parameters import Parameters, Request, Watcher

log = logging.getLogger(__name__)

NO_RAW = (
    "no permission for raw HCI: connection parameters are not known, and centrals are not asked for a fast link; "
    "give CAP_NET_RAW (README, Without root)"
)

Listed = Callable[[str], tuple[hci.Connection, ...] | None]
"""Returns the kernel's list of an adapter's connections."""


class HciConnections:
    """Who is connected, by handle.

    Args:
        connect: Opens the way to a controller; tests pass their own.
        listed: The kernel's list; tests pass their own.
    """

    def __init__(
        self,
        connect: Callable[[str, Callable[[bytes], None]], Controller] = HciSocket,
        listed: Listed = hci.connections,
    ) -> None:
        self._connect = connect
        self._listed = listed
        self._controller: Controller | None = None
        self._watchers: list[Watcher] = []
        self._addresses: dict[int, str] = {}
        self._parameters: dict[int, Parameters] = {}
        self._sent: deque[int] = deque()
        """Handles of requests that the controller has not taken yet, in order."""
        self._asked: set[int] = set()
        """Handles of requests that the central has not answered yet."""
        self._told = False
        self._adapter = ""
        self._changed: Callable[[], None] = lambda: None

    @property
    def parameters(self) -> Mapping[str, Parameters]:
        """What is known to be in force, by the central's address."""
        return {self._addresses[handle]: each for handle, each in self._parameters.items()}

    def watch(self, watcher: Watcher) -> None:
        """Tell of changes from now on."""
        self._watchers.append(watcher)

    def open(self, adapter: str, changed: Callable[[], None]) -> None:
        """Begin with an adapter; without permission, say so once and do nothing.

        Args:
            adapter: Its name, such as `hci0`.
            changed: Called when `parameters` have changed.
        """
        self.close()
        self._adapter, self._changed = adapter, changed
        try:
            self._controller = self._connect(adapter, self._heard)
        except PermissionError:
            if not self._told:
                log.warning(NO_RAW)
            self._told = True
        except OSError as exc:
            log.info("%s: no raw HCI: %s", adapter, exc.strerror)
        self.refresh()

    def close(self) -> None:
        """End; can be called twice."""
        if self._controller:
            self._controller.close()
            self._controller = None
        self.refresh()

    def refresh(self) -> None:
        """Read the kernel's list again: an adapter that is turned off says nothing of the links that it drops."""
        there = self._listed(self._adapter) or () if self._controller else ()
        now = {each.handle: each.address for each in there}
        for handle in self._addresses.keys() - now.keys():
            self._remove(handle)
        for handle, address in now.items():
            if handle not in self._addresses:
                self._add(handle, address, None)
            self._addresses[handle] = address

    def secured(self, handle: int) -> bool:
        """Return whether a link is encrypted now."""
        return any(each.handle == handle and each.encrypted for each in self._listed(self._adapter) or ())

    def address(self, handle: int) -> str:
        """Return a central's address; the identity address once the kernel knows it."""
        return self._addresses[handle]

    def handle(self, address: str) -> int | None:
        """Return the connection of a central, None if it has none that can be asked."""
        if address not in self._addresses.values():
            self.refresh()  # pairing may have told another address
        return next((handle for handle, each in self._addresses.items() if each == address), None)

    def ask(self, handle: int, request: Request) -> None:
        """Ask a central for other parameters; `Watcher.updated` or `refused` follows, of a mute central neither."""
        if self._send(update_command(handle, request)):
            log.debug("ble %s: asked for %s", self._addresses.get(handle), request)
            self._sent.append(handle)
            self._asked.add(handle)

    def hang_up(self, address: str) -> bool:
        """End a central's connection at once; False if that cannot be done here."""
        handle = self.handle(address) if self._controller else None
        return handle is not None and self._send(disconnect_command(handle))

    def advertise(self, interval: Interval) -> bool:
        """Have the controller, which advertises, do it at that interval; False if it cannot be told."""
        return all(self._send(command) for command in advertising_commands(interval))

    def _send(self, packet: bytes) -> bool:
        if self._controller is None:
            return False
        try:
            self._controller.send(packet)
        except OSError as exc:
            log.debug("%s: HCI command not taken: %s", self._adapter, exc.strerror)
            return False
        return True

    def _heard(self, packet: bytes) -> None:
        match parse(packet):
            case Connected(handle, address, parameters):
                self._remove(handle)
                self._add(handle, address, parameters)
            case Disconnected(handle, _):
                self._remove(handle)
            case Updated(handle, status, parameters):
                self._updated(handle, status, parameters)
            case Taken(status) if self._sent:
                handle = self._sent.popleft()
                if status:
                    self._refused(handle, status)
            case _:
                pass

    def _updated(self, handle: int, status: int, parameters: Parameters) -> None:
        if handle not in self._addresses:
            return  # of a connection that we made ourselves
        if status:
            self._refused(handle, status)
            return
        self._asked.discard(handle)
        self._parameters[handle] = parameters
        log.debug("ble %s: %s", self._addresses[handle], parameters)
        for watcher in self._watchers:
            watcher.updated(handle, parameters)
        self._changed()

    def _refused(self, handle: int, status: int) -> None:
        if handle in self._asked and handle in self._addresses:
            self._asked.discard(handle)
            for watcher in self._watchers:
                watcher.refused(handle, reason(status))

    def _add(self, handle: int, address: str, parameters: Parameters | None) -> None:
        self._addresses[handle] = address
        if parameters:
            self._parameters[handle] = parameters
        for watcher in self._watchers:
            watcher.connected(handle, parameters)

    def _remove(self, handle: int) -> None:
        if handle not in self._addresses:
            return
        for watcher in self._watchers:
            watcher.disconnected(handle)
        del self._addresses[handle]
        self._parameters.pop(handle, None)
        self._asked.discard(handle)

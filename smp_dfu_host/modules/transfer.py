"""The transfer event, at most one of it in flight (nrf-desktop-dfu.md section 1).

The module that submits the event is also its final subscriber: seeing its own event come round tells it that everybody
has handled it, and only then it submits the next one.
"""

from smp_dfu_host.dispatch.events import BleSmpTransferEvent, EventManager, Order
from smp_dfu_host.dispatch.peer import Peer


class TransferSignal:
    """Tells the modules that a transfer over Bluetooth LE is going on."""

    def __init__(self, events: EventManager) -> None:
        self._events = events
        self._in_flight = False
        events.subscribe(BleSmpTransferEvent, self._come_round, Order.FINAL)

    def give(self, peer: Peer) -> None:
        """Submit the event for that peer's transfer unless one is in flight."""
        if not self._in_flight:
            self._in_flight = True
            self._events.submit(BleSmpTransferEvent(peer))

    def _come_round(self, _event: BleSmpTransferEvent) -> None:
        self._in_flight = False

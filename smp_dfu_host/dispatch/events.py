"""Events between modules, as in nRF Connect SDK's Application Event Manager.

Subscribers of an event are called one after another: the early ones, the normal ones, and last of all the final one, of
which an event has at most one; within an order they are called as they subscribed. An event is delivered from the event
loop and never inside `submit`, and events are delivered in the order in which they were submitted
(sdk-nrf subsys/app_event_manager/app_event_manager.c).
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, TypeVar

from smp_dfu_host.dispatch.clock import Clock
from smp_dfu_host.dispatch.peer import Peer

log = logging.getLogger(__name__)

E = TypeVar("E")


class Order(IntEnum):
    """When a subscriber of an event is called."""

    EARLY = 0
    NORMAL = 1
    FINAL = 2


class ModuleState(Enum):
    """The life of a module (sdk-nrf include/caf/events/module_state_event.h)."""

    READY = "ready"
    OFF = "off"
    STANDBY = "standby"
    SUSPENDED = "suspended"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ModuleStateEvent:
    """A module has changed its state; `main` `READY` tells the others to initialise."""

    module: str
    state: ModuleState


@dataclass(frozen=True, slots=True)
class BleSmpTransferEvent:
    """A transfer over Bluetooth LE is going on: keep the link fast (sdk-nrf include/caf/events/ble_smp_event.h)."""

    peer: Peer
    """Whose transfer it is."""


@dataclass(frozen=True, slots=True)
class BlePeerConnParamsEvent:
    """Connection parameters are in force (sdk-nrf include/caf/events/ble_common_event.h)."""

    address: str
    """The central's, as in `Peer.address`."""
    interval_ms: float
    latency: int
    """So many meetings in a row may we miss."""
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A peer has connected, or was heard for the first time."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """A peer's link is gone."""

    peer: Peer


class EventManager:
    """Delivers events to those who subscribed to their type."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._subscribers: dict[type, list[tuple[Order, Callable[[Any], None]]]] = {}
        self._pending: deque[object] = deque()
        self._scheduled = False

    def subscribe(self, kind: type[E], handler: Callable[[E], None], order: Order = Order.NORMAL) -> None:
        """Have events of exactly that type handled from now on.

        Raises:
            ValueError: If the type has a final subscriber already.
        """
        subscribers = self._subscribers.setdefault(kind, [])
        if order is Order.FINAL and any(other is Order.FINAL for other, _ in subscribers):
            raise ValueError(f"{kind.__name__} has a final subscriber already")
        subscribers.append((order, handler))
        subscribers.sort(key=lambda subscriber: subscriber[0])

    def submit(self, event: object) -> None:
        """Deliver the event soon."""
        self._pending.append(event)
        self._schedule()

    def _schedule(self) -> None:
        if self._pending and not self._scheduled:
            self._scheduled = True
            self._clock.call_later(0, self._deliver)

    def _deliver(self) -> None:
        """Deliver what was pending on entry; what handlers submit waits for the next round, so that others may run."""
        self._scheduled = False
        for _ in range(len(self._pending)):
            event = self._pending.popleft()
            for _order, handler in tuple(self._subscribers.get(type(event), ())):
                _call(handler, event)
        self._schedule()


def _call(handler: Callable[[Any], None], event: object) -> None:
    try:
        handler(event)
    except Exception:  # one module's fault must not keep the event from the final subscriber
        log.exception("%s: a handler failed", event)

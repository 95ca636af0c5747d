"""nRF Desktop's Bluetooth LE latency module: a fast link while it matters (nrf-desktop-dfu.md section 5).

    connected ─► ask for 7.5 ms, latency 0
    transfer event ─► low latency in force? note that it is required. Not? ask for it
    every 5 s while it is in force: secured, and not required any more? ask for the default; else go on

After sdk-nrf applications/nrf_desktop/src/modules/ble_latency.c, which knows one connection; here each central has its
own state, named by its connection's handle. A central may refuse: the same thing is not asked again within 5 s, and the
refusal is logged once a connection.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from smp_dfu_host.dispatch.clock import Timer
from smp_dfu_host.dispatch.events import BlePeerConnParamsEvent, BleSmpTransferEvent
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.transport.ble.parameters import INTERVAL_MS, MIN_INTERVAL, Parameters, Request, Watcher

log = logging.getLogger(__name__)

CHECK_S = 5.0
"""LOW_LATENCY_CHECK_PERIOD_MS; also the shortest time after which the same thing is asked for again."""
DEFAULT_INTERVALS = (24, 40)
"""30 to 50 ms, in steps of 1.25 ms: CONFIG_BT_PERIPHERAL_PREF_MIN_INT and _MAX_INT of Zephyr, and what phones choose by
themselves."""
TIMEOUT = 400
"""4 s, in steps of 10 ms: CONFIG_BT_PERIPHERAL_PREF_TIMEOUT of nRF Desktop."""


class Links(Protocol):
    """What the transport offers; connections are named by their handles."""

    def watch(self, watcher: Watcher) -> None:
        """Tell of connections and their parameters from now on."""
        ...

    def handle(self, address: str) -> int | None:
        """Return the connection of a central, None if it has none that can be asked."""
        ...

    def address(self, handle: int) -> str:
        """Return a central's address."""
        ...

    def secured(self, handle: int) -> bool:
        """Return whether a link is encrypted now."""
        ...

    def ask(self, handle: int, request: Request) -> None:
        """Ask a central for other parameters; `Watcher.updated` or `refused` may follow."""
        ...


@dataclass(slots=True)
class _Link:
    """What is known of a connection."""

    parameters: Parameters | None = None
    """Those in force."""
    required: bool = False
    """A transfer was going on since the last check."""
    asked: Request | None = None
    """The last request; not repeated before `again`."""
    again: float = 0.0
    complained: bool = False
    hurried: bool = False
    """Low latency was asked for, and the default has not been in force since: a central may grant something between."""
    timer: Timer | None = None
    """Runs while low latency is in force, or what a central made of it."""


class BleLatency:
    """The module; a `Watcher`.

    Args:
        services: The options are `config.transport.ble`.
        links: The transport's connections.
    """

    def __init__(self, services: Services, links: Links) -> None:
        config = services.config.transport.ble
        self._clock = services.clock
        self._events = services.events
        self._counters = services.stats.group("ble_latency", "asked", "refused")
        services.stats.gauge("ble_parameters", self._reading)
        self._enabled = config.low_latency
        self._secure = config.security != "none"
        wanted = config.short_interval_ms
        self._short = max(int(wanted / INTERVAL_MS), MIN_INTERVAL) if wanted else 0
        self._latency = config.latency
        self._links = links
        self._known: dict[int, _Link] = {}
        links.watch(self)
        services.events.subscribe(BleSmpTransferEvent, self._transfer)

    # parameters.Watcher

    def connected(self, handle: int, parameters: Parameters | None) -> None:
        """Ask for a fast link."""
        link = self._known[handle] = _Link(hurried=self._enabled)
        if parameters:
            self.updated(handle, parameters)
        first = self._short or MIN_INTERVAL
        self._ask(handle, link, Request(first, first, 0, TIMEOUT))

    def updated(self, handle: int, parameters: Parameters) -> None:
        """Keep what is in force, whoever wanted it; until it is the default, check whether low latency is required."""
        if link := self._known.get(handle):
            link.parameters = parameters
            link.hurried &= not self._default(link).met_by(parameters)
            self._tell(handle, parameters)
            self._check_later(handle, link)

    def refused(self, handle: int, reason: str) -> None:
        """Say so once."""
        if link := self._known.get(handle):
            self._counters["refused"] += 1
            level = logging.DEBUG if link.complained else logging.INFO
            link.complained = True
            log.log(level, "ble %s: no %s, %s", self._links.address(handle), link.asked, reason)

    def disconnected(self, handle: int) -> None:
        """Forget the connection."""
        if link := self._known.pop(handle, None):
            _stop(link)

    def _transfer(self, event: BleSmpTransferEvent) -> None:
        handle = self._links.handle(event.peer.address)
        if handle is None or not (link := self._known.get(handle)):
            return
        link.required = True
        if not self._is_low(link):
            link.hurried = self._enabled
            self._ask(handle, link, self._low(link))

    def _check(self, handle: int) -> None:
        """Go on with low latency, or ask for the default: never before the link is secured, as that takes longer then.

        A default that is refused is asked for again at the next check.
        """
        link = self._known[handle]
        link.timer = None
        required, link.required = link.required, False
        if not required and (not self._secure or self._links.secured(handle)):
            self._ask(handle, link, self._default(link))
        self._check_later(handle, link)

    def _check_later(self, handle: int, link: _Link) -> None:
        if not (self._is_low(link) or link.hurried):
            _stop(link)
        elif link.timer is None:
            link.timer = self._clock.call_later(CHECK_S, self._check, handle)

    def _ask(self, handle: int, link: _Link, request: Request) -> None:
        """Ask unless it is in force, or was asked for a moment ago."""
        now = self._clock.time()
        in_force = link.parameters is not None and request.met_by(link.parameters)
        if not self._enabled or in_force or (request == link.asked and now < link.again):
            return
        link.asked, link.again = request, now + CHECK_S
        self._counters["asked"] += 1
        self._links.ask(handle, request)

    def _is_low(self, link: _Link) -> bool:
        current = link.parameters
        return current is not None and not current.latency and (not self._short or current.interval <= self._short)

    def _low(self, link: _Link) -> Request:
        interval = self._short or (link.parameters.interval if link.parameters else MIN_INTERVAL)
        return Request(interval, interval, 0, TIMEOUT)

    def _default(self, link: _Link) -> Request:
        low, high = DEFAULT_INTERVALS
        if not self._short and link.parameters:
            low = high = link.parameters.interval
        return Request(low, high, self._latency, TIMEOUT)

    def _reading(self) -> Mapping[str, int]:
        """Return how many centrals are connected, and what is in force for the last that came."""
        now = next((link.parameters for link in reversed(self._known.values()) if link.parameters), None)
        return {
            "connected": len(self._known),
            "interval_us": round(now.interval_ms * 1000) if now else 0,
            "latency": now.latency if now else 0,
            "timeout_ms": now.timeout_ms if now else 0,
        }

    def _tell(self, handle: int, now: Parameters) -> None:
        address = self._links.address(handle)
        log.info("ble %s: connection interval %s", address, now)
        self._events.submit(BlePeerConnParamsEvent(address, now.interval_ms, now.latency, now.timeout_ms))


def _stop(link: _Link) -> None:
    if link.timer:
        link.timer.cancel()
        link.timer = None

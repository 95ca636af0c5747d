"""Connection parameters: how often a central and we speak (Core Specification, vol 6 part B 4.5.1).

The central decides them; a peripheral may ask for others, and is told what is in force. Units are the controller's:
intervals in steps of 1.25 ms, time-outs of 10 ms.
"""

from dataclasses import dataclass
from typing import Protocol

INTERVAL_MS = 1.25
TIMEOUT_MS = 10
MIN_INTERVAL = 6
"""7.5 ms: the shortest that Bluetooth has."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is in force on a connection."""

    interval: int
    """From one meeting to the next, in steps of 1.25 ms."""
    latency: int
    """So many meetings in a row may the peripheral miss."""
    timeout: int
    """The link is lost after so long without a packet, in steps of 10 ms."""

    @property
    def interval_ms(self) -> float:
        """The interval in ms."""
        return self.interval * INTERVAL_MS

    @property
    def timeout_ms(self) -> int:
        """The time-out in ms."""
        return self.timeout * TIMEOUT_MS

    def __str__(self) -> str:
        return f"{self.interval_ms:g} ms, latency {self.latency}"


@dataclass(frozen=True, slots=True)
class Request:
    """What a central is asked for; the interval is its choice within the range."""

    min_interval: int
    max_interval: int
    latency: int
    timeout: int

    def met_by(self, parameters: Parameters) -> bool:
        """Return whether there is nothing left to ask for."""
        in_range = self.min_interval <= parameters.interval <= self.max_interval
        return in_range and parameters.latency == self.latency

    def __str__(self) -> str:
        shown = f"{self.min_interval * INTERVAL_MS:g}"
        if self.max_interval > self.min_interval:
            shown += f" to {self.max_interval * INTERVAL_MS:g}"
        return f"{shown} ms, latency {self.latency}"


class Watcher(Protocol):
    """Who is told about connections; each is named by its handle, which is its own while it lasts."""

    def connected(self, handle: int, parameters: Parameters | None) -> None:
        """Take note of a central that has connected; None: what is in force is not known."""
        ...

    def updated(self, handle: int, parameters: Parameters) -> None:
        """Take note of what is in force from now on, whoever asked for it."""
        ...

    def refused(self, handle: int, reason: str) -> None:
        """Take note that what was asked for last is not to be had."""
        ...

    def disconnected(self, handle: int) -> None:
        """Take note that a central has gone."""
        ...

"""Time as the modules see it; an asyncio event loop is one, tests wind theirs by hand."""

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Do not call; can be called twice and after the call."""
        ...


class Clock(Protocol):
    """Monotonic time and calls at a later time."""

    def time(self) -> float:
        """Return the time in seconds since some start."""
        ...

    def call_later(self, delay_s: float, callback: Callable[..., object], /, *args: Any) -> Timer:
        """Call back after the delay in seconds, never inside this call, even if the delay is 0."""
        ...

"""How often we are on the air: fast while somebody is likely to look for us, then slow.

The values are Zephyr's (include/zephyr/bluetooth/gap.h), the times nRF Desktop's (CONFIG_CAF_BLE_ADV_FAST_ADV).
"""

from collections.abc import Callable
from dataclasses import dataclass

from smp_dfu_host.dispatch.clock import Clock, Timer


@dataclass(frozen=True, slots=True)
class Interval:
    """From one advertisement to the next; the controller chooses within the range."""

    min_ms: int
    max_ms: int

    def __str__(self) -> str:
        return f"{self.min_ms} to {self.max_ms} ms" if self.max_ms > self.min_ms else f"{self.min_ms} ms"


FAST = Interval(30, 60)
"""BT_GAP_ADV_FAST_INT_MIN_1 and _MAX_1: a scan hears us at once."""
SLOW = Interval(1000, 1200)
"""BT_GAP_ADV_SLOW_INT_MIN and _MAX: a phone that scans, or connects to a device that it knows, hears us within some
seconds; it tries for 20 s or 30 s (device-manager-client.md 3.1)."""
FAST_S = 30.0
"""CONFIG_CAF_BLE_ADV_FAST_ADV_TIMEOUT."""


class Pace:
    """The interval of the moment.

    Args:
        changed: Called when it has changed by itself.
    """

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._timer: Timer | None = None

    @property
    def interval(self) -> Interval:
        """What applies now."""
        return FAST if self._timer else SLOW

    def hurry(self) -> None:
        """Be fast from now on, for FAST_S."""
        self.stop()
        self._timer = self._clock.call_later(FAST_S, self._over)

    def stop(self) -> None:
        """Be slow, without a call of `changed`; can be called twice."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._changed()

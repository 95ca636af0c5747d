"""Counters and gauges, in named groups: what the statistics group lists and what the live display shows.

    counters = statistics.group("smp", "requests", "replies")
    counters["requests"] += 1

    statistics.gauge("inbox", lambda: {"waiting": len(waiting)})

Names and fields are part of what clients see, and stay.
"""

from collections.abc import Callable, Mapping

from smp_dfu_host.dispatch.hooks import DfuPending, Event, Hooks, Notice
from smp_dfu_host.errors import PluginError

NAME_LIMIT = 31
"""Bytes of a group's name, as clients can ask for it (zephyr subsys/mgmt/mcumgr/grp/stat_mgmt,
CONFIG_MCUMGR_GRP_STAT_MAX_NAME_LEN)."""


class Counters(dict[str, int]):
    """One group's counters by name, in the order in which they were declared; counting is one dictionary operation."""

    __slots__ = ()


Reading = Callable[[], Mapping[str, int]]
"""Returns values, none of them negative; must not wait."""


class Statistics:
    """All groups, in the order in which they were made."""

    def __init__(self) -> None:
        self._counters: dict[str, Counters] = {}
        self._readings: dict[str, Reading] = {}

    def group(self, name: str, *fields: str) -> Counters:
        """Return the counters of that name, made if need be; fields that they lack begin at 0.

        Raises:
            PluginError: If the name cannot be asked for, or is a gauge's.
        """
        if name not in self._counters:
            if name in self._readings:
                raise PluginError(f"statistics {name!r}: there is a gauge of that name")
            counters = Counters()
            self._add(name, lambda: counters)
            self._counters[name] = counters
        for field in fields:
            self._counters[name].setdefault(field, 0)
        return self._counters[name]

    def gauge(self, name: str, reading: Reading) -> None:
        """Have the values of that name read whenever somebody asks; takes the place of another gauge of that name.

        Raises:
            PluginError: If the name cannot be asked for, or is that of counters.
        """
        if name in self._counters:
            raise PluginError(f"statistics {name!r}: there are counters of that name")
        self._add(name, reading)

    @property
    def groups(self) -> Mapping[str, Mapping[str, int]]:
        """Every group by name, with its values as they are now."""
        return {name: reading() for name, reading in self._readings.items()}

    def _add(self, name: str, reading: Reading) -> None:
        if not 1 <= len(name.encode()) <= NAME_LIMIT:
            raise PluginError(f"statistics {name!r}: the name must have 1 to {NAME_LIMIT} bytes")
        self._readings[name] = reading


def count_uploads(hooks: Hooks, stats: Statistics) -> None:
    """Count images from now on, as a group `upload`; the image group counts their parts in it, as there are so many."""
    counters = stats.group("upload", "started", "chunks", "done", "stopped", "bytes", "confirmed")
    events = {
        Event.IMG_DFU_STARTED: "started",
        Event.IMG_DFU_PENDING: "done",
        Event.IMG_DFU_STOPPED: "stopped",
        Event.IMG_DFU_CONFIRMED: "confirmed",
    }

    def count(notice: Notice) -> None:
        counters[events[notice.event]] += 1
        if isinstance(notice.data, DfuPending):
            counters["bytes"] += notice.data.size

    for event in events:
        hooks.register(event, count)

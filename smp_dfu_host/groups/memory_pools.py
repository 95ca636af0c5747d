"""Memory pools: what this process has, in the shape of a device's pools.

    ram        the host's memory in pages: all of it, what this process does not use, and did not use at its peak
    packets    the places of packets that wait for their turn

Zephyr has no handler for the command; names and meaning of the fields after its documentation of it
(doc/services/device_mgmt/smp_groups/smp_group_0.rst).
"""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smp_dfu_host.wire.body import Body

STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Pool(Body):
    """One pool."""

    blksiz: int
    """Bytes of a block."""
    nblks: int
    """Blocks."""
    nfree: int
    """Blocks that are free."""
    min: int
    """The lowest number that there were free."""


def pools(stats: Mapping[str, Mapping[str, int]], packet_size: int) -> dict[str, Pool]:
    """Return all pools by name.

    Args:
        stats: The statistics, of which `inbox` counts the waiting packets.
        packet_size: Bytes that a packet may have.
    """
    found = {"ram": _ram()}
    if inbox := stats.get("inbox"):
        size = inbox["size"]
        found["packets"] = Pool(packet_size, size, size - inbox["waiting"], size - inbox["most"])
    return found


def _ram() -> Pool:
    page, total = resource.getpagesize(), os.sysconf("SC_PHYS_PAGES")
    status = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    used, peak = (int(status[key].split()[0]) * 1024 // page for key in ("VmRSS", "VmHWM"))
    return Pool(page, total, total - used, total - max(peak, used))

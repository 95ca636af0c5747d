"""Flash at many moments, cheaply: moments share the pages that do not differ.

A state is a tuple of pages, each one object however often it comes up, so that states are compared and looked up
without hashing flash anew. What an operation changes is a page or two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smp_dfu_host.mcuboot.flash import FlashArea
from tests.conformance.mcuboot_device import Device

PAGE = 1024
"""Bytes of a page; the boot loader copies as many at a time."""

State = tuple[bytes, ...]
"""All areas, one behind the other."""


class Flash:
    """The areas of a device, to be set to a state and watched."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._areas: Sequence[FlashArea] = list(device.areas.values())
        self._starts: dict[str, int] = {}
        self._pages: dict[bytes, bytes] = {}
        end = 0
        for area in self._areas:
            self._starts[area.name] = end
            end += area.size

    def state(self, contents: bytes) -> State:
        """Return the state of all areas, one behind the other."""
        return tuple(self._page(contents[start : start + PAGE]) for start in range(0, len(contents), PAGE))

    def set(self, state: State) -> None:
        """Let the areas hold a state."""
        contents, start = b"".join(state), 0
        for area in self._areas:
            area.load(0, contents[start : start + area.size])
            start += area.size

    def changed(self, state: State, start: int, data: bytes) -> State:
        """Return a state with some bytes replaced."""
        pages, end = list(state), start + len(data)
        for number in range(start // PAGE, -(-end // PAGE)):
            at = number * PAGE
            first, last = max(start, at), min(end, at + PAGE)
            old = pages[number]
            pages[number] = self._page(old[: first - at] + data[first - start : last - start] + old[last - at :])
        return tuple(pages)

    def boot(self, state: State) -> "Outcome":
        """Boot from a state; return every operation of it."""
        self.set(state)
        operations: list[Operation] = []
        reached = state

        def note(kind: str, name: str, offset: int, size: int, data: bytes) -> None:
            nonlocal reached
            left = data if kind == "W" else bytes([self.device.areas[name].erased]) * size
            operations.append(Operation(self, self._starts[name] + offset, left, reached))
            reached = operations[-1].torn(len(left))

        self.device.meter.trace = note
        ok = self.device.bootloader.boot().ok
        self.device.meter.trace = None
        return Outcome(ok, reached, tuple(operations))

    def areas(self, state: State) -> Iterator[bytes]:
        """Yield the contents of each area."""
        contents, start = b"".join(state), 0
        for area in self._areas:
            yield contents[start : start + area.size]
            start += area.size

    def _page(self, data: bytes) -> bytes:
        return self._pages.setdefault(data, data)


@dataclass(frozen=True, slots=True)
class Operation:
    """One flash operation of a boot, and the flash before it."""

    flash: Flash
    start: int
    """Counted through all areas."""
    data: bytes
    """What it leaves there."""
    before: State

    def torn(self, size: int) -> State:
        """Return the flash when the power fails after `size` of its bytes."""
        return self.flash.changed(self.before, self.start, self.data[:size])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One boot without a cut."""

    ok: bool
    end: State
    operations: tuple[Operation, ...]

"""What becomes of a boot when the power fails: every flash operation cut once, on copies in memory.

For each operation N of the next boot: cut before N (after its first bytes, if it is to be torn), boot once more, and
compare the flash with that of a boot that was not cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FlashMeter, PowerCut
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.store.slots import SlotStore


@dataclass(frozen=True, slots=True)
class CutOutcome:
    """The boot after a cut."""

    number: int
    """The operation, counted from 1, that the power did not live to see."""
    size: int
    """How many bytes that operation writes or erases; torn behind them, it is done whole."""
    result: BootResult
    """Of the boot after the cut."""
    differs: tuple[str, ...]
    """Names of the flash areas that end otherwise than without the cut."""
    bytes: int
    """How many bytes of them do."""
    same_image: bool
    """Whether the same image runs as without the cut, from the same slot."""


@dataclass(frozen=True, slots=True)
class CutTrial:
    """All cuts of one boot of a store; nothing is written to it."""

    store: SlotStore
    contents: tuple[bytes, ...]
    """Of all flash areas, as they are now."""
    end: BootResult
    """Of the boot that is not cut."""
    final: tuple[bytes, ...]
    """What it leaves in all flash areas."""
    tear: int
    """How many bytes of each cut operation are still done; all of them, where it has fewer."""

    @classmethod
    def of(cls, store: SlotStore, tear: int = 0) -> "CutTrial":
        """Return the trial of the store's next boot.

        Args:
            store: Whose slots are copied.
            tear: How many bytes of each cut operation are still done, at most.

        Raises:
            StoreError: If the slots cannot be read.
        """
        contents = store.contents()
        loader, areas = store.rehearse(contents, FlashMeter())
        end = loader.boot()
        return cls(store, contents, end, tuple(area.read(0, area.size) for area in areas.all), tear)

    @property
    def operations(self) -> int:
        """Flash operations of the boot that is not cut: how many cuts there are."""
        return self.end.ops

    def run(self) -> Iterator[CutOutcome]:
        """Cut the boot at each operation, one after the other."""
        for number in range(1, self.operations + 1):
            yield self._cut(number)

    def _cut(self, number: int) -> CutOutcome:
        meter = FlashMeter(number, self.tear)
        loader, areas = self.store.rehearse(self.contents, meter)
        try:
            loader.boot()
        except PowerCut as exc:
            meter.cut_before, size = None, exc.size
        else:
            raise StoreError(f"the boot ended before flash operation {number}: it does not do the same each time")
        result = loader.boot()
        pairs = [(area.name, area.read(0, area.size), end) for area, end in zip(areas.all, self.final, strict=True)]
        return CutOutcome(
            number,
            size,
            result,
            tuple(name for name, found, end in pairs if found != end),
            sum(_difference(found, end) for _, found, end in pairs),
            result.ok == self.end.ok
            and result.header == self.end.header
            and result.active_slots == self.end.active_slots,
        )


def _difference(a: bytes, b: bytes) -> int:
    return 0 if a == b else sum(x != y for x, y in zip(a, b, strict=True))

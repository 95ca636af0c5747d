"""Which files the store has, and the flash geometry that the slots in them have.

slot0.bin, slot1.bin    exactly what the flash would be, slot size bytes each
state.json              what the last run of the boot loader did (store/state.py)
history.jsonl           what the runs before it did (store/history.py)
upload.bin              the upload session, while there is one (store/upload.py)
dfu.lock                the DFU lock (dispatch/lock.py)
store.lock              held for a moment by whoever changes the files above (store/files.py)
commit, *.new           a commit under way (store/commit.py)
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smp_dfu_host.config import Config
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, Storage

SLOTS_OF_IMAGE = 2
"""Slot numbers count through all images: image i has slots 2i and 2i+1, as in MCUmgr."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is."""

    folder: Path
    sector_size: int
    """Bytes."""
    sectors: int
    """Of each slot."""
    align: int
    """Write alignment in bytes."""
    erased: int
    """Value of an erased byte."""
    address: int
    """Flash address of slot 0; the others follow it."""

    @classmethod
    def from_config(cls, config: Config) -> "Layout":
        """Return what the configuration says."""
        flash = config.flash
        return cls(config.store, flash.sector_size, flash.sectors, flash.align, flash.erased, flash.address)

    @property
    def slot_size(self) -> int:
        """Bytes of a slot."""
        return self.sector_size * self.sectors

    @property
    def slots(self) -> range:
        """The numbers of all slots."""
        return range(SLOTS_OF_IMAGE)

    @property
    def lock(self) -> Path:
        """The DFU lock's file."""
        return self.folder / "dfu.lock"

    @property
    def guard(self) -> Path:
        """The file that is locked while others change."""
        return self.folder / "store.lock"

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / "state.json"

    @property
    def history(self) -> Path:
        """The file with what the boot loader did at each boot."""
        return self.folder / "history.jsonl"

    @property
    def upload(self) -> Path:
        """The upload session's file."""
        return self.folder / "upload.bin"

    def slot(self, number: int) -> Path:
        """Return the file of a slot."""
        return self.folder / f"slot{number}.bin"

    def area(self, number: int, storage: Storage, meter: FlashMeter | None = None) -> FlashArea:
        """Return a slot's flash over some storage of its size.

        Raises:
            StoreError: If the storage has another size.
        """
        sectors = (self.sector_size,) * self.sectors
        address = self.address + number * self.slot_size
        return FlashArea(f"slot {number}", storage, sectors, self.align, self.erased, address, meter)

    def areas(self, storage: Callable[[int], Storage], meter: FlashMeter | None = None) -> tuple[FlashArea, ...]:
        """Return the flash of all slots; they share a meter."""
        meter = meter or FlashMeter()
        return tuple(self.area(number, storage(number), meter) for number in self.slots)

    def blank(self) -> bytes:
        """Return the contents of an erased slot."""
        return bytes([self.erased]) * self.slot_size

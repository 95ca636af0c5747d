"""Which files the store has, and the flash geometry that the slots in them have.

slot0.bin, slot1.bin .. exactly what the flash would be; image i has slots 2i and 2i+1
scratch.bin             the same for the scratch area, in swap-using-scratch
state.json              what the last run of the boot loader did (store/state.py)
history.jsonl           what the runs before it did (store/history.py)
settings.json           the settings that were saved (store/settings.py)
upload.bin              the upload session, while there is one (store/upload.py)
dfu.lock                the DFU lock (dispatch/lock.py)
store.lock              held for a moment by whoever changes the files above (store/files.py)
commit, *.staged        the last commit; with the latter, one under way (store/commit.py)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from smp_dfu_host.config import Config
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, Storage

SLOTS_OF_IMAGE = 2
"""Slot numbers count through all images: image i has slots 2i and 2i+1, as in MCUmgr."""


@dataclass(frozen=True, slots=True)
class Areas(Sequence[FlashArea]):
    """The flash of all slots, in order, and beside them the scratch area; they share a meter."""

    slots: tuple[FlashArea, ...]
    scratch: FlashArea | None = None
    """None: the mode has none."""

    @overload
    def __getitem__(self, index: int) -> FlashArea: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[FlashArea, ...]: ...
    def __getitem__(self, index: int | slice) -> FlashArea | tuple[FlashArea, ...]:
        return self.slots[index]

    def __iter__(self) -> Iterator[FlashArea]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def all(self) -> tuple[FlashArea, ...]:
        """The slots, then the scratch area if there is one: by number, as the files are."""
        return (*self.slots, self.scratch) if self.scratch else self.slots

    def replaced(self, slot: int, area: FlashArea) -> "Areas":
        """Return the same with another slot in the place of one."""
        return Areas((*self.slots[:slot], area, *self.slots[slot + 1 :]), self.scratch)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is.

    Areas are numbered: the slots from 0 on, then the scratch area.
    """

    folder: Path
    slot_sectors: tuple[tuple[int, ...], ...]
    """Sizes of the sectors, slot by slot, in bytes."""
    scratch_sectors: tuple[int, ...]
    """Of the scratch area; empty: the mode has none."""
    align: int
    """Write alignment in bytes."""
    erased: int
    """Value of an erased byte."""
    address: int
    """Flash address of slot 0; the others follow it."""

    @classmethod
    def from_config(cls, config: Config) -> "Layout":
        """Return what the configuration says."""
        flash, build = config.flash, config.bootloader
        scratch = flash.scratch_sectors() if build.mode == "swap-using-scratch" else ()
        return cls(config.store, flash.slot_sectors(build.images), scratch, flash.align, flash.erased, flash.address)

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.slot_sectors) // SLOTS_OF_IMAGE

    @property
    def slots(self) -> range:
        """The numbers of all slots."""
        return range(len(self.slot_sectors))

    @property
    def numbers(self) -> range:
        """The numbers of all areas."""
        return range(len(self.slot_sectors) + bool(self.scratch_sectors))

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
    def settings(self) -> Path:
        """The settings' storage."""
        return self.folder / "settings.json"

    @property
    def upload(self) -> Path:
        """The upload session's file."""
        return self.folder / "upload.bin"

    def slot(self, number: int) -> Path:
        """Return the file of an area."""
        return self.folder / (f"slot{number}.bin" if number in self.slots else "scratch.bin")

    def sectors(self, number: int) -> tuple[int, ...]:
        """Return the sizes of an area's sectors, in bytes."""
        return self.slot_sectors[number] if number in self.slots else self.scratch_sectors

    def size(self, number: int) -> int:
        """Return the bytes of an area."""
        return sum(self.sectors(number))

    def slot_address(self, number: int) -> int:
        """Return the flash address of an area's first byte."""
        return self.address + sum(self.size(before) for before in range(number))

    def area(self, number: int, storage: Storage, meter: FlashMeter | None = None) -> FlashArea:
        """Return an area over some storage of its size.

        Raises:
            StoreError: If the storage has another size.
        """
        name = f"slot {number}" if number in self.slots else "scratch"
        address = self.slot_address(number)
        return FlashArea(name, storage, self.sectors(number), self.align, self.erased, address, meter)

    def areas(self, storage: Callable[[int], Storage], meter: FlashMeter | None = None) -> Areas:
        """Return all areas."""
        meter = meter or FlashMeter()
        made = tuple(self.area(number, storage(number), meter) for number in self.numbers)
        count = len(self.slots)
        return Areas(made[:count], made[count] if self.scratch_sectors else None)

    def blank(self, number: int = 0) -> bytes:
        """Return the contents of an erased area."""
        return bytes([self.erased]) * self.size(number)

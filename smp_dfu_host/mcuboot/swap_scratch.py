"""Swap using scratch: unit by unit, from the last one down, over a scratch area.

    1  slot 1 -> scratch      2  slot 0 -> slot 1      3  scratch -> slot 0

Status bytes: three a unit, in slot 0's trailer; while a unit is swapped that holds the trailer itself, in that of the
scratch area. Each step destroys only what there is a second copy of, so that a cut step is done again.
Source: mcuboot boot/bootutil/src/swap_scratch.c.
"""

from dataclasses import dataclass

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, BootStopped, ImageState, Source
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import read_header
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.overwrite import copy_over
from smp_dfu_host.mcuboot.swap_status import begin, done
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType, TrailerState
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.units import common_units

_STATES = 3


@dataclass(frozen=True, slots=True)
class _Unit:
    """Sectors that change places at a time."""

    offset: int
    size: int
    """Bytes erased."""
    copied: int
    """Bytes copied: less than the size if the trailer begins in the unit."""


class ScratchMode:
    """Swap using scratch, for `UpdateFlow`."""

    interruptible = True

    def __init__(self, context: BootContext, scratch: FlashArea) -> None:
        self._context = context
        self._scratch = scratch

    def incompatible(self, image: ImageState) -> str:
        """Return why no update is possible: units must fit the scratch area, the slots must be of one size."""
        return self._unfit(image.pair)

    def _unfit(self, pair: SlotPair) -> str:
        if max(len(pair.primary.sectors), len(pair.secondary.sectors)) > self._context.options.max_sectors:
            return f"a slot has more sectors than {self._context.options.max_sectors}"
        if pair.primary.size != pair.secondary.size:
            return f"slot 0 has {pair.primary.size} bytes, slot 1 has {pair.secondary.size}"
        return self._misfit(pair)

    def _misfit(self, pair: SlotPair) -> str:
        if not (units := common_units(pair)):
            return "the sectors of the slots do not fit each other"
        if max(units) > self._scratch.size:
            return f"{max(units)} bytes change places at a time, the scratch area has {self._scratch.size}"
        return ""

    def find_status(self, image: ImageState) -> tuple[Source, FlashArea | None]:
        """Return where the status is, by an ordered table (boot_status_tables)."""
        primary = self._context.trailer(image.pair.primary).state()
        scratch = self._context.trailer(self._scratch).state()
        source = self._source(image, primary, scratch)
        return source, {Source.PRIMARY: image.pair.primary, Source.SCRATCH: self._scratch}.get(source)

    def _source(self, image: ImageState, primary: TrailerState, scratch: TrailerState) -> Source:
        if primary.magic is Magic.GOOD and scratch.magic is not Magic.GOOD and primary.copy_done is not Flag.BAD:
            return Source.NONE if primary.copy_done is Flag.SET else Source.PRIMARY
        if scratch.magic is Magic.GOOD:
            mine = len(self._context.images) == 1 or scratch.image == image.index
            return Source.SCRATCH if mine else Source.NONE
        # Never swapped: there is no status then, so no harm in looking.
        begun = primary.magic is Magic.UNSET and primary.copy_done is Flag.UNSET
        return Source.PRIMARY if begun else Source.NONE

    def read_steps(self, image: ImageState, area: FlashArea, status: BootStatus) -> None:
        """Take the first run of status bytes as what was done.

        Raises:
            BootStopped: If there is another run and slot 0 will not be checked.
        """
        count = _STATES * (1 if area is self._scratch else self._context.options.max_sectors)
        steps = self._context.trailer(area).status(count, self._context.write_size(image))
        blank = bytes([area.erased])
        written = steps.lstrip(blank)
        if not written:
            return
        run = written.partition(blank)[0]
        if written[len(run) :].strip(blank) and not self._context.options.validate_primary:
            raise BootStopped("the status of the interrupted swap contradicts itself")
        number = len(steps) - len(written) + len(run)
        status.index, status.state = number // _STATES + 1, number % _STATES + 1

    def locate_header(self, image: ImageState, slot: int, status: BootStatus | None) -> bool:
        """Read a slot's header; in the last unit and after it, the other slot or the scratch area has it."""
        area = image.slot(slot)
        if status is not None and not status.fresh:
            last = len(self._units(image, self.swap_trailer(image).swap_size()))
            where = (status.index, status.state)
            if slot == SECONDARY and (last, 2) <= where <= (last, 3):
                area = self._scratch
            elif where > (last, 3) or (slot == PRIMARY and where >= (last, 3)):
                area = image.slot(1 - slot)
        image.headers[slot] = read_header(area)
        return True

    def swap_trailer(self, image: ImageState) -> Trailer:
        """Return the trailer that says what the interrupted swap is of.

        Raises:
            BootStopped: If no trailer says; MCUboot crashes.
        """
        for area in (self._scratch, image.pair.primary):
            trailer = self._context.trailer(area)
            if trailer.state().magic is Magic.GOOD:
                return trailer
        raise BootStopped("slot 0 holds data where the status of a swap is, is its image too large?")

    def change(self, image: ImageState, status: BootStatus) -> None:
        """Swap the two images, from where `status` says on."""
        units = self._units(image, status.swap_size)
        self._context.say(image, f"swapping {len(units)} units of slot 0 and slot 1 over the scratch area")
        for unit in units[status.index - 1 :]:
            self._swap(image, status, unit)

    def _units(self, image: ImageState, size: int) -> list[_Unit]:
        """Return the units from the last to the first: as many sectors at a time as fit the scratch area."""
        primary = image.pair.primary
        end = 0
        for unit in common_units(image.pair):
            if end >= max(size, 1):
                break
            end += unit
        units: list[_Unit] = []
        while end:
            start = end
            while start and end - primary.sector_offset(primary.sector_at(start - 1)) <= self._scratch.size:
                start = primary.sector_offset(primary.sector_at(start - 1))
            units.append(_Unit(start, end - start, self._copied(image, start, end)))
            end = start
        return units

    def _copied(self, image: ImageState, start: int, end: int) -> int:
        """Return how much of a unit is data: the trailers of slot 0 and of the scratch area are left out."""
        primary = image.pair.primary
        if end <= self._context.trailer_sectors_offset(image, primary):
            return end - start
        trailer = self._context.options.rules.trailer_size(self._context.write_size(image))
        return min(primary.size - start - trailer, self._context.trailer(self._scratch).layout.status)

    def _swap(self, image: ImageState, status: BootStatus, unit: _Unit) -> None:
        status.use_scratch = status.index == 1 and unit.copied != unit.size
        if status.state == 1:
            self._save(image, status, unit)
        if status.state == 2:
            self._hand_over(image, status, unit)
        self._bring(image, status, unit)

    def _save(self, image: ImageState, status: BootStatus, unit: _Unit) -> None:
        """Copy the unit of slot 1 to scratch; before the first one, make the trailers ready."""
        context, primary, scratch = self._context, image.pair.primary, self._scratch
        context.erase_slot(scratch)
        if status.index == 1:
            begin(context, image, scratch, status)
            if not status.use_scratch:
                context.erase_trailer(image, primary)
                begin(context, image, primary, status)
                context.erase_slot(scratch)
        context.copy(image, image.pair.secondary, scratch, unit.offset, 0, unit.copied)
        self._done(image, status)

    def _hand_over(self, image: ImageState, status: BootStatus, unit: _Unit) -> None:
        """Copy the unit of slot 0 to slot 1."""
        primary, secondary = image.pair.primary, image.pair.secondary
        self._erase(image, secondary, unit, trailer=status.index == 1, shared=status.use_scratch)
        self._context.copy(image, primary, secondary, unit.offset, unit.offset, unit.copied)
        self._done(image, status)

    def _bring(self, image: ImageState, status: BootStatus, unit: _Unit) -> None:
        """Copy the unit in scratch to slot 0; if it holds the trailer, make that anew."""
        context, primary, scratch = self._context, image.pair.primary, self._scratch
        shared = status.use_scratch
        self._erase(image, primary, unit, trailer=shared, shared=shared)
        context.copy(image, scratch, primary, 0, unit.offset, unit.copied)
        if shared:
            self._move_trailer(image, status, unit)
        status.use_scratch = False
        self._done(image, status)
        if shared:
            scratch.erase_sectors(0, scratch.size, backwards=True)

    def _erase(self, image: ImageState, area: FlashArea, unit: _Unit, *, trailer: bool, shared: bool) -> None:
        """Erase a unit of a slot.

        Args:
            image: The image.
            area: The slot.
            unit: The unit.
            trailer: Whether the whole trailer goes too.
            shared: Whether the unit holds sectors of the trailer, which are not erased twice.
        """
        size = unit.size
        if trailer:
            self._context.erase_trailer(image, area)
            if shared:
                size = min(size, self._context.trailer_sectors_offset(image, area) - unit.offset)
        if size > 0:
            area.erase_sectors(unit.offset, size)

    def _move_trailer(self, image: ImageState, status: BootStatus, unit: _Unit) -> None:
        context, primary = self._context, image.pair.primary
        source, target = context.trailer(self._scratch), context.trailer(primary)
        written = (_STATES - 1) * context.write_size(image)
        # Behind the data, which is before the status if the scratch area had no room for all of the unit.
        primary.write(unit.offset + unit.copied, self._scratch.read(source.layout.status, written))
        state = source.state()
        if state.image_ok is Flag.SET:
            target.write_image_ok()
        if state.swap_type is not SwapType.NONE:
            target.write_swap_info(state.swap_type, image.index)
        target.write_swap_size(status.swap_size)
        if image.keys:
            image.keys.write(target)
        target.write_magic()

    def _done(self, image: ImageState, status: BootStatus) -> None:
        area = self._scratch if status.use_scratch else image.pair.primary
        done(self._context, image, area, (status.index - 1) * _STATES + status.state - 1, status.state)
        status.index, status.state = (
            (status.index, status.state + 1) if status.state < _STATES else (status.index + 1, 1)
        )

    def fill(self, image: ImageState) -> None:
        """Copy slot 1 over an empty slot 0 (bootstrap)."""
        copy_over(self._context, image, fast=False)

    def max_image_size(self, pair: SlotPair) -> int:
        """Return the most bytes of an image: what the trailers of the smaller slot and of the scratch area leave."""
        if self._misfit(pair):
            return 0
        rules, slots = self._context.options.rules, (pair.primary, pair.secondary)
        write = max(pair.primary.align, self._scratch.align)
        start = min(slot.size for slot in slots) - rules.trailer_size(write)
        # What changes places at a time ends where sectors of both slots do: with the larger one.
        sector_end = max(slot.sector_offset(slot.sector_at(start) + 1) for slot in slots)
        return start - max(0, rules.scratch_trailer_size(write) - (sector_end - start))

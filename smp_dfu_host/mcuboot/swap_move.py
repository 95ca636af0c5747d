"""Swap using move: slot 0's image goes up by one sector, then the sectors of both slots change places.

    slot 0  [ A1 A2 A3 -- ]    [ -- A1 A2 A3 ]    [ B1 A1 A2 A3 ]    [ B1 A1 A2 A3 ]         [ B1 B2 B3 A3 ]
    slot 1  [ B1 B2 B3 ]       [ B1 B2 B3 ]       [ B1 B2 B3 ]       [ A1 B2 B3 ]            [ A1 A2 A3 ]
             start              moved              1, state 1         1, state 2       ...    end

Status bytes, in slot 0's trailer: one a sector for the move, then two a sector for the swap. The swap is committed to
when the trailer of slot 1 is erased; a cut before that starts over from slot 1's mark.
Source: mcuboot boot/bootutil/src/swap_move.c.
"""

from smp_dfu_host.mcuboot.context import (
    COPY_SIZE,
    PRIMARY,
    RUN,
    SECONDARY,
    BootContext,
    BootStatus,
    ImageState,
    Phase,
    Source,
)
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import read_header
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.overwrite import copy_over
from smp_dfu_host.mcuboot.swap_status import begin, done
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType
from smp_dfu_host.mcuboot.trailer import Trailer, align_up


def begun_in_primary(context: BootContext, image: ImageState) -> tuple[Source, FlashArea | None]:
    """Return slot 0's trailer if it tells of a swap that slot 1's mark does not start anew."""
    primary = context.trailer(image.pair.primary).state()
    secondary = context.trailer(image.pair.secondary).state()
    begun = primary.magic is Magic.GOOD and primary.copy_done is Flag.UNSET
    if begun and secondary.magic is not Magic.GOOD:
        return Source.PRIMARY, image.pair.primary
    return Source.NONE, None


def _operations(size: int) -> int:
    """Return how many flash operations replace a sector: an erase, and a write for each piece."""
    return 1 - (-size // COPY_SIZE)


class MoveMode:
    """Swap using move, for `UpdateFlow`."""

    interruptible = True

    def __init__(self, context: BootContext) -> None:
        self._context = context

    def incompatible(self, image: ImageState) -> str:
        """Return why no update is possible; both slots want the same sectors, slot 0 perhaps one more."""
        primary, secondary = image.pair.primary.sectors, image.pair.secondary.sectors
        if len(primary) not in (len(secondary), len(secondary) + 1):
            return f"slot 0 has {len(primary)} sectors, slot 1 has {len(secondary)}"
        if primary[: len(secondary)] != secondary or len(set(primary[len(secondary) - 1 :])) > 1:
            return "the slots have sectors of different sizes"
        return ""

    def find_status(self, image: ImageState) -> tuple[Source, FlashArea | None]:
        """Return slot 0's trailer if it tells of a swap that slot 1's mark does not start anew."""
        return begun_in_primary(self._context, image)

    def read_steps(self, image: ImageState, area: FlashArea, status: BootStatus) -> None:
        """Take the last status byte that was written as what was done last."""
        limit = self._context.options.max_sectors
        steps = self._context.trailer(area).status(3 * limit, self._context.write_size(image))
        number = len(steps.rstrip(bytes([area.erased])))
        if number < limit:
            status.index = number + 1
        else:
            status.phase = Phase.SWAP
            status.index, status.state = (number - limit) // 2 + 1, (number - limit) % 2 + 1

    def locate_header(self, image: ImageState, slot: int, status: BootStatus | None) -> bool:
        """Read a slot's header from where the swap has it now; return False if there is no image."""
        where, offset = (slot, 0)
        if status is not None and not status.fresh:
            where, offset = self._locate(image, slot, status)
        image.headers[slot] = read_header(image.slot(where), offset)
        return status is None or image.headers[slot].present

    def _locate(self, image: ImageState, slot: int, status: BootStatus) -> tuple[int, int]:
        last = self._last(image, self.swap_trailer(image).swap_size())
        moved = (PRIMARY, image.pair.primary.sectors[0])
        if status.phase is Phase.MOVE:
            return moved if slot == PRIMARY and status.index > last else (slot, 0)
        if status.index == 1:
            if slot == PRIMARY:
                return moved
            return (PRIMARY, 0) if status.state == 2 else (SECONDARY, 0)
        return (1 - slot, 0) if status.index <= last else (slot, 0)

    def swap_trailer(self, image: ImageState) -> Trailer:
        """Return the trailer that says what the interrupted swap is of."""
        return self._context.trailer(image.pair.primary)

    def _last(self, image: ImageState, size: int) -> int:
        """Return how many sectors the larger image takes, at least one."""
        return max(1, -(-size // image.pair.primary.sectors[0]))

    def change(self, image: ImageState, status: BootStatus) -> None:
        """Swap the two images, from where `status` says on."""
        last = self._last(image, status.swap_size)
        free = len(image.pair.primary.sectors) - self._trailer_sectors(image)
        if status.fresh and last >= free:
            self._context.say(image, f"nothing is swapped: {last + 1} sectors are wanted, {free} are free")
            return
        self._context.say(image, f"swapping {last} sectors of slot 0 and slot 1")
        self._mark_revert(image, status)
        if status.fresh and self._unobserved(image, last):
            self._change_at_once(image, status, last)
            return
        if status.phase is Phase.MOVE:
            for sector in range(last - status.index + 1, 0, -1):
                self._move_up(image, status, sector)
            status.phase, status.index = Phase.SWAP, 1
        for sector in range(status.index, last + 1):
            self._swap(image, status, sector)

    def _trailer_sectors(self, image: ImageState) -> int:
        size = self._context.options.rules.trailer_size(self._context.write_size(image))
        return -(-size // image.pair.primary.sectors[0])

    def _mark_revert(self, image: ImageState, status: BootStatus) -> None:
        """Make a revert look like a permanent update while slot 0's trailer is made anew (fixup_revert)."""
        if status.swap_type != SwapType.REVERT or not status.fresh:
            return
        trailer = self._context.trailer(image.pair.secondary)
        if trailer.state().magic is Magic.UNSET:
            self._context.erase_trailer(image, image.pair.secondary)
            trailer.write_image_ok()
            trailer.write_swap_size(status.swap_size)
            trailer.write_magic()

    def _make_ready(self, image: ImageState, status: BootStatus) -> None:
        """Make the trailers ready for the first step."""
        primary, secondary = image.pair.primary, image.pair.secondary
        if status.source is not Source.PRIMARY:
            self._context.erase_trailer(image, primary)
            begin(self._context, image, primary, status)
        self._context.erase_trailer(image, secondary)

    def _unobserved(self, image: ImageState, last: int) -> bool:
        """Tell whether a whole swap goes as the picture says, and nothing between its steps can be seen by anybody."""
        primary, secondary = image.pair.primary, image.pair.secondary
        size, status = primary.sectors[0], self._context.trailer(primary).layout.status
        uniform = set(primary.sectors) == {size} and last <= self._context.options.max_sectors
        aligned = not (size % primary.align or size % secondary.align or status % primary.align)
        count = (3 * last + 2 * len(primary.sectors)) * (_operations(size) + 1)  # with more than the trailers take
        free = primary.meter.free(count) and secondary.meter.free(count)
        return image.keys is None and uniform and aligned and free

    def _change_at_once(self, image: ImageState, status: BootStatus, last: int) -> None:
        """Leave what all `_move_up` and `_swap` together leave, to the byte and to the count of operations."""
        self._make_ready(image, status)
        primary, secondary = image.pair.primary, image.pair.secondary
        size, limit = primary.sectors[0], self._context.options.max_sectors
        primary.load(last * size, primary.read((last - 1) * size, size))
        for start in range(0, last * size, RUN):
            run = min(RUN, last * size - start)
            old = primary.read(start, run)
            primary.load(start, secondary.read(start, run))
            secondary.load(start, old)
        trailer, write_size = self._context.trailer(primary), self._context.write_size(image)
        trailer.load_status(0, write_size, b"\1" * last)
        trailer.load_status(limit, write_size, b"\1\2" * last)
        primary.meter.ops += last * (2 * _operations(size) + 3)
        secondary.meter.ops += last * _operations(size)
        status.phase, status.index = Phase.SWAP, last + 1

    def _move_up(self, image: ImageState, status: BootStatus, sector: int) -> None:
        """Copy a sector of slot 0 onto the next; before the first, make the trailers ready."""
        primary = image.pair.primary
        if status.index == 1:
            self._make_ready(image, status)
        self._replace(image, primary, sector - 1, primary, sector)
        done(self._context, image, primary, status.index - 1, status.state)
        status.index += 1

    def _swap(self, image: ImageState, status: BootStatus, sector: int) -> None:
        """Bring a sector of slot 1 to slot 0, and the one that was moved up to slot 1."""
        primary, secondary = image.pair.primary, image.pair.secondary
        step = self._context.options.max_sectors + (status.index - 1) * 2
        if status.state == 1:
            self._replace(image, secondary, sector - 1, primary, sector - 1)
            done(self._context, image, primary, step, 1)
            status.state = 2
        self._replace(image, primary, sector, secondary, sector - 1)
        done(self._context, image, primary, step + 1, 2)
        status.index, status.state = status.index + 1, 1

    def _replace(
        self, image: ImageState, source: FlashArea, from_sector: int, target: FlashArea, to_sector: int
    ) -> None:
        start, to = source.sector_offset(from_sector), target.sector_offset(to_sector)
        self._context.replace(image, source, target, start, to, source.sectors[0])

    def fill(self, image: ImageState) -> None:
        """Copy slot 1 over an empty slot 0 (bootstrap)."""
        copy_over(self._context, image, fast=True, keep=True)

    def max_image_size(self, pair: SlotPair) -> int:
        """Return the most bytes of an image: slot 0 keeps a sector free for the move (app_max_size)."""
        sector = pair.primary.sectors[0]
        trailer = align_up(self._context.options.rules.trailer_size(pair.primary.align), sector)
        primary = len(pair.primary.sectors) * sector - trailer - sector
        return min(primary, len(pair.secondary.sectors) * sector - trailer)

"""Swap using offset: an update lies one sector into slot 1, so that there is room to change places sector by sector.

    slot 0  [ A1 A2 A3 ]        [ A1 A2 A3 ]        [ B1 A2 A3 ]              [ B1 B2 B3 ]
    slot 1  [ -- B1 B2 B3 ]     [ A1 B1 B2 B3 ]     [ A1 B1 B2 B3 ]           [ A1 A2 A3 B3 ]
             start               1, state 1          1, state 2         ...    end

A revert goes the other way, from the last sector down, and frees the first sector of slot 1 in the end. Status bytes:
two a sector, in slot 0's trailer.
Source: mcuboot boot/bootutil/src/swap_offset.c.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, ImageState, Source
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import read_header
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.overwrite import copy_over
from smp_dfu_host.mcuboot.swap_move import begun_in_primary
from smp_dfu_host.mcuboot.swap_status import begin, done
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType
from smp_dfu_host.mcuboot.trailer import Trailer

_STATES = 2


class OffsetMode:
    """Swap using offset, for `UpdateFlow`."""

    interruptible = True

    def __init__(self, context: BootContext) -> None:
        self._context = context

    def incompatible(self, image: ImageState) -> str:
        """Return why no update is possible; slot 1 wants as many sectors as slot 0, or one more."""
        first, second = image.pair.primary.sectors, image.pair.secondary.sectors
        if len(first) not in (len(second), len(second) - 1):
            return f"slot 0 has {len(first)} sectors, slot 1 has {len(second)}"
        if first[: len(second) - 1] != second[:-1]:
            return "the slots have sectors of different sizes"
        return ""

    def _usable(self, pair: SlotPair) -> int:
        """Return how many sectors an image may take (app_max_sectors)."""
        size = self._context.options.rules.trailer_size(pair.primary.align)
        trailer = -(-size // pair.primary.sectors[0])
        return min(len(pair.primary.sectors) - trailer, len(pair.secondary.sectors) - trailer - 1)

    def find_status(self, image: ImageState) -> tuple[Source, FlashArea | None]:
        """Return slot 0's trailer if it tells of a swap that slot 1's mark does not start anew."""
        if self._half_reverted(image):
            return Source.PRIMARY, image.pair.primary
        return begun_in_primary(self._context, image)

    def _half_reverted(self, image: ImageState) -> bool:
        """Tell whether a revert is under way although slot 1 is marked for it: it was cut twice in its first sector.

        A resume that has not finished that sector marks slot 1 again for a moment. Cut in that moment, MCUboot starts
        the revert anew, cannot read the half-replaced image in slot 0 and asserts at every boot. Ours goes on.
        """
        primary = self._context.trailer(image.pair.primary)
        mine, its = primary.state(), self._context.trailer(image.pair.secondary).state()
        begun = mine.magic is Magic.GOOD and mine.copy_done is Flag.UNSET and mine.swap_type is SwapType.REVERT
        marked = its.magic is Magic.GOOD and its.copy_done is Flag.SET and its.swap_type is SwapType.REVERT
        if not (begun and marked):
            return False
        step = primary.status(1, self._context.write_size(image))
        return step != bytes([primary.area.erased])

    def read_steps(self, image: ImageState, area: FlashArea, status: BootStatus) -> None:
        """Take the last status byte that was written as what was done last."""
        count = _STATES * self._context.options.max_sectors
        steps = self._context.trailer(area).status(count, self._context.write_size(image))
        number = len(steps.rstrip(bytes([area.erased])))
        status.index, status.state = number // _STATES + 1, number % _STATES + 1

    def locate_header(self, image: ImageState, slot: int, status: BootStatus | None) -> bool:
        """Read a slot's header from where it must be now; if it is not there, from the other sector of slot 1."""
        sector = image.pair.secondary.sectors[0]
        where, offset = (slot, 0)
        if status is not None and not status.fresh:
            where, offset = self._locate(image, slot, status)
        elif slot == SECONDARY and not self._reverts(image, status):
            offset = sector
        image.headers[slot] = read_header(image.slot(where), offset)
        settled = status is not None and not status.fresh
        if not settled and slot == SECONDARY and not image.headers[slot].present:
            offset = sector if self._context.swap_type(image) is SwapType.REVERT else 0
            image.headers[slot] = read_header(image.slot(where), offset)
        if slot == SECONDARY and image.headers[slot].present and self._sets_base(image, status):
            image.base, image.base_known = offset, True
        return status is None or image.headers[slot].present

    def _sets_base(self, image: ImageState, status: BootStatus | None) -> bool:
        return status is not None or (self._context.options.bootstrap and not image.base_known)

    def _reverts(self, image: ImageState, status: BootStatus | None) -> bool:
        known = status is not None and status.swap_type == SwapType.REVERT
        return known or self._context.swap_type(image) is SwapType.REVERT

    def _locate(self, image: ImageState, slot: int, status: BootStatus) -> tuple[int, int]:
        last, sector = self._last(image, self.swap_trailer(image).swap_size()), image.pair.primary.sectors[0]
        step, state = status.index - 1, status.state
        if self._reverts(image, status):
            if slot == PRIMARY:
                return (SECONDARY, sector) if step > last or (step == last and state == 2) else (PRIMARY, 0)
            return (PRIMARY, 0) if step > last else (SECONDARY, 0)
        if slot == PRIMARY:
            return (SECONDARY, 0) if (step > 0 or state == 2) and status.index <= last else (PRIMARY, 0)
        return (PRIMARY, 0) if step > 0 else (SECONDARY, sector)

    def swap_trailer(self, image: ImageState) -> Trailer:
        """Return the trailer that says what the interrupted swap is of."""
        return self._context.trailer(image.pair.primary)

    def _last(self, image: ImageState, size: int) -> int:
        """Return the last sector that the larger image takes, counted from 0."""
        return max(0, -(-size // image.pair.primary.sectors[0]) - 1)

    def change(self, image: ImageState, status: BootStatus) -> None:
        """Swap the two images, from where `status` says on."""
        last = self._last(image, status.swap_size)
        sector = image.pair.primary.sectors[0]
        trailer = -(-self._context.options.rules.trailer_size(self._context.write_size(image)) // sector)
        free = len(image.pair.primary.sectors) - trailer
        if status.fresh and last >= free:
            self._context.say(image, f"nothing is swapped: {last + 1} sectors are wanted, {free} are free")
            return
        self._context.say(image, f"swapping {last + 1} sectors of slot 0 and slot 1")
        self._mark_revert(image, status)
        if status.index == 1:
            self._begin(image, status)
        # As they stand in flash: a trailer that was there before may not have them.
        status.tlv_sizes = self._context.trailer(image.pair.primary).tlv_sizes()
        if self._reverts(image, status):
            self._go_back(image, status, last)
        else:
            for number in range(status.index - 1, last + 1):
                self._swap(image, status, number, 0, 1)

    def _mark_revert(self, image: ImageState, status: BootStatus) -> None:
        """Mark a revert in slot 1 while slot 0's trailer is made anew (fixup_revert)."""
        if status.swap_type != SwapType.REVERT or status.index != 1:
            return
        trailer = self._context.trailer(image.pair.secondary)
        if trailer.state().magic is Magic.UNSET:
            self._context.erase_trailer(image, image.pair.secondary)
            trailer.write_copy_done()
            begin(self._context, image, image.pair.secondary, status)

    def _begin(self, image: ImageState, status: BootStatus) -> None:
        if status.source is not Source.PRIMARY:
            self._context.erase_trailer(image, image.pair.primary)
            begin(self._context, image, image.pair.primary, status)
        self._context.erase_trailer(image, image.pair.secondary)

    def _go_back(self, image: ImageState, status: BootStatus, last: int) -> None:
        secondary = image.pair.secondary
        for number in range(last - status.index + 1, -1, -1):
            self._swap(image, status, number, 1, 0)
        # The first sector would be taken for an image in the wrong place.
        secondary.erase_sectors(0, secondary.sectors[0])
        self._context.erase_trailer(image, secondary)

    def _swap(self, image: ImageState, status: BootStatus, number: int, up: int, down: int) -> None:
        """Let a sector of slot 0 and one of slot 1 change places.

        Args:
            image: The image.
            status: How far the swap has got.
            number: The sector of slot 0.
            up: How many sectors further slot 1 takes it.
            down: How many sectors further the one from slot 1 lies.
        """
        primary, secondary = image.pair.primary, image.pair.secondary
        size = primary.sectors[0]
        at, to, start = number * size, (number + up) * size, (number + down) * size
        step = (status.index - 1) * _STATES
        if status.state == 1:
            if number <= self._used(image, status, PRIMARY):
                self._context.replace(image, primary, secondary, at, to, size, up * size)
            done(self._context, image, primary, step, 1)
            status.state = 2
        if number <= self._used(image, status, SECONDARY):
            self._context.replace(image, secondary, primary, start, at, size)
        done(self._context, image, primary, step + 1, 2)
        status.index, status.state = status.index + 1, 1

    def _used(self, image: ImageState, status: BootStatus, slot: int) -> int:
        """Return how many sectors a slot's image takes; one more is copied too."""
        size = image.headers[slot].hashed_size + status.tlv_sizes[slot]
        return -(-size // image.pair.primary.sectors[0])

    def fill(self, image: ImageState) -> None:
        """Copy slot 1 over an empty slot 0 (bootstrap)."""
        copy_over(self._context, image, fast=True, keep=True)

    def max_image_size(self, pair: SlotPair) -> int:
        """Return the most bytes of an image: slot 1 keeps its first sector free (app_max_size)."""
        return self._usable(pair) * pair.primary.sectors[0]

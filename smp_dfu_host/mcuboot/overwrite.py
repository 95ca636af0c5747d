"""Copying slot 1 over slot 0: overwrite-only mode, and how bootstrap fills an empty slot 0.

Plain: all of slot 0 is erased, all of slot 1 is copied, trailer included. Fast: only the sectors of the image and of
the trailer; then the magic is written. In the end the first and last sector of slot 1 are erased: nothing is pending.
Source: mcuboot boot/bootutil/src/loader.c, boot_copy_image; swap_scratch.c, boot_slots_compatible.
"""

from smp_dfu_host.mcuboot.context import SECONDARY, BootContext, BootStatus, BootStopped, ImageState, Source
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import read_header
from smp_dfu_host.mcuboot.options import Mode, SlotPair
from smp_dfu_host.mcuboot.rollback import raise_counter
from smp_dfu_host.mcuboot.swap_status import load_keys
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.units import common_units


def copy_over(context: BootContext, image: ImageState, *, fast: bool, keep: bool = False) -> None:
    """Make slot 0 a copy of slot 1.

    Args:
        context: The boot.
        image: The image.
        fast: Whether only what the image takes is copied.
        keep: Whether the image stays in slot 1 (MCUBOOT_OVERWRITE_ONLY_KEEP_BACKUP).

    Raises:
        BootStopped: If the image in slot 1 has no TLVs, or security counter, or slot 1 is the smaller one.
    """
    primary, secondary = image.pair.primary, image.pair.secondary
    context.say(image, "copying slot 1 over slot 0")
    if fast:
        size = _erase_needed(context, image)
    else:
        context.erase_slot(primary)
        size = primary.size
    # With swap-using-offset from the second sector on, wherever the image was found (loader.c, boot_copy_image).
    start = secondary.sectors[0] if context.options.mode is Mode.SWAP_USING_OFFSET else 0
    if start + size > secondary.size:
        raise BootStopped(f"slot 1 has {secondary.size} bytes, {start + size} are to be copied")
    load_keys(image, (SECONDARY,))
    context.copy(image, secondary, primary, start, 0, size)
    if fast:
        context.trailer(primary).write_magic()
    if context.options.rollback and not raise_counter(context, image, 0, image.headers[SECONDARY]):
        raise BootStopped("the image has no security counter")
    if not keep:
        secondary.erase_sectors(0, 1)
    secondary.erase_sectors(secondary.size - 1, 1)


def _erase_needed(context: BootContext, image: ImageState) -> int:
    """Erase the sectors for the image and for the trailer; return how many bytes to copy."""
    primary, write = image.pair.primary, context.write_size(image)
    size = context.image_size(image, SECONDARY)
    primary.erase_sectors(0, min(max(size, 1), primary.size))
    offset = context.trailer_sectors_offset(image, primary)
    primary.erase_sectors(offset, primary.size - offset)
    # Rounded up past the write size: a size that is a multiple of it gets one write more.
    return size + write - size % write


class OverwriteMode:
    """Overwrite-only, for `UpdateFlow`."""

    interruptible = False

    def __init__(self, context: BootContext) -> None:
        self._context = context

    def incompatible(self, image: ImageState) -> str:
        """Return why no update is possible: the sectors of the slots must fit each other."""
        limit = self._context.options.max_sectors
        if len(image.pair.secondary.sectors) > limit:
            return f"slot 1 has more sectors than {limit}"
        if image.pair.primary.size != image.pair.secondary.size:
            return f"slot 0 has {image.pair.primary.size} bytes, slot 1 has {image.pair.secondary.size}"
        units = common_units(image.pair)
        # Which slot has the smaller sectors is asked of all of it, not of each unit as where a scratch area is used.
        both_smaller = all(len(slot.sectors) > len(units) for slot in (image.pair.primary, image.pair.secondary))
        return "" if units and not both_smaller else "the sectors of the slots do not fit each other"

    def find_status(self, image: ImageState) -> tuple[Source, FlashArea | None]:
        """Return none: a copy that was cut starts over."""
        del image
        return Source.NONE, None

    def read_steps(self, image: ImageState, area: FlashArea, status: BootStatus) -> None:
        """Do nothing, there are no steps."""

    def locate_header(self, image: ImageState, slot: int, status: BootStatus | None) -> bool:
        """Read a slot's header."""
        del status
        image.headers[slot] = read_header(image.slot(slot))
        return True

    def swap_trailer(self, image: ImageState) -> Trailer:
        """Return slot 0's; there is no interrupted swap."""
        return self._context.trailer(image.pair.primary)

    def change(self, image: ImageState, status: BootStatus) -> None:
        """Copy slot 1 over slot 0."""
        del status
        copy_over(self._context, image, fast=self._context.options.overwrite_fast)

    def fill(self, image: ImageState) -> None:
        """Copy slot 1 over slot 0."""
        copy_over(self._context, image, fast=self._context.options.overwrite_fast)

    def max_image_size(self, pair: SlotPair) -> int:
        """Return the most bytes of an image: up to where swap_info would be."""
        return self._context.trailer(pair.primary).layout.swap_info

"""Whether the image of a slot is fit to run, and what becomes of one that is not.

Source: mcuboot boot/bootutil/src/loader.c, boot_validate_slot.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, ImageState
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.options import Downgrade, Mode
from smp_dfu_host.mcuboot.rollback import lower_version
from smp_dfu_host.mcuboot.swap_type import SwapType


class SlotCheck:
    """Checks slots in the modes that change slot 0.

    Args:
        context: The boot.
        limits: Most bytes that an image may have, image by image.
    """

    def __init__(self, context: BootContext, limits: list[int]) -> None:
        self._context = context
        self._limits = limits

    def primary(self, image: ImageState) -> str:
        """Return why slot 0 is not fit to run; empty: it is. Nothing is erased."""
        if self._context.header_erased(image, PRIMARY):
            return "it is empty"
        if not image.headers[PRIMARY].bootable:
            return "its image is flagged as not bootable"
        try:
            self._context.check_image(image, PRIMARY, self._limits[image.index])
        except ImageInvalid as exc:
            return str(exc)
        return ""

    def secondary(self, image: ImageState, status: BootStatus, asked: SwapType = SwapType.NONE) -> bool:
        """Tell whether slot 1 is fit to run, and clean it up if it is not.

        Args:
            image: The image.
            status: How far a swap has got.
            asked: What the trailers ask for, if it was they who asked.
        """
        context, header = self._context, image.headers[SECONDARY]
        if (erased := context.header_erased(image, SECONDARY)) or not header.bootable:
            self._drop_mark(image, status, "it is empty" if erased else "its image is flagged as not bootable")
            return False
        try:
            self._check_place(image, status, asked)
            self._check_version(image)
            context.check_image(image, SECONDARY, self._limits[image.index])
        except ImageInvalid as exc:
            context.say(image, f"the image in slot 1 is not fit to run ({exc}); the slot is erased")
            context.erase_slot(image.pair.secondary)
            return False
        context.say(image, f"slot 1 holds a valid image, version {header.version}")
        return True

    def _drop_mark(self, image: ImageState, status: BootStatus, reason: str) -> None:
        context = self._context
        if not context.options.mode.swaps:
            context.say(image, f"slot 1 is not fit to run: {reason}")
            return
        context.say(image, f"slot 1 is not fit to run: {reason}; its trailer is erased")
        context.erase_trailer(image, image.pair.secondary)
        if context.options.mode is Mode.SWAP_USING_MOVE:
            self._mend_revert(image, status)

    def _mend_revert(self, image: ImageState, status: BootStatus) -> None:
        """Give up a revert that can never be: without this, every boot would try it again."""
        if status.swap_type == SwapType.REVERT or self._context.swap_type(image) is SwapType.REVERT:
            self._context.say(image, "there is nothing to go back to: the trailer of slot 0 is erased, its image stays")
            self._context.erase_trailer(image, image.pair.primary)

    def _check_place(self, image: ImageState, status: BootStatus, asked: SwapType) -> None:
        """Refuse an update in the first sector of slot 1, which swap-using-offset wants free."""
        wanted = self._context.options.mode is Mode.SWAP_USING_OFFSET and status.fresh
        if wanted and asked in (SwapType.TEST, SwapType.PERM):
            first = ImageHeader.parse(image.pair.secondary.read(0, ImageHeader.SIZE))
            if first.magic == IMAGE_MAGIC:
                raise ImageInvalid("it lies in the first sector, an update belongs into the second")

    def _check_version(self, image: ImageState) -> None:
        options = self._context.options
        checked = options.mode is Mode.OVERWRITE_ONLY and options.downgrade is not Downgrade.ALLOWED
        if checked and not self._context.header_erased(image, PRIMARY) and (low := lower_version(self._context, image)):
            raise ImageInvalid(low)

"""Modes in which nothing ever changes places: single-slot, with RAM load or without, and firmware-loader.

Firmware-loader has an application in slot 0 and, in slot 1, what loads a new one when asked to.
Sources: mcuboot boot/zephyr/single_loader.c, boot/zephyr/firmware_loader.c. Of firmware-loader and single-slot-ram-load
there are no recordings.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, ImageState
from smp_dfu_host.mcuboot.flash import Readable
from smp_dfu_host.mcuboot.image import ImageInvalid, check_loadable, read_header
from smp_dfu_host.mcuboot.options import Mode
from smp_dfu_host.mcuboot.ram_load import ram_place
from smp_dfu_host.mcuboot.swap_type import Flag, Magic
from smp_dfu_host.mcuboot.verify import ImageInfo, validate


class SingleFlow:
    """One boot in such a mode."""

    def __init__(self, context: BootContext) -> None:
        self._context = context

    def run(self) -> bool:
        """Boot; return whether there is an image to run, which is that of image 0's active slot.

        Raises:
            PowerCut: If the flash says so.
        """
        image = self._context.images[0]
        return any(self._take(image, slot) for slot in self._order())

    def _order(self) -> list[int]:
        """Return which slots are tried, one after the other."""
        if self._context.options.mode is not Mode.FIRMWARE_LOADER:
            return [PRIMARY]
        return [SECONDARY, PRIMARY] if self._context.options.loader_asked_for else [PRIMARY, SECONDARY]

    def _take(self, image: ImageState, slot: int) -> bool:
        area = image.slot(slot)
        image.headers[slot] = read_header(area)
        try:
            check_loadable(image.headers[slot], area.size)
            if self._context.options.mode.loads:
                ram_place(area, image.headers[slot], self._context.options.ram)
            self._settle(image, slot)
        except ImageInvalid as exc:
            self._context.say(image, f"slot {slot} does not boot: {exc}")
            return False
        image.active = slot
        return True

    def _settle(self, image: ImageState, slot: int) -> None:
        options, trailer = self._context.options, self._context.trailer(image.slot(slot))
        state = trailer.state()
        if options.validate_once and state.magic is Magic.GOOD and state.image_ok is Flag.SET:
            self._context.say(image, f"slot {slot} was found valid before and is not checked again")
            return
        if not options.validate_primary:
            return
        self.validate(image, slot)
        if options.validate_once:
            if state.magic is not Magic.GOOD:
                trailer.write_magic()
            trailer.write_image_ok()

    def validate(self, image: ImageState, slot: int) -> ImageInfo:
        """Check an image whose header was read.

        Raises:
            ImageInvalid: With the reason in words.
        """
        source: Readable = image.slot(slot)
        header, options = image.headers[slot], self._context.options
        if image.keys is not None and header.encrypted and options.mode.loads:
            source = image.keys.view(slot, image.slot(slot), header, 0)
        # Else an encrypted flag is no matter here: the payload must be plain, or the hash is wrong.
        return validate(
            source, header, options.policy, limit=self.max_image_size(image, slot), proofs=self._context.proofs
        )

    def max_image_size(self, image: ImageState, slot: int = PRIMARY) -> int:
        """Return the most bytes of an image: all but the trailer, which has no status here."""
        return self._context.trailer(image.slot(slot)).layout.status

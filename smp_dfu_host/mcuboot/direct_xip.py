"""Direct-xip: nothing is copied; the higher version runs from the slot that it is in, slot 0 on ties.

Source: mcuboot boot/bootutil/src/loader.c, the second context_boot_go.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, ImageState
from smp_dfu_host.mcuboot.image import ImageFlag, ImageInvalid, check_header
from smp_dfu_host.mcuboot.options import SlotPair


class DirectXipFlow:
    """One boot in such a mode."""

    def __init__(self, context: BootContext) -> None:
        self._context = context

    def run(self) -> bool:
        """Boot; return whether there is an image to run, which is that of image 0's active slot.

        Raises:
            PowerCut: If the flash says so.
        """
        return all(self._choose(image, self._candidates(image)) for image in self._context.images)

    def _candidates(self, image: ImageState) -> list[int]:
        """Return the slots with a header that makes sense (boot_get_slot_usage)."""
        context, found = self._context, []
        context.read_headers(image)
        for slot in (PRIMARY, SECONDARY):
            try:
                check_header(image.headers[slot], image.slot(slot).size)
            except ImageInvalid as exc:
                empty = context.header_erased(image, slot)
                context.say(image, f"slot {slot} is empty" if empty else f"slot {slot} has no image: {exc}")
            else:
                found.append(slot)
        return found

    def _choose(self, image: ImageState, candidates: list[int]) -> bool:
        """Take the highest version that is fit to run (boot_load_and_validate_images)."""
        while candidates:
            image.active = slot = self._highest(image, candidates)
            if self._accept(image, slot):
                self._context.say(image, f"slot {slot} runs, version {image.headers[slot].version}")
                return True
            candidates.remove(slot)
        image.active = None
        self._context.say(image, "no slot is fit to run")
        return False

    def _highest(self, image: ImageState, candidates: list[int]) -> int:
        build = self._context.options.compare_build
        best = candidates[0]
        for slot in candidates[1:]:
            if image.headers[slot].version.compare(image.headers[best].version, build=build) > 0:
                best = slot
        return best

    def _accept(self, image: ImageState, slot: int) -> bool:
        """Tell whether a slot's image may run; an invalid one is erased."""
        context, area, header = self._context, image.slot(slot), image.headers[slot]
        if header.flags & ImageFlag.ROM_FIXED and header.load_addr != area.address:
            built = f"built for 0x{header.load_addr:x}, the slot is at 0x{area.address:x}"
            context.say(image, f"slot {slot} is passed over: {built}")
            return False
        if not header.bootable:
            context.say(image, f"slot {slot} is passed over: its image is flagged as not bootable")
            return False
        try:
            context.check_image(image, slot, self.max_image_size(image.pair, slot))
        except ImageInvalid as exc:
            context.say(image, f"the image in slot {slot} is not valid ({exc}); the slot is erased")
            context.erase_slot(area)
            return False
        return True

    def max_image_size(self, pair: SlotPair, slot: int) -> int:
        """Return the most bytes of an image in a slot: up to where swap_info would be."""
        return self._context.trailer(pair.slot(slot)).layout.swap_info

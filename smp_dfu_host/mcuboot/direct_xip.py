"""Modes that pick a slot: direct-xip runs the higher version where it is, ram-load copies it to RAM; slot 0 on ties.

With revert, an image must carry a mark to run at all, and one that ran before and was not confirmed is erased.
Sources: mcuboot boot/bootutil/src/loader.c, the second context_boot_go; ram_load.c.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, ImageState
from smp_dfu_host.mcuboot.dependencies import unmet
from smp_dfu_host.mcuboot.image import ImageFlag, ImageInvalid, check_header, read_header
from smp_dfu_host.mcuboot.options import Mode, SlotPair
from smp_dfu_host.mcuboot.ram_load import ram_place
from smp_dfu_host.mcuboot.rollback import raise_counter
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, TrailerState


class _Passed(Exception):  # noqa: N818  (a verdict)
    """A slot is not taken; its contents stay."""


class _Unfit(Exception):  # noqa: N818  (a verdict)
    """A slot is not taken, and is erased."""


class PickFlow:
    """One boot in such a mode."""

    def __init__(self, context: BootContext) -> None:
        self._context = context
        self._candidates: dict[int, list[int]] = {}
        self._states: dict[int, TrailerState] = {}
        """Per image, the trailer of the active slot as it was when picked."""
        self._ranges: dict[int, tuple[int, int]] = {}
        """Per image, where in RAM it was loaded: first address and the one behind."""

    def run(self) -> bool:
        """Boot; return whether there is an image to run, which is that of image 0's active slot.

        Raises:
            PowerCut: If the flash says so.
        """
        images = self._context.images
        for image in images:
            self._candidates[image.index] = self._find(image)
        while all(self._choose(image) for image in images):
            if len(images) == 1 or self._dependencies_met():
                return all(self._keep_counter(image) for image in images)
        return False

    def _find(self, image: ImageState) -> list[int]:
        """Return the slots with a header that makes sense (boot_get_slot_usage)."""
        context, found = self._context, []
        for slot in (PRIMARY, SECONDARY):
            image.headers[slot] = read_header(image.slot(slot))
            try:
                check_header(image.headers[slot], image.slot(slot).size, encryption=image.keys is not None)
            except ImageInvalid as exc:
                empty = context.header_erased(image, slot)
                context.say(image, f"slot {slot} is empty" if empty else f"slot {slot} has no image: {exc}")
            else:
                found.append(slot)
        return found

    def _choose(self, image: ImageState) -> bool:
        """Take the highest version that is fit to run (boot_load_and_validate_images)."""
        candidates = self._candidates[image.index]
        while image.active is None and candidates:
            image.active = slot = self._highest(image, candidates)
            try:
                self._accept(image, slot)
            except (_Passed, _Unfit) as exc:
                if isinstance(exc, _Unfit):
                    self._context.erase_slot(image.slot(slot))
                self._context.say(
                    image, f"slot {slot} is {'erased' if isinstance(exc, _Unfit) else 'passed over'}: {exc}"
                )
                self._drop(image)
        if image.active is None:
            self._context.say(image, "no slot is fit to run")
        return image.active is not None

    def _drop(self, image: ImageState) -> None:
        if image.active is not None:
            self._candidates[image.index].remove(image.active)
        image.active = None
        self._ranges.pop(image.index, None)

    def _highest(self, image: ImageState, candidates: list[int]) -> int:
        build = self._context.options.compare_build
        best = candidates[0]
        for slot in candidates[1:]:
            if image.headers[slot].version.compare(image.headers[best].version, build=build) > 0:
                best = slot
        return best

    def _accept(self, image: ImageState, slot: int) -> None:
        """Check a slot's image, step by step.

        Raises:
            _Passed: If it may not run, and stays.
            _Unfit: If it may not run, and is to be erased.
        """
        context, options, header = self._context, self._context.options, image.headers[slot]
        if not options.mode.loads:
            self._check_address(image, slot)
        if options.mode.forgets:
            self._check_mark(image, slot)
        if options.mode.loads:
            self._load(image, slot)
        if not header.bootable:
            raise _Passed("its image is flagged as not bootable")
        try:
            context.check_image(image, slot, self.max_image_size(image.pair, slot))
        except ImageInvalid as exc:
            raise _Unfit(f"its image is not valid: {exc}") from exc
        context.say(image, f"slot {slot} runs, version {header.version}")

    def _check_address(self, image: ImageState, slot: int) -> None:
        area, header = image.slot(slot), image.headers[slot]
        if header.flags & ImageFlag.ROM_FIXED and header.load_addr != area.address:
            raise _Passed(f"built for 0x{header.load_addr:x}, the slot is at 0x{area.address:x}")

    def _check_mark(self, image: ImageState, slot: int) -> None:
        """Take an image once on trust, then only if it was confirmed (boot_select_or_erase)."""
        trailer = self._context.trailer(image.slot(slot))
        self._states[image.index] = state = trailer.state()
        if state.magic is not Magic.GOOD:
            raise _Unfit("it was not marked to run")
        if state.copy_done is Flag.SET and state.image_ok is not Flag.SET:
            raise _Unfit("it ran before and was not confirmed")
        if state.copy_done is not Flag.SET:
            trailer.write_copy_done()
            self._context.say(image, f"slot {slot} is tried for the first time")

    def _load(self, image: ImageState, slot: int) -> None:
        """Check that the image can be copied to RAM (boot_load_image_to_sram)."""
        try:
            start, end = ram_place(image.slot(slot), image.headers[slot], self._context.options.ram)
        except ImageInvalid as exc:
            raise _Unfit(str(exc)) from exc
        if any(not (other_start > end or other_end <= start) for other_start, other_end in self._ranges.values()):
            raise _Unfit(f"it wants RAM 0x{start:x} to 0x{end:x}, where another image is")
        self._ranges[image.index] = start, end

    def _dependencies_met(self) -> bool:
        """Drop the first image that would run without what it wants; tell whether there was none."""
        for image in self._context.images:
            slot = _active(image)
            if reason := unmet(self._context, image, slot, _active):
                self._context.say(image, f"slot {slot} is passed over: {reason}")
                self._drop(image)
                return False
        return True

    def _keep_counter(self, image: ImageState) -> bool:
        """Raise the stored counter, unless the image may yet go back (boot_update_hw_rollback_protection)."""
        options = self._context.options
        if not options.rollback:
            return True
        if options.mode is Mode.DIRECT_XIP_WITH_REVERT and self._states[image.index].image_ok is not Flag.SET:
            return True
        slot = _active(image)
        return raise_counter(self._context, image, slot, image.headers[slot])

    def max_image_size(self, pair: SlotPair, slot: int) -> int:
        """Return the most bytes of an image in a slot: up to where swap_info would be."""
        return self._context.trailer(pair.slot(slot)).layout.swap_info


def _active(image: ImageState) -> int:
    """Return the slot that was picked, slot 0 if there is none."""
    return image.active or PRIMARY

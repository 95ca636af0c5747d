"""The flow of the modes that change slot 0: finish what was cut, decide, change, check, boot.

For each image: read the headers; finish a swap that the power cut, or read from the trailers what is asked for and
check the image in slot 1. Then, for each image, do it. Then check what is in slot 0 now, and boot image 0.

Source: mcuboot boot/bootutil/src/loader.c, context_boot_go and what it calls. How images change places is the mode's
business: `UpdateMode`.
"""

from typing import Protocol

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, BootStopped, ImageState, Source
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import ImageInvalid
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import Flag, SwapType


class UpdateMode(Protocol):
    """What the modes that change slot 0 do differently."""

    def incompatible(self, image: ImageState) -> str:
        """Return why no update is possible with these slots; empty: it is possible."""
        ...

    def find_status(self, image: ImageState) -> tuple[Source, FlashArea | None]:
        """Return which trailer tells of an interrupted swap."""
        ...

    def read_steps(self, image: ImageState, area: FlashArea, status: BootStatus) -> None:
        """Set phase, index and state from the status bytes.

        Raises:
            BootStopped: If they contradict each other and slot 0 will not be checked.
        """
        ...

    def locate_header(self, image: ImageState, slot: int, status: BootStatus) -> bool:
        """Read a slot's header from where the swap has it now; return False if there is none and that is fatal."""
        ...

    def change(self, image: ImageState, status: BootStatus) -> None:
        """Make the image of slot 1 that of slot 0, from where `status` says on; in swap modes the other way too."""
        ...

    def max_image_size(self, pair: SlotPair) -> int:
        """Return the most bytes that an image may have, TLVs included."""
        ...


class UpdateFlow:
    """One boot in such a mode.

    Args:
        context: What the boot works on.
        mode: How images change places.
    """

    def __init__(self, context: BootContext, mode: UpdateMode) -> None:
        self._context = context
        self._mode = mode
        self._status = BootStatus()

    def run(self) -> bool:
        """Boot; return whether there is an image to run, which is image 0's slot 0.

        Raises:
            BootStopped: If the boot loader hangs.
            PowerCut: If the flash says so.
        """
        images = self._context.images
        for image in images:
            self._prepare(image)
        for image in images:
            self._perform(image)
        return all(self._check_primary(image) for image in images)

    def _prepare(self, image: ImageState) -> None:
        """Find the swap type; finish an interrupted swap (boot_prepare_image_for_update)."""
        image.swap_type = SwapType.NONE
        limit, count = self._context.options.max_sectors, len(image.pair.primary.sectors)
        if count > limit:
            self._context.say(image, f"slot 0 has {count} sectors, the boot loader knows {limit}")
            return
        self._context.read_headers(image)
        if reason := self._mode.incompatible(image):
            self._context.say(image, f"no update is possible: {reason}")
            return
        self._status = status = self._read_status(image)
        if not self._locate_headers(image, status):
            return
        if status.fresh:
            self._decide(image, status)
        else:
            self._resume(image, status)

    def _read_status(self, image: ImageState) -> BootStatus:
        """Read how far a swap has got (swap_misc.c, swap_read_status)."""
        status = BootStatus()
        status.source, area = self._mode.find_status(image)
        if area is not None:
            self._mode.read_steps(image, area, status)
            status.swap_type = self._context.trailer(area).swap_info()[0]
        return status

    def _locate_headers(self, image: ImageState, status: BootStatus) -> bool:
        """Read the headers again, now knowing of a swap (boot_read_image_headers)."""
        for slot in (PRIMARY, SECONDARY):
            if not self._mode.locate_header(image, slot, status) and (slot == PRIMARY or not status.fresh):
                self._context.say(image, f"no image in slot {slot}, so nothing is swapped")
                return False
        return True

    def _resume(self, image: ImageState, status: BootStatus) -> None:
        """Finish a swap that was interrupted (boot_complete_partial_swap)."""
        context = self._context
        kind = _name(status.swap_type)
        context.say(image, f"finishing a swap ({kind}) that was cut at step {status.index}.{status.state}")
        trailer = context.trailer(image.pair.primary)
        status.swap_size = trailer.swap_size()
        self._mode.change(image, status)
        self._finish(image, status.swap_type)
        context.read_headers(image)
        image.swap_type = SwapType.NONE

    def _decide(self, image: ImageState, status: BootStatus) -> None:
        """Find out what is asked for, and whether slot 1 is fit for it (boot_validated_swap_type)."""
        if status.swap_type != SwapType.NONE:
            # Slot 0 says that a swap had just begun; no step was done.
            self._context.say(image, f"slot 0 tells of a swap ({_name(status.swap_type)}) that was cut at its start")
            valid = self._validate_secondary(image, status)
            image.swap_type = _swap_type(status.swap_type) if valid else SwapType.FAIL
            return
        asked = self._context.swap_type(image)
        if asked.upgrades:
            self._context.say(image, _ASKED[asked])
            image.swap_type = asked if self._validate_secondary(image, status) else SwapType.NONE

    def _validate_secondary(self, image: ImageState, status: BootStatus) -> bool:
        """Check the image in slot 1; clean up if it is not fit to run (boot_validate_slot)."""
        context, area, header = self._context, image.pair.secondary, image.headers[SECONDARY]
        if (erased := context.header_erased(image, SECONDARY)) or not header.bootable:
            reason = "slot 1 is empty" if erased else "the image in slot 1 is flagged as not bootable"
            context.say(image, f"{reason}; its trailer is erased")
            context.erase_trailer(image, area)
            self._mend_revert(image, status)
            return False
        try:
            context.check_image(image, SECONDARY, self._mode.max_image_size(image.pair))
        except ImageInvalid as exc:
            context.say(image, f"the image in slot 1 is not valid ({exc}); the slot is erased")
            context.erase_slot(area)
            return False
        context.say(image, f"slot 1 holds a valid image, version {header.version}")
        return True

    def _mend_revert(self, image: ImageState, status: BootStatus) -> None:
        if self._context.swap_type(image) is SwapType.REVERT or status.swap_type == SwapType.REVERT:
            self._context.say(image, "there is nothing to go back to: the trailer of slot 0 is erased, its image stays")
            self._context.erase_trailer(image, image.pair.primary)

    def _perform(self, image: ImageState) -> None:
        """Do what was decided."""
        if len(self._context.images) > 1:
            self._status = BootStatus()
        self._status.swap_type = image.swap_type
        match image.swap_type:
            case SwapType.NONE:
                return
            case SwapType.TEST | SwapType.PERM | SwapType.REVERT:
                self._update(image, self._status)
            case SwapType.FAIL:
                self._context.say(image, "slot 0 keeps its image and is marked as confirmed")
                self._set_image_ok(image)
            case SwapType.PANIC:
                raise BootStopped("the trailer of slot 0 tells of a swap of a kind that does not exist")

    def _update(self, image: ImageState, status: BootStatus) -> None:
        """Swap from the start (boot_perform_update)."""
        sizes = [self._context.image_size(image, slot) for slot in (PRIMARY, SECONDARY)]
        status.swap_size = max(sizes)
        self._mode.change(image, status)
        self._finish(image, image.swap_type)

    def _finish(self, image: ImageState, swap_type: int) -> None:
        """Set the flags that end a swap."""
        if swap_type in (SwapType.PERM, SwapType.REVERT):
            self._set_image_ok(image)
        if swap_type in (SwapType.TEST, SwapType.PERM, SwapType.REVERT):
            self._context.trailer(image.pair.primary).write_copy_done()

    def _set_image_ok(self, image: ImageState) -> None:
        trailer = self._context.trailer(image.pair.primary)
        if trailer.state().image_ok is Flag.UNSET:
            trailer.write_image_ok()

    def _check_primary(self, image: ImageState) -> bool:
        """Tell whether slot 0 holds an image to run."""
        context = self._context
        if image.swap_type is not SwapType.NONE:
            context.read_headers(image)
        header = image.headers[PRIMARY]
        if not context.options.validate_primary:
            if not header.present:
                context.say(image, f"slot 0 has no image: magic is 0x{header.magic:08x}")
            return header.present
        try:
            self._validate_primary(image)
        except ImageInvalid as exc:
            context.say(image, f"slot 0 does not boot: {exc}")
            return False
        return True

    def _validate_primary(self, image: ImageState) -> None:
        if self._context.header_erased(image, PRIMARY):
            raise ImageInvalid("it is empty")
        if not image.headers[PRIMARY].bootable:
            raise ImageInvalid("its image is flagged as not bootable")
        self._context.check_image(image, PRIMARY, self._mode.max_image_size(image.pair))


_ASKED = {
    SwapType.TEST: "slot 1 is marked for a test",
    SwapType.PERM: "slot 1 is marked to stay",
    SwapType.REVERT: "the image in slot 0 was on test and was not confirmed: going back to that of slot 1",
}


def _swap_type(raw: int) -> SwapType:
    try:
        return SwapType(raw)
    except ValueError:
        return SwapType.PANIC


def _name(raw: int) -> str:
    return _swap_type(raw).name.lower()

"""The flow of the modes that change slot 0: finish what was cut, decide, change, check, boot.

For each image: read the headers; finish a swap that the power cut, or read from the trailers what is asked for and
check the image in slot 1. Then the dependencies. Then, for each image, do it. Then check what is in slot 0 now, and
boot image 0.

Source: mcuboot boot/bootutil/src/loader.c, context_boot_go and what it calls. How images change places is the mode's
business: `UpdateMode`.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, BootStopped, ImageState
from smp_dfu_host.mcuboot.dependencies import unmet
from smp_dfu_host.mcuboot.rollback import downgrade, raise_counter
from smp_dfu_host.mcuboot.slot_check import SlotCheck
from smp_dfu_host.mcuboot.swap_status import load_keys, resume
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType
from smp_dfu_host.mcuboot.update_mode import UpdateMode

CALLED_OFF = "no image is changed"
"""What is said, with the reason, when a dependency keeps all images from being changed."""


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
        self._check = SlotCheck(context, [mode.max_image_size(image.pair) for image in context.images])

    def run(self) -> bool:
        """Boot; return whether there is an image to run, which is image 0's slot 0.

        Raises:
            BootStopped: If the boot loader hangs.
            PowerCut: If the flash says so.
        """
        images = self._context.images
        upgrades = [self._prepare(image) for image in images]
        if any(upgrades) and len(images) > 1:
            self._check_dependencies()
        for image in images:
            self._perform(image)
        return all(self._check_primary(image) for image in images)

    # Finding out what to do

    def _prepare(self, image: ImageState) -> bool:
        """Find the swap type; finish an interrupted swap (boot_prepare_image_for_update). Return if it upgrades."""
        limit, count = self._context.options.max_sectors, len(image.pair.primary.sectors)
        if count > limit:
            self._context.say(image, f"slot 0 has {count} sectors, the boot loader knows {limit}")
            return False
        self._read_headers(image)
        if reason := self._mode.incompatible(image):
            self._context.say(image, f"no update is possible: {reason}")
            return False
        self._status = status = self.read_status(image)
        if not self._locate_headers(image, status):
            return False
        if status.fresh:
            image.swap_type = self._decide(image, status)
            if image.swap_type not in (SwapType.NONE, SwapType.REVERT):
                self._drop_reverts(image)
            if image.swap_type is SwapType.NONE and self._context.options.bootstrap:
                self._bootstrap(image, status)
        else:
            self._drop_reverts(image)
            self._resume(image, status)
        return image.swap_type.upgrades

    def _read_headers(self, image: ImageState) -> None:
        for slot in (PRIMARY, SECONDARY):
            self._mode.locate_header(image, slot, None)

    def read_status(self, image: ImageState) -> BootStatus:
        """Read how far a swap has got (swap_misc.c, swap_read_status).

        Raises:
            BootStopped: If the status bytes contradict each other.
        """
        status = BootStatus()
        status.source, area = self._mode.find_status(image)
        if area is not None:
            self._mode.read_steps(image, area, status)
            status.swap_type = self._context.trailer(area).swap_info()[0]
        return status

    def _locate_headers(self, image: ImageState, status: BootStatus) -> bool:
        """Read the headers again, now knowing of a swap (boot_read_image_headers)."""
        if not self._mode.interruptible:
            return True
        for slot in (PRIMARY, SECONDARY):
            if not self._mode.locate_header(image, slot, status) and (slot == PRIMARY or not status.fresh):
                if self._context.options.bootstrap and self._context.header_erased(image, PRIMARY):
                    return True
                self._context.say(image, f"no image in slot {slot}, so nothing is swapped")
                return False
        return True

    def _decide(self, image: ImageState, status: BootStatus) -> SwapType:
        """Find out what is asked for, and whether slot 1 is fit for it (boot_validated_swap_type)."""
        if status.swap_type != SwapType.NONE:
            # Slot 0 says that a swap had just begun; no step was done.
            self._context.say(image, f"slot 0 tells of a swap ({_name(status.swap_type)}) that was cut at its start")
            return _swap_type(status.swap_type) if self._check.secondary(image, status) else SwapType.FAIL
        asked = self._context.swap_type(image)
        if not asked.upgrades:
            return SwapType.NONE
        self._context.say(image, _ASKED[asked])
        return asked if self._check.secondary(image, status, asked) else SwapType.NONE

    def _drop_reverts(self, image: ImageState) -> None:
        """Let earlier images stay, as they were swapped before the power failed (boot_review_image_swap_types)."""
        for other in self._context.images[: image.index]:
            if other.swap_type is SwapType.REVERT:
                self._context.say(other, "it does not go back: its update was part of one that was cut")
                other.swap_type = SwapType.NONE

    def _bootstrap(self, image: ImageState, status: BootStatus) -> None:
        """Take slot 1 if slot 0 has no valid image."""
        if not (reason := self._check.primary(image)):
            return
        present = image.headers[SECONDARY].present
        if self._check.secondary(image, status) and present:
            self._context.say(image, f"slot 0 is not fit to run ({reason}): it is filled from slot 1")
            image.swap_type = SwapType.REVERT

    def _check_dependencies(self) -> None:
        """Call everything off if an image would run without what it wants (boot_verify_dependencies)."""
        for image in self._context.images:
            stays = image.swap_type in (SwapType.NONE, SwapType.FAIL)
            if reason := unmet(self._context, image, PRIMARY if stays else SECONDARY, _slot_after):
                self._context.say(image, f"{CALLED_OFF}: {reason}")
                for other in self._context.images:
                    other.swap_type = SwapType.NONE
                return

    # Doing it

    def _resume(self, image: ImageState, status: BootStatus) -> None:
        """Finish a swap that was interrupted (boot_complete_partial_swap)."""
        kind = _name(status.swap_type)
        self._context.say(image, f"finishing a swap ({kind}) that was cut at step {status.index}.{status.state}")
        resume(image, status, self._mode.swap_trailer(image))
        self._mode.change(image, status)
        self._finish(image, status.swap_type)
        self._read_headers(image)

    def _perform(self, image: ImageState) -> None:
        """Do what was decided."""
        if len(self._context.images) > 1:
            self._status = BootStatus()
        self._status.swap_type = image.swap_type
        if image.swap_type in (SwapType.TEST, SwapType.PERM) and self._prevented(image):
            image.swap_type = SwapType.NONE
        match image.swap_type:
            case SwapType.NONE:
                return
            case SwapType.TEST | SwapType.PERM | SwapType.REVERT:
                self._update(image, self._status)
            case SwapType.FAIL:
                if self._context.options.mode.swaps:
                    self._context.say(image, "slot 0 keeps its image and is marked as confirmed")
                    self._set_image_ok(image)
            case SwapType.PANIC:
                raise BootStopped("the trailer of slot 0 tells of a swap of a kind that does not exist")

    def _prevented(self, image: ImageState) -> bool:
        """Tell whether the update is older than it may be; it is erased then (check_downgrade_prevention)."""
        if not self._context.options.mode.swaps or not (reason := downgrade(self._context, image)):
            return False
        self._context.say(image, f"the update is erased: {reason}")
        self._context.erase_slot(image.pair.secondary)
        return True

    def _update(self, image: ImageState, status: BootStatus) -> None:
        """Change slot 0, from the start (boot_perform_update)."""
        if self._context.options.bootstrap and self._check.primary(image):
            self._mode.fill(image)
        else:
            if self._context.options.mode.swaps:
                self._measure(image, status)
            self._mode.change(image, status)
        if self._context.options.mode.swaps:
            settle = self._context.options.rollback and image.swap_type is SwapType.PERM
            self._finish(image, image.swap_type, settle=settle)

    def _measure(self, image: ImageState, status: BootStatus) -> None:
        """Find out how much is to be swapped: the larger of the images."""
        sizes = [self._context.image_size(image, slot) for slot in (PRIMARY, SECONDARY)]
        load_keys(image)
        status.swap_size = max(sizes)
        first, second = (max(size - header.hashed_size, 0) for size, header in zip(sizes, image.headers, strict=True))
        status.tlv_sizes = (first, second)

    def _finish(self, image: ImageState, swap_type: int, *, settle: bool = False) -> None:
        """Set the flags that end a swap.

        Args:
            image: The image.
            swap_type: What the swap is for.
            settle: Whether to raise the stored counter between them, as nothing goes back from here.
        """
        if swap_type in (SwapType.PERM, SwapType.REVERT):
            self._set_image_ok(image)
        # What was in slot 1 is in slot 0 now.
        settled = not settle or raise_counter(self._context, image, PRIMARY, image.headers[SECONDARY])
        if swap_type in (SwapType.TEST, SwapType.PERM, SwapType.REVERT):
            self._context.trailer(image.pair.primary).write_copy_done()
        if not settled:
            raise BootStopped("the image has no security counter")

    def _set_image_ok(self, image: ImageState) -> None:
        trailer = self._context.trailer(image.pair.primary)
        if trailer.state().image_ok is Flag.UNSET:
            trailer.write_image_ok()

    # What runs

    def _check_primary(self, image: ImageState) -> bool:
        """Tell whether slot 0 holds an image to run."""
        context = self._context
        if image.swap_type is not SwapType.NONE:
            self._read_headers(image)
        header = image.headers[PRIMARY]
        if not context.options.validate_primary:
            reason = "" if header.present else f"it has no image, the magic is 0x{header.magic:08x}"
        else:
            reason = self._check.primary(image)
        if not reason and context.options.rollback and not self._keep_counter(image):
            reason = "its image has no security counter"
        if reason:
            context.say(image, f"slot 0 does not boot: {reason}")
        return not reason

    def _keep_counter(self, image: ImageState) -> bool:
        """Raise the stored counter, unless the image may yet go back (boot_update_hw_rollback_protection)."""
        state = self._context.trailer(image.pair.primary).state()
        if state.magic is Magic.GOOD and state.image_ok is not Flag.SET:
            return True
        return raise_counter(self._context, image, PRIMARY, image.headers[PRIMARY])


_ASKED = {
    SwapType.TEST: "slot 1 is marked for a test",
    SwapType.PERM: "slot 1 is marked to stay",
    SwapType.REVERT: "the image in slot 0 was on test and was not confirmed: going back to that of slot 1",
}


def _slot_after(image: ImageState) -> int:
    """Return the slot of the image that will run."""
    return SECONDARY if image.swap_type.upgrades else PRIMARY


def _swap_type(raw: int) -> SwapType:
    try:
        return SwapType(raw)
    except ValueError:
        return SwapType.PANIC


def _name(raw: int) -> str:
    return _swap_type(raw).name.lower()

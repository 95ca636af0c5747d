"""The boot loader: decides, swaps if it must, and says which image runs.

Source: mcuboot boot/bootutil/src/loader.c (boot_go) and bootutil_public.c.
"""

from collections.abc import Sequence

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, BootStopped
from smp_dfu_host.mcuboot.direct_xip import PickFlow
from smp_dfu_host.mcuboot.flash import FlashArea, OutOfBounds
from smp_dfu_host.mcuboot.image import ImageInvalid, check_loadable, read_header
from smp_dfu_host.mcuboot.options import (
    BootOptions,
    BootResult,
    Downgrade,
    Mode,
    RamRegion,
    SlotPair,
    slots_of,
)
from smp_dfu_host.mcuboot.overwrite import OverwriteMode
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.request import SetNextError, set_next, set_next_direct
from smp_dfu_host.mcuboot.single import SingleFlow
from smp_dfu_host.mcuboot.swap_move import MoveMode
from smp_dfu_host.mcuboot.swap_offset import OffsetMode
from smp_dfu_host.mcuboot.swap_scratch import ScratchMode
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.update import UpdateFlow
from smp_dfu_host.mcuboot.update_mode import UpdateMode
from smp_dfu_host.mcuboot.verify import ImageInfo

__all__ = [
    "BootOptions",
    "BootResult",
    "Bootloader",
    "Downgrade",
    "Mode",
    "RamRegion",
    "SetNextError",
    "SlotPair",
]


class Bootloader:
    """MCUboot, built with some options, on some slots.

    Args:
        options: The build.
        pairs: The slots of each image; image 0 is the one that is booted.
        scratch: The scratch area of swap-using-scratch.
        counters: The stored security counters, one an image; they are changed in place. None: all 0.

    Raises:
        StoreError: If the mode needs a scratch area and there is none.
    """

    def __init__(
        self,
        options: BootOptions,
        pairs: Sequence[SlotPair],
        scratch: FlashArea | None = None,
        counters: list[int] | None = None,
    ) -> None:
        if options.mode is Mode.SWAP_USING_SCRATCH and scratch is None:
            raise StoreError(f"boot loader mode {options.mode.value} needs a scratch area")
        self._options = options
        self._pairs = tuple(pairs)
        self._scratch = scratch
        self._counters = counters if counters is not None else [0] * len(self._pairs)

    def boot(self) -> BootResult:
        """Do what the boot loader does after a reset.

        Raises:
            PowerCut: If the flash says so; boot again to see what becomes of it.
            StoreError: If the flash cannot be read or written.
        """
        context = self._context()
        before = self._swap_types(context)
        operations = self._operations()
        stopped: str | None = None
        try:
            ok = self._run(context)
        except (BootStopped, ImageInvalid, OutOfBounds) as exc:
            # Flash operations that make no sense fail, and MCUboot asserts that none does.
            ok, stopped = False, str(exc)
            context.actions.append(f"the boot loader hangs: {stopped}")
        return self._result(context, ok, stopped, before, self._operations() - operations)

    def _swap_types(self, context: BootContext) -> tuple[SwapType, ...]:
        if not (self._options.mode.updates or self._options.mode.picks_slot):
            return ()
        return tuple(context.swap_type(image) for image in context.images)

    def _run(self, context: BootContext) -> bool:
        if self._options.mode.picks_slot:
            return PickFlow(context).run()
        if not self._options.mode.updates:
            return SingleFlow(context).run()
        ok = UpdateFlow(context, self._update_mode(context)).run()
        for image in context.images:
            image.active = PRIMARY if ok else None
        return ok

    def _update_mode(self, context: BootContext) -> UpdateMode:
        match self._options.mode:
            case Mode.SWAP_USING_SCRATCH if self._scratch is not None:
                return ScratchMode(context, self._scratch)
            case Mode.SWAP_USING_OFFSET:
                return OffsetMode(context)
            case Mode.OVERWRITE_ONLY:
                return OverwriteMode(context)
            case _:
                return MoveMode(context)

    def _result(
        self, context: BootContext, ok: bool, stopped: str | None, before: tuple[SwapType, ...], operations: int
    ) -> BootResult:
        images = context.images
        slot = images[0].active
        header = images[0].headers[slot] if ok and slot is not None else None
        address = images[0].slot(slot).address if ok and slot is not None else None
        if header is not None:
            context.actions.append(f"booting version {header.version} from slot {slot}")
        done = tuple(image.swap_type for image in images) if self._options.mode.updates else ()
        active = tuple(image.active for image in images)
        nv = tuple(self._counters)
        return BootResult(ok, stopped, before, done, active, address, header, nv, operations, tuple(context.actions))

    def swap_type(self, image: int) -> SwapType:
        """Return what the next boot is asked to do with an image; the images are not looked at."""
        context = self._context()
        return context.swap_type(context.images[image])

    def swap_status(self, image: int) -> BootStatus:
        """Return what the next boot finds of a swap that was cut; of type NONE if it finds none.

        Raises:
            BootStopped: If the status bytes contradict each other.
        """
        context = self._context()
        if not self._options.mode.swaps or self.incompatible(image):
            return BootStatus()
        return UpdateFlow(context, self._update_mode(context)).read_status(context.images[image])

    def set_next(self, image: int, slot: int, *, active: bool, confirm: bool) -> None:
        """Mark a slot, as an application does.

        Args:
            image: Number of the image pair.
            slot: 0 or 1.
            active: Whether the slot is the one that runs; it is then confirmed.
            confirm: Whether the image stays for good, or is tested once.

        Raises:
            SetNextError: If the slot's trailer holds garbage.
        """
        trailer = self.trailer(image, slot)
        if self._options.mode.picks_slot:
            set_next_direct(trailer, active=active, confirm=confirm)
        else:
            set_next(trailer, image, active=active, confirm=confirm)

    def set_pending(self, image: int, *, permanent: bool) -> None:
        """Mark slot 1 for the next boot (boot_set_pending_multi).

        Raises:
            SetNextError: If its trailer holds garbage.
        """
        self.set_next(image, SECONDARY, active=False, confirm=permanent)

    def set_confirmed(self, image: int) -> None:
        """Confirm slot 0, whichever slot runs (boot_set_confirmed_multi).

        Raises:
            SetNextError: If its trailer holds garbage.
        """
        self.set_next(image, PRIMARY, active=True, confirm=True)

    def max_image_size(self, image: int) -> int:
        """Return the most bytes that an image may have, from header to last TLV."""
        context, pair = self._context(), self._pairs[image]
        if self._options.mode.picks_slot:
            flow = PickFlow(context)
            return min(flow.max_image_size(pair, slot) for slot in (PRIMARY, SECONDARY))
        if not self._options.mode.updates:
            return SingleFlow(context).max_image_size(context.images[image])
        return self._update_mode(context).max_image_size(pair)

    def check_image(self, image: int, slot: int, base: int = 0, proofs: Proofs | None = None) -> ImageInfo:
        """Check an image as a boot would: header, size, TLVs, security counter, hash, signature; decrypted if need be.

        Whether it may replace another one (marks, versions, dependencies, addresses) is not looked at.

        Args:
            image: Number of the image pair.
            slot: 0 or 1.
            base: Where it starts in the slot: with swap-using-offset, an update is one sector into slot 1.
            proofs: What was computed of it before; None: nothing.

        Raises:
            ImageInvalid: With the reason in words.
            StoreError: If the flash cannot be read.
        """
        context = self._context()
        context.proofs = proofs or context.proofs
        state = context.images[image]
        state.base, area = base, state.slot(slot)
        state.headers[slot] = header = read_header(area, base)
        if not (self._options.mode.updates or self._options.mode.picks_slot):
            check_loadable(header, area.size)
            return SingleFlow(context).validate(state, slot)
        if self._options.mode.picks_slot:
            return context.check_image(state, slot, PickFlow(context).max_image_size(state.pair, slot))
        return context.check_image(state, slot, self.max_image_size(image))

    def incompatible(self, image: int) -> str:
        """Return why the slots of an image cannot be updated; empty: they can."""
        context = self._context()
        if not self._options.mode.updates:
            return ""
        return self._update_mode(context).incompatible(context.images[image])

    def trailer(self, image: int, slot: int) -> Trailer:
        """Return a slot's trailer, to look at."""
        return Trailer(self._pairs[image].slot(slot), self._options.rules)

    def scratch_trailer(self) -> Trailer:
        """Return the scratch area's trailer, to look at.

        Raises:
            StoreError: If there is no scratch area.
        """
        if self._scratch is None:
            raise StoreError("this boot loader has no scratch area")
        return Trailer(self._scratch, self._options.rules, scratch=True)

    def _context(self) -> BootContext:
        return BootContext(self._options, self._pairs, self._scratch, self._counters)

    def _operations(self) -> int:
        areas = slots_of(self._pairs) + ([self._scratch] if self._scratch else [])
        return sum(meter.ops for meter in {id(area.meter): area.meter for area in areas}.values())

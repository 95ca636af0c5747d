"""What can be seen of the slots; nothing is changed.

Reading needs no lock: all slots are opened, and opened again if a commit replaced one at that moment.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from smp_dfu_host.config import Config
from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import FlashMeter, MemoryStorage, PowerCut
from smp_dfu_host.mcuboot.options import BootResult, Mode
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.trailer import Field
from smp_dfu_host.store import history
from smp_dfu_host.store import state as states
from smp_dfu_host.store.build import boot_options, make_bootloader
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.files import read_file
from smp_dfu_host.store.fitness import Fitness, image_base
from smp_dfu_host.store.history import BootEntry
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas, Layout
from smp_dfu_host.store.listing import BootType, Listed, NextBoot, SlotView, read_listed, view
from smp_dfu_host.store.outlook import outlook
from smp_dfu_host.store.slot_files import SlotFiles
from smp_dfu_host.store.state import BootState


class SlotReader:
    """The slots of a device, in a folder that is there already.

    Methods block for as long as the disk takes. Slot numbers count through all images. Methods that read the slots
    raise `StoreError` if a slot's file is missing or of the wrong size.

    Raises:
        ConfigError: If a key cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.layout = Layout.from_config(config)
        self.options = boot_options(config)
        self._files = SlotFiles(self.layout)
        self._allow_erase_pending = config.image.allow_erase_pending

    def state(self) -> BootState:
        """Return what the last run of the boot loader did."""
        return states.load(read_file(self.layout.state), self.layout.state)

    def running_slot(self, image: int = 0) -> int | None:
        """Return the slot that runs, or None if no image booted."""
        return self.state().slot(image)

    @contextmanager
    def reading(self) -> Iterator[Areas]:
        """Give all slots as flash, as they are at one moment; do not write to them."""
        with self._files.areas(writable=False) as (areas, _):
            yield areas

    def bootloader(self, areas: Areas, counters: list[int] | None = None) -> Bootloader:
        """Return a boot loader for those slots; `counters` are changed in place, the stored ones are not."""
        known = self.state().counters_of(self.layout.images) if counters is None else counters
        return make_bootloader(self.options, areas, known)

    def slots(self) -> list[SlotView]:
        """Return the image list: the slots that read as an image, in order."""
        views = []
        with self.reading() as areas:
            state = self.state()
            for slot, listed in enumerate(self._list(areas)):
                image = slot // SLOTS_OF_IMAGE
                if listed:
                    plan = self._next_boot(image, areas, state)
                    views.append(view(image, slot, areas[slot].size, listed, state.slot(image), plan))
        return views

    def listed(self, slot: int) -> Listed | None:
        """Return the image in a slot, or None if it does not read as one."""
        with self.reading() as areas:
            return self._list(areas)[slot]

    def next_boot(self, image: int = 0) -> NextBoot:
        """Return what the next boot runs, as far as marks and versions tell."""
        with self.reading() as areas:
            return self._next_boot(image, areas, self.state())

    def swap_type(self, image: int = 0) -> SwapType:
        """Return what the trailers ask the next boot for."""
        with self.reading() as areas:
            return self.bootloader(areas).swap_type(image)

    def max_image_size(self, image: int = 0) -> int:
        """Return the most bytes, header to last TLV, that the boot loader accepts in an image."""
        with self.reading() as areas:
            return self.bootloader(areas).max_image_size(image)

    def trailer_fields(self, slot: int) -> tuple[Field, ...]:
        """Return the trailer of a slot, field by field, for pictures."""
        with self.reading() as areas:
            return self.bootloader(areas).trailer(*divmod(slot, SLOTS_OF_IMAGE)).fields()

    def trailer_offset(self, slot: int) -> int:
        """Return where the trailer of a slot starts, swap status included."""
        layout = self.options.rules.layout(self.layout.size(slot), self.layout.align)
        return max(layout.status, 0)

    def image_base(self, slot: int) -> int:
        """Return where an uploaded image starts in a slot: with swap-using-offset, one sector into slot 1."""
        return image_base(self.options, slot, self.layout.sectors(slot))

    def upload_slot(self, image: int = 0) -> int:
        """Return the slot that an upload for an image goes to: the one that does not run.

        Raises:
            SlotRefusal: If there is none in this mode, or a revert is to go back to the image in it.
            StoreError: If a swap is interrupted.
        """
        if image not in range(self.layout.images):
            raise SlotRefusal(Fault.NO_SLOT, f"image {image}: there are {self.layout.images}")
        state = self.state()
        state.check_finished()
        slot = _other(self._active(image, state))
        if not self.takes_upload(slot):
            raise SlotRefusal(Fault.NO_SLOT, f"{self.options.mode.value}: no slot takes an upload while this one runs")
        self.check_wanted(slot)
        return slot

    def check_wanted(self, slot: int) -> None:
        """Refuse a slot that the next boot reverts to, or will use if that is not to be changed.

        Raises:
            SlotRefusal: If it is one (zephyr img_mgmt_state.c, img_mgmt_slot_in_use).
        """
        plan = self.next_boot(slot // SLOTS_OF_IMAGE)
        if plan == NextBoot(BootType.REVERT, slot):
            raise SlotRefusal(Fault.IN_USE, f"slot {slot} holds the image that the next boot reverts to")
        if plan.slot == slot and not self._allow_erase_pending:
            raise SlotRefusal(Fault.IN_USE, f"slot {slot} is for the next boot and image.allow_erase_pending = false")

    def takes_upload(self, slot: int) -> bool:
        """Tell whether uploads may go to a slot: the one that does not run, of a mode in which it can come to run.

        In firmware-loader mode the loader in slot 1 updates slot 0, and nobody updates the loader.
        """
        mode = self.options.mode
        usable = mode.updates or mode.picks_slot or (mode is Mode.FIRMWARE_LOADER and slot % SLOTS_OF_IMAGE == 0)
        return usable and slot != self._active(slot // SLOTS_OF_IMAGE, self.state())

    def fitness(self, areas: Areas, slot: int, proofs: Proofs | None = None) -> Fitness:
        """Return the checks of a slot's image: what the boot loader would refuse."""
        return Fitness(self.options, areas, slot, tuple(self.state().counters_of(self.layout.images)), proofs)

    def check_image(self, slot: int, proofs: Proofs | None = None) -> None:
        """Refuse the image in a slot if the boot loader would.

        Args:
            slot: Where it is.
            proofs: What was computed of it before; None: nothing.

        Raises:
            SlotRefusal: With the reason.
            StoreError: If the slot cannot be read.
        """
        with self.reading() as areas:
            self.fitness(areas, slot, proofs).check()

    def history(self) -> tuple[BootEntry, ...]:
        """Return what the boot loader did at each boot, the oldest first, as far as it is known.

        Raises:
            StoreError: If the file makes no sense.
        """
        return history.load(read_file(self.layout.history), self.layout.history)

    def preview_boot(self) -> BootResult:
        """Return what the boot loader would do; nothing is written."""
        with self._files.staged() as overlays:
            return self.bootloader(self.layout.areas(lambda slot: overlays[slot])).boot()

    def operation_size(self, number: int) -> int:
        """Return how many bytes a flash operation of the next boot writes or erases; nothing is written.

        Args:
            number: Counted from 1.

        Raises:
            StoreError: If the next boot has no such operation.
        """
        with self._files.staged() as overlays:
            try:
                self.bootloader(self.layout.areas(lambda slot: overlays[slot], FlashMeter(number))).boot()
            except PowerCut as exc:
                return exc.size
        raise StoreError(f"the next boot has no flash operation {number}")

    def contents(self) -> tuple[bytes, ...]:
        """Return the bytes of all flash areas, as they are at one moment."""
        with self.reading() as areas:
            return tuple(area.read(0, area.size) for area in areas.all)

    def rehearse(self, contents: Sequence[bytes], meter: FlashMeter) -> tuple[Bootloader, Areas]:
        """Return a boot loader over copies in memory, and the copies; `contents` as `contents()` gives them."""
        areas = self.layout.areas(lambda number: MemoryStorage(contents[number]), meter)
        return self.bootloader(areas), areas

    def _next_boot(self, image: int, areas: Areas, state: BootState) -> NextBoot:
        active, listed = self._active(image, state), self._list(areas)
        return outlook(self.options, self.bootloader(areas), active, listed[active], listed[_other(active)])

    def _active(self, image: int, state: BootState) -> int:
        """Return the slot of an image that runs, or its slot 0 if nothing does."""
        running = state.slot(image)
        return image * SLOTS_OF_IMAGE if running is None else running

    def _list(self, areas: Areas) -> list[Listed | None]:
        """Return the image of each slot, None for those that do not read as one."""
        kind = self.options.policy.digest
        return [read_listed(area, self.image_base(slot), kind) for slot, area in enumerate(areas)]


def _other(slot: int) -> int:
    """Return the other slot of the same image."""
    return slot ^ 1

"""The slots: files that are what the flash would be, and the boot loader that moves images between them.

Durability. What is answered is on the disk, or is told to be resumable:

- Creation, boot, erase and load write whole new files and replace the old ones by one commit (store/commit.py): synced
  data, one rename that decides, and redo at the next start. A power cut shows the slots before or after, never a swap
  half done.
- Test and confirm write a few flash cells into the slot's file, in MCUboot's order, and sync it before the answer; cut
  between two of them, the boot loader reads what it would read on a device, and acts as there.
- Upload chunks survive the end of the process as soon as they are answered, because the kernel has them; a power cut of
  the host takes back what was not synced yet, and the session knows how much that is (store/upload.py).

Boot runs the byte-true engine over memory. Everything that changes files holds `store.lock` meanwhile, across
processes. Reading needs no lock: all slots are opened, and opened again if a commit replaced one at that moment.

An image that ran, was not confirmed and was swapped out again cannot be confirmed by its hash while it lies in the
other slot, unless `[image] confirm_rolled_back` says so: phone apps confirm after a reset without looking which image
runs, and would make the bad one permanent. It can still be tested, which makes nothing permanent, and it stays in the
list, where people can see it. An upload, erase or load of the slot forgets it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from smp_dfu_host.config import Config
from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage, PowerCut
from smp_dfu_host.mcuboot.options import BootResult, Mode
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.trailer import Field
from smp_dfu_host.store import history
from smp_dfu_host.store import state as states
from smp_dfu_host.store.build import boot_options, make_bootloader
from smp_dfu_host.store.creation import prepare
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.files import Overlay, read_file, replace_durably
from smp_dfu_host.store.fitness import Fitness, image_base
from smp_dfu_host.store.history import BootEntry
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas, Layout
from smp_dfu_host.store.listing import BootType, Listed, NextBoot, SlotView, read_listed, view
from smp_dfu_host.store.outlook import outlook
from smp_dfu_host.store.schedule import check_other, find_slot, must_write
from smp_dfu_host.store.slot_files import SlotFiles
from smp_dfu_host.store.state import BootState
from smp_dfu_host.store.upload_record import UploadRecord


class SlotStore:
    """The slots of a device, in a folder; made, if there are none, on construction.

    Several processes may use one folder. Methods block for as long as the disk takes. Slot numbers count through all
    images. Methods that read the slots raise `StoreError` if a slot's file is missing or of the wrong size.

    Raises:
        ConfigError: If a key or the factory image cannot be used, or keys are configured and there is no factory image.
        StoreError: If the folder or a file in it is not what it should be.
    """

    def __init__(self, config: Config) -> None:
        self.layout = Layout.from_config(config)
        self.options = boot_options(config)
        self._image = config.image
        self._files = SlotFiles(self.layout)
        prepare(self._files, self.options, config.image)

    def state(self) -> BootState:
        """Return what the last run of the boot loader did."""
        return states.load(read_file(self.layout.state))

    def running_slot(self, image: int = 0) -> int | None:
        """Return the slot that runs, or None if no image booted."""
        return self.state().slot(image)

    @contextmanager
    def reading(self) -> Iterator[Areas]:
        """Give all slots as flash, as they are at one moment; do not write to them."""
        with self._files.areas() as (areas, _):
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
        """
        if image not in range(self.layout.images):
            raise SlotRefusal(Fault.NO_SLOT, f"image {image}: there are {self.layout.images}")
        slot = _other(self._active(image, self.state()))
        if not self.takes_upload(slot):
            raise SlotRefusal(Fault.NO_SLOT, f"{self.options.mode.value}: no slot takes an upload while this one runs")
        if self.next_boot(image) == NextBoot(BootType.REVERT, slot):
            raise SlotRefusal(Fault.IN_USE, f"slot {slot} holds the image that the next boot reverts to")
        return slot

    def takes_upload(self, slot: int) -> bool:
        """Tell whether uploads may go to a slot: the one that does not run, of a mode in which it can come to run.

        In firmware-loader mode the loader in slot 1 updates slot 0, and nobody updates the loader.
        """
        mode = self.options.mode
        usable = mode.updates or mode.picks_slot or (mode is Mode.FIRMWARE_LOADER and slot % SLOTS_OF_IMAGE == 0)
        return usable and slot != self._active(slot // SLOTS_OF_IMAGE, self.state())

    def fitness(self, areas: Areas, slot: int) -> Fitness:
        """Return the checks of a slot's image: what the boot loader would refuse."""
        return Fitness(self.options, areas, slot, tuple(self.state().counters_of(self.layout.images)))

    def check_image(self, slot: int) -> None:
        """Refuse the image in a slot if the boot loader would.

        Raises:
            SlotRefusal: With the reason.
            StoreError: If the slot cannot be read.
        """
        with self.reading() as areas:
            self.fitness(areas, slot).check()

    def boot(self, cut_before: int | None = None, tear: int = 0, *, loader: bool = False) -> BootResult:
        """Run the boot loader once and keep what it did; an upload into a slot that it changed is forgotten.

        Args:
            cut_before: Cut the power before that flash operation, counted from 1, and keep the interrupted flash.
            tear: How many bytes of that operation are still done.
            loader: Ask a boot loader in firmware-loader mode for the loader in slot 1.

        Raises:
            PowerCut: If asked for, after the interrupted flash was kept.
            StoreError: If the slots cannot be read, or the result cannot be kept.
        """
        with self._files.exclusive(), self._files.staged() as overlays:
            meter, state = FlashMeter(cut_before, tear), self.state()
            areas = self.layout.areas(lambda slot: overlays[slot], meter)
            number, counters = state.boots + 1, state.counters_of(self.layout.images)
            options = replace(self.options, loader_asked_for=loader)
            try:
                result = make_bootloader(options, areas, counters).boot()
            except PowerCut as exc:
                gone = {**state.rolled_back, **self._going_back()}
                cut = replace(state, boots=number, counters=tuple(counters), rolled_back=gone)
                self._keep(overlays, cut, history.cut(number, meter.ops, str(exc)))
                raise
            self._keep(overlays, _booted(state, result, self._list(areas)), history.booted(number, result))
            return result

    def history(self) -> tuple[BootEntry, ...]:
        """Return what the boot loader did at each boot, the oldest first, as far as it is known.

        Raises:
            StoreError: If the file makes no sense.
        """
        return history.load(read_file(self.layout.history))

    def preview_boot(self) -> BootResult:
        """Return what the boot loader would do; nothing is written."""
        with self._files.staged() as overlays:
            return self.bootloader(self.layout.areas(lambda slot: overlays[slot])).boot()

    def contents(self) -> tuple[bytes, ...]:
        """Return the bytes of all flash areas, as they are at one moment."""
        with self.reading() as areas:
            return tuple(area.read(0, area.size) for area in areas.all)

    def rehearse(self, contents: Sequence[bytes], meter: FlashMeter) -> tuple[Bootloader, Areas]:
        """Return a boot loader over copies in memory, and the copies; `contents` as `contents()` gives them."""
        areas = self.layout.areas(lambda number: MemoryStorage(contents[number]), meter)
        return self.bootloader(areas), areas

    def set_state(self, digest: bytes | None, *, confirm: bool) -> int | None:
        """Schedule an image for the next boot, or confirm the running one; return the slot if that was confirmed.

        Args:
            digest: The image's hash; None or empty: the running one.
            confirm: For good; False: for one boot.

        Raises:
            SlotRefusal: If that cannot be done now (store/schedule.py).
            StoreError: If the slot's trailer does not take it.
        """
        mode = self.options.mode
        if not (mode.updates or mode.forgets):
            raise SlotRefusal(Fault.NOT_SUPPORTED, f"{mode.value}: what runs next is not decided by marks")
        with self._files.exclusive(), self._files.areas() as (areas, files):
            state, listed = self.state(), self._list(areas)
            size = self.options.policy.digest.size
            slot = find_slot(listed, digest, self._active(0, state), confirm=confirm, hash_size=size)
            image = slot // SLOTS_OF_IMAGE
            active = self._active(image, state)
            if confirm:
                check_other(slot, active, self._image.confirm_others)
            if confirm and slot != active:
                self._check_rolled_back(slot, listed[slot], state)
            plan = self._next_boot(image, areas, state)
            if not must_write(slot, active, plan, confirm=confirm, free=mode.forgets):
                return None
            self.bootloader(areas).set_next(image, slot % SLOTS_OF_IMAGE, active=slot == active, confirm=confirm)
            files[slot].sync()
            if mode.updates and slot != active and self._next_boot(image, areas, state).slot != slot:
                raise StoreError(f"the trailer of slot {slot} is damaged and takes no mark: erase the slot")
            return slot if slot == active else None

    def confirm_running(self, image: int = 0) -> None:
        """Confirm the running image, as an application does for itself (Zephyr's boot_write_img_confirmed).

        Raises:
            StoreError: If no image runs, or its trailer does not take it.
        """
        with self._files.exclusive(), self._files.areas() as (areas, files):
            slot = self.state().slot(image)
            if slot is None:
                raise StoreError("no image runs that could be confirmed")
            before = areas[slot].generation
            self.bootloader(areas).set_next(image, slot % SLOTS_OF_IMAGE, active=True, confirm=True)
            if areas[slot].generation != before:
                files[slot].sync()

    def erase(self, slot: int) -> None:
        """Erase a slot; a schedule in it is cancelled, an upload is forgotten.

        Raises:
            SlotRefusal: If there is no such slot (an upload is forgotten all the same), or it is in use.
            StoreError: If it cannot be written.
        """
        if slot not in self.layout.slots:
            self.close_uploads()
            raise self._no_such_slot(slot)
        with self._files.exclusive():
            self._check_free(slot)
            self._replace(slot, self.layout.blank(slot))

    def load(self, slot: int, data: bytes, *, check: bool = True) -> None:
        """Put an image, or the dump of a whole slot, into a slot; the rest of the slot is erased.

        An image goes where an upload would go (`image_base`), a dump is as long as the slot.

        Args:
            slot: Any slot that is not in use; while no image boots, any slot.
            data: The file's bytes.
            check: Refuse what the boot loader would refuse.

        Raises:
            SlotRefusal: If the slot is in use, or the image is not right.
            StoreError: If it cannot be written.
        """
        if slot not in self.layout.slots:
            raise self._no_such_slot(slot)
        blank = self.layout.blank(slot)
        base = self.image_base(slot) if len(data) != len(blank) else 0
        if base + len(data) > len(blank):
            raise SlotRefusal(Fault.TOO_LARGE, f"{len(data)} bytes, slot {slot} has {len(blank) - base}")
        contents = blank[:base] + data + blank[base + len(data) :]
        if check:
            with self.reading() as areas:
                loaded = areas.replaced(slot, self.layout.area(slot, MemoryStorage(contents)))
                self.fitness(loaded, slot).check()
        with self._files.exclusive():
            self._check_free(slot)
            self._replace(slot, contents)

    def restore(self, slot: int, contents: bytes) -> None:
        """Put the dump of a whole slot into any slot, the running one too; nothing is checked, no server may run.

        Raises:
            SlotRefusal: If there is no such slot, or the dump has another size.
            StoreError: If it cannot be written.
        """
        if slot not in self.layout.slots:
            raise self._no_such_slot(slot)
        if len(contents) != self.layout.size(slot):
            raise SlotRefusal(Fault.TOO_LARGE, f"{len(contents)} bytes, slot {slot} has {self.layout.size(slot)}")
        with self._files.exclusive():
            self._replace(slot, contents)

    @contextmanager
    def writing(self, slot: int) -> Iterator[FlashArea]:
        """Give a slot as flash to change in place, for a new image; what was known of the old one is forgotten."""
        with self._files.exclusive(), self._files.areas() as (areas, _):
            self._forget_rollback(slot)
            yield areas[slot]

    def renew(self, slot: int) -> None:
        """Take the image in a slot for a new one, as if it had been uploaded again."""
        with self._files.exclusive():
            self._forget_rollback(slot)

    def drop_upload(self, owner: str) -> None:
        """Forget the upload session if it is this owner's; a later upload begins at offset 0."""
        record = UploadRecord.read(self.layout.upload)
        if record and record.owned_by(owner):
            self.close_uploads()

    def close_uploads(self) -> None:
        """Forget the upload session, whosever it is, in every process."""
        try:
            self.layout.upload.unlink(missing_ok=True)
        except OSError as exc:
            raise StoreError(f"{self.layout.upload}: {exc.strerror}") from exc

    def _forget_rollback(self, slot: int) -> None:
        state = self.state()
        if slot in state.rolled_back:
            replace_durably(self.layout.state, state.without_rollback(slot).dump())

    def _going_back(self) -> dict[int, str]:
        """Return what a revert is about to put into slot 1 of each image, as hashes.

        The boot that finishes a revert does not know any more that it is one. What is told here and does not come to
        lie there is forgotten by that boot.
        """
        if not self.options.mode.swaps:
            return {}
        going = {}
        for image in range(self.layout.images):
            plan, running = self.next_boot(image), self.listed(image * SLOTS_OF_IMAGE)
            if plan.type is BootType.REVERT and running:
                going[plan.slot] = running.hash.hex()
        return going

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

    def _check_rolled_back(self, slot: int, listed: Listed | None, state: BootState) -> None:
        known = listed is not None and state.rolled_back.get(slot) == listed.hash.hex()
        if known and not self._image.confirm_rolled_back:
            raise SlotRefusal(
                Fault.ROLLED_BACK, f"the image in slot {slot} ran and was rolled back: test it, or load it anew"
            )

    def _check_free(self, slot: int) -> None:
        """Refuse a slot that runs, or that a revert goes back to."""
        state = self.state()
        if slot == state.slot(slot // SLOTS_OF_IMAGE):
            raise SlotRefusal(Fault.IN_USE, f"slot {slot} is running")
        if state.ok and self.next_boot(slot // SLOTS_OF_IMAGE) == NextBoot(BootType.REVERT, slot):
            raise SlotRefusal(Fault.IN_USE, f"slot {slot} holds the image that the next boot reverts to")

    def _no_such_slot(self, slot: int) -> SlotRefusal:
        # The next two would be a second image's. Beyond, Zephyr finds no flash area and says so (img_mgmt_erase_slot).
        fault = Fault.INVALID_SLOT if slot < self.layout.slots.stop + SLOTS_OF_IMAGE else Fault.NO_AREA
        return SlotRefusal(fault, f"slot {slot}: there are slots 0 to {self.layout.slots.stop - 1}")

    def _replace(self, slot: int, contents: bytes) -> None:
        self.close_uploads()
        state = self.state().without_rollback(slot)
        self._files.replace({self.layout.slot(slot): contents, self.layout.state: state.dump()})

    def _keep(self, overlays: tuple[Overlay, ...], state: BootState, entry: BootEntry) -> None:
        """Commit the changed slots, the state and the history as one."""
        changed = {slot: overlay for slot, overlay in enumerate(overlays) if overlay.changed}
        record = UploadRecord.read(self.layout.upload)
        if record and record.slot in changed:
            self.close_uploads()
        slots = {self.layout.slot(slot): overlay for slot, overlay in changed.items()}
        told = history.append(read_file(self.layout.history), entry)
        self._files.replace({**slots, self.layout.state: state.dump(), self.layout.history: told})


def _booted(before: BootState, result: BootResult, listed: list[Listed | None]) -> BootState:
    """Return the state after a boot."""
    digests = {slot: image.hash.hex() for slot, image in enumerate(listed) if image}
    rolled_back = {slot: known for slot, known in before.rolled_back.items() if digests.get(slot) == known}
    for image, done in enumerate(result.swap_type_done):
        slot = image * SLOTS_OF_IMAGE + 1
        # Bootstrap calls its copy a revert too; the same image is in both slots then.
        if done is SwapType.REVERT and slot in digests and digests[slot] != digests.get(slot - 1):
            rolled_back[slot] = digests[slot]
    return BootState(
        boots=before.boots + 1,
        time=history.now(),
        ok=result.ok,
        reason="" if result.ok else result.stopped or "; ".join(result.actions) or "no image boots",
        actions=result.actions,
        running=tuple(image * SLOTS_OF_IMAGE + (slot or 0) for image, slot in enumerate(result.active_slots)) or (0,),
        rolled_back=rolled_back,
        counters=result.nv,
    )


def _other(slot: int) -> int:
    """Return the other slot of the same image."""
    return slot ^ 1

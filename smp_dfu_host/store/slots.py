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
processes; what only reads is in store/slot_reader.py.

After a boot that was cut nothing is changed until the next one: a device could not be asked then, as its boot loader
would go on first, and a mark set meanwhile would have that boot loader swap half an image. A dump may be put in.

An image that ran, was not confirmed and was swapped out again cannot be confirmed by its hash while it lies in the
other slot, unless `[image] confirm_rolled_back` says so: phone apps confirm after a reset without looking which image
runs, and would make the bad one permanent. It can still be tested, which makes nothing permanent, and it stays in the
list, where people can see it. An upload, erase or load of the slot forgets it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from smp_dfu_host.config import Config
from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage, PowerCut
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.store import history
from smp_dfu_host.store import state as states
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.creation import prepare
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.files import Overlay, naming, read_file, replace_durably
from smp_dfu_host.store.history import BootEntry
from smp_dfu_host.store.incoming import Incoming
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas
from smp_dfu_host.store.listing import BootType, Listed
from smp_dfu_host.store.rules import the_rule
from smp_dfu_host.store.schedule import check_other, find_slot, must_write
from smp_dfu_host.store.slot_reader import SlotReader
from smp_dfu_host.store.state import BootState
from smp_dfu_host.store.upload_record import UploadRecord


class SlotStore(SlotReader):
    """The slots of a device, in a folder; made, if there are none, on construction.

    Several processes may use one folder. Methods that change slots raise `StoreError` while a swap is interrupted.

    Raises:
        ConfigError: If a key or the factory image cannot be used, or keys are configured and there is no factory image.
        StoreError: If the folder or a file in it is not what it should be.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._image = config.image
        prepare(self._files, self.options, config.image)

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
                cut = replace(state, boots=number, counters=tuple(counters), rolled_back=gone, unfinished=True)
                self._keep(overlays, cut, history.cut(number, meter.ops, str(exc)))
                raise
            self._keep(overlays, states.booted(state, result, self._list(areas)), history.booted(number, result))
            return result

    def set_state(self, digest: bytes | None, *, confirm: bool, slot: int | None = None) -> int | None:
        """Schedule an image for the next boot, or confirm the running one; return the slot if that was confirmed.

        Args:
            digest: The image's hash; None or empty: the running one.
            confirm: For good; False: for one boot.
            slot: Which one is meant, where several hold that image; None: the first.

        Raises:
            SlotRefusal: If that cannot be done now (store/schedule.py).
            StoreError: If the slot's trailer does not take it.
        """
        mode = self.options.mode
        if not (mode.updates or mode.forgets):
            raise SlotRefusal(Fault.NOT_SUPPORTED, f"{mode.value}: what runs next is not decided by marks")
        with self._files.exclusive(), self._files.areas(writable=True) as (areas, files):
            state, listed = self._settled(), self._list(areas)
            size = self.options.policy.digest.size
            slot = find_slot(listed, digest, self._active(0, state), confirm=confirm, hash_size=size, wanted=slot)
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

    def confirm_running(self, image: int = 0) -> bool:
        """Confirm the running image, as an application does for itself (Zephyr's boot_write_img_confirmed).

        Returns:
            Whether that changed anything; False if it was confirmed already.

        Raises:
            StoreError: If no image runs, or its trailer does not take it.
        """
        with self._files.exclusive(), self._files.areas(writable=True) as (areas, files):
            slot = self._settled().slot(image)
            if slot is None:
                raise StoreError("no image runs that could be confirmed")
            before = areas[slot].generation
            self.bootloader(areas).set_next(image, slot % SLOTS_OF_IMAGE, active=True, confirm=True)
            changed = areas[slot].generation != before
            if changed:
                files[slot].sync()
            return changed

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
            self._replace({slot: self.layout.blank(slot)})

    def load(self, slot: int, data: bytes, *, check: bool = True) -> None:
        """Put an image, or the dump of a whole slot, into a slot: `load_all` of one."""
        self.load_all([Incoming(slot, data)], check=check)

    def load_all(self, incoming: Sequence[Incoming], *, check: bool = True) -> None:
        """Put images, or dumps of whole slots, into slots, all or none; the rest of each slot is erased.

        An image goes where an upload would go (`image_base`); a dump is as long as the slot and stays as it is.

        Args:
            incoming: For one slot each; any that is not in use; while no image boots, any.
            check: Refuse what the boot loader would refuse, each with those before it in their slots.

        Raises:
            SlotRefusal: If a slot is in use, or an image is not right; nothing has changed then.
            StoreError: If they cannot be written; likewise.
        """
        contents = {}
        for each in incoming:
            with each.naming():
                contents[each.slot] = self._filled(each)
        if check:
            self._check_fitness(incoming, contents)
        with self._files.exclusive():
            for each in incoming:
                with each.naming():
                    self._check_free(each.slot)
            self._replace(contents)

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
            self._replace({slot: contents})

    @contextmanager
    def writing(self, slot: int) -> Iterator[FlashArea]:
        """Give a slot as flash to change in place, for a new image; what was known of the old one is forgotten."""
        with self._files.exclusive(), self._files.areas(writable=True) as (areas, _):
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
        with naming(self.layout.upload):
            self.layout.upload.unlink(missing_ok=True)

    def _settled(self) -> BootState:
        """Return what the last boot did, if it came to its end."""
        state = self.state()
        state.check_finished()
        return state

    def _forget_rollback(self, slot: int) -> None:
        state = self._settled()
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

    def _check_rolled_back(self, slot: int, listed: Listed | None, state: BootState) -> None:
        known = listed is not None and state.rolled_back.get(slot) == listed.hash.hex()
        if known and not self._image.confirm_rolled_back:
            raise SlotRefusal(
                Fault.ROLLED_BACK, f"the image in slot {slot} ran and was rolled back: test it, or load it anew"
            )

    def _check_free(self, slot: int) -> None:
        """Refuse a slot that runs, or that a revert goes back to."""
        state = self._settled()
        if slot == state.slot(slot // SLOTS_OF_IMAGE):
            raise SlotRefusal(Fault.IN_USE, f"slot {slot} is running")
        if state.ok:
            self.check_wanted(slot)

    def _no_such_slot(self, slot: int) -> SlotRefusal:
        # The next two would be a second image's. Beyond, Zephyr finds no flash area and says so (img_mgmt_erase_slot).
        fault = Fault.INVALID_SLOT if slot < self.layout.slots.stop + SLOTS_OF_IMAGE else Fault.NO_AREA
        return SlotRefusal(fault, f"slot {slot}: there are slots 0 to {self.layout.slots.stop - 1}")

    def _filled(self, incoming: Incoming) -> bytes:
        """Return what a slot is to hold."""
        if incoming.slot not in self.layout.slots:
            raise self._no_such_slot(incoming.slot)
        return incoming.contents(self.layout.blank(incoming.slot), self.image_base(incoming.slot))

    def _check_fitness(self, incoming: Sequence[Incoming], contents: Mapping[int, bytes]) -> None:
        with self.reading() as areas:
            for each in incoming:
                areas = self._with(areas, {each.slot: contents[each.slot]})
                with each.naming():
                    each.check_size()
                    if self.options.mode.in_place:
                        each.check_place(self.layout)
                    self.fitness(areas, each.slot).check()

    def _with(self, areas: Areas, contents: Mapping[int, bytes]) -> Areas:
        """Return the slots as they would be with other contents."""
        for slot, data in contents.items():
            areas = areas.replaced(slot, self.layout.area(slot, MemoryStorage(data)))
        return areas

    def _replace(self, contents: Mapping[int, bytes]) -> None:
        self.close_uploads()
        state = self.state()
        for slot in contents:
            state = state.without_rollback(slot)
        state = replace(state, unfinished=state.unfinished or self._tells_of_swap(contents))
        slots = {self.layout.slot(slot): data for slot, data in contents.items()}
        self._files.replace({**slots, self.layout.state: state.dump()})

    def _tells_of_swap(self, contents: Mapping[int, bytes]) -> bool:
        """Tell whether the boot loader would go on with an interrupted swap if those were in their slots."""
        with self.reading() as areas:
            changed = self._with(areas, contents)
            loader = self.bootloader(changed)
            return any(the_rule(self.options, loader, slot // SLOTS_OF_IMAGE, changed).cut for slot in contents)

    def _keep(self, overlays: tuple[Overlay, ...], state: BootState, entry: BootEntry) -> None:
        """Commit the changed slots, the state and the history as one."""
        changed = {slot: overlay for slot, overlay in enumerate(overlays) if overlay.changed}
        record = UploadRecord.read(self.layout.upload)
        if record and record.slot in changed:
            self.close_uploads()
        slots = {self.layout.slot(slot): overlay for slot, overlay in changed.items()}
        told = history.append(read_file(self.layout.history), entry)
        self._files.replace({**slots, self.layout.state: state.dump(), self.layout.history: told})

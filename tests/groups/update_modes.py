"""What each mode of the boot loader makes of an image: the marks, the versions, the changes at a boot.

swap, overwrite     a plan for the next boot: none, test, perm, revert
offset              the same; the image that a revert goes back to lies beside the place for updates
direct-xip, ram     versions; with revert, marks of each slot
one slot            nothing
"""

from dataclasses import dataclass, field

from tests.groups.update_model import (
    ALREADY_PENDING,
    HASH_NOT_FOUND,
    INVALID_HASH,
    NOT_NEWER,
    TEST_OF_RUNNING,
    Made,
    Model,
    NotSupported,
    Refused,
    Slot,
)

PLANNED = {
    "none": ("active confirmed", ""),
    "test": ("active confirmed", "pending"),
    "perm": ("active confirmed", "pending permanent"),
    "revert": ("active", "confirmed"),
}
STATE_WRITES = {
    # plan: test B, confirm A, confirm B; the next plan, or nothing for "refused"
    "none": ("test", "none", "perm"),
    "test": ("test", "", ""),
    "perm": ("", "", "perm"),
    "revert": ("", "none", "revert"),
}
_MAGIC_SIZE = 4
"""Bytes by which the boot loader tells an erased header."""


@dataclass
class UpdateModel(Model):
    """Modes in which the boot loader changes what is in slot 0."""

    downgrade: str = "allowed"
    stored: int | None = None
    """The stored security counter; None: the build has none."""
    plan: str = "none"
    rolled_back: bool = False
    """Whether the image in slot 1 ran and was not confirmed."""
    backup: Made | None = None
    """With offset, what a revert goes back to; it lies where clients do not see it."""
    stale: bool = False
    """With overwrite, whether the coming boot is cut so late that the mark stays on an empty slot."""
    torn: bool = False
    """With overwrite, whether part of the header in slot 1 is erased: the next boot erases the rest of the slot."""

    def upload_slot(self) -> int | None:
        return None if self.plan == "revert" else 1

    def in_use(self, slot: int) -> bool:
        return slot == 0 or self.plan == "revert"

    def clear(self, slot: int) -> None:
        super().clear(slot)
        self.plan, self.rolled_back, self.backup = "none", False, None

    def already_there(self, slot: int) -> None:
        del slot
        self.rolled_back = False

    def flags(self, slot: int) -> str:
        return PLANNED[self.plan][slot]

    def mark(self, slot: int, *, confirm: bool) -> None:
        if slot == self.active and not confirm:
            raise Refused(TEST_OF_RUNNING)
        if slot and confirm and self.rolled_back:
            raise Refused(HASH_NOT_FOUND)
        plan = STATE_WRITES[self.plan][1 + slot if confirm else 0]
        if not plan:
            raise Refused(ALREADY_PENDING)
        self.plan = plan

    # What may replace what

    def fault_at_first(self, image: Made) -> int:
        return NOT_NEWER if self._compares_versions and self._lower(image) else 0

    def fault(self, image: Made) -> int:
        if not self._valid(image):
            return INVALID_HASH
        return NOT_NEWER if self._lower(image) else 0

    @property
    def _compares_versions(self) -> bool:
        # Overwrite-only compares versions even in a build that counts (boot_validate_slot).
        return self.downgrade == "by-version" or (self.downgrade == "by-counter" and self.mode == "overwrite-only")

    def _lower(self, image: Made) -> bool:
        """Tell whether an image is older than it may be, beside the one that runs."""
        if self._compares_versions:
            return image.version < self.running.version
        counter = self.running.counter
        return self.downgrade == "by-counter" and counter is not None and (image.counter or 0) < counter

    def _valid(self, image: Made) -> bool:
        return image.good and (self.stored is None or (image.counter or 0) >= self.stored)

    # A boot

    def boot(self, *, loader: bool = False) -> None:
        del loader
        self.perform(self.asked())
        self.torn = False

    def asked(self) -> str:
        """Return what the marks ask for if slot 1 is fit for it; erase it if not."""
        image, whole = self.slots[1].image, self.slots[1].whole
        if self.plan == "revert" and self.mode == "swap-using-offset":
            return self.plan
        if self.plan == "none" or image is None:
            return "none"  # overwrite leaves a mark without an image where it is
        if not whole or not self._valid(image) or (self.mode == "overwrite-only" and self._lower(image)):
            plan = self.plan
            self.clear(1)
            self.plan = plan if self.stale else "none"
            return "none"
        return self.plan

    def after(self, asked: str) -> Made:
        """Return the image that runs once what is asked for is done."""
        image = self.slots[1].image if asked != "none" else self.running
        image = self.backup if asked == "revert" and self.backup else image
        assert image
        return image

    def perform(self, asked: str) -> None:
        """Do it; then raise the stored counter, unless the image may yet go back."""
        if asked in ("test", "perm") and self._lower(self.after(asked)):
            self.clear(1)
        elif asked != "none":
            self._change(asked)
        if self.stored is not None and self.plan != "revert":
            self.stored = max(self.stored, self.running.counter or 0)

    def _change(self, asked: str) -> None:
        running, other = self.slots
        self.plan = "revert" if asked == "test" and self.mode != "overwrite-only" else "none"
        self.rolled_back = asked == "revert"
        if self.mode == "overwrite-only":
            self.slots, self.plan = [other, Slot()], asked if self.stale else "none"
        elif self.mode == "swap-using-offset":
            self._swap_by_offset(running, other, going_back=asked == "revert")
        else:
            self.slots = [other, running]

    def _swap_by_offset(self, running: Slot, other: Slot, *, going_back: bool) -> None:
        if going_back:
            self.slots, self.backup = [Slot(self.backup), running], None
            return
        assert running.image
        assert other.image
        # What is swapped out lies one sector lower. Only a swap of one sector leaves the update's first one in place.
        stays = max(running.image.sectors, other.image.sectors) == 1
        self.slots, self.backup = [other, Slot(other.image) if stays else Slot()], running.image

    def fill(self) -> None:
        """Boot without an image in slot 0 (bootstrap): slot 1 is copied; move and offset leave it there too."""
        keeps = self.mode in ("swap-using-move", "swap-using-offset")
        self.slots = [self.slots[1], Slot(self.slots[1].image) if keeps else Slot()]
        self.rolled_back = self.rolled_back and keeps

    def cut(self, number: int, operations: int, tear: int) -> bool:
        """Note a cut of a boot; return whether it did everything all the same.

        A test whose last write is torn is complete. Overwriting keeps no account: it is over once the header in slot 1
        is erased, and a mark may be left behind.
        """
        if self.mode != "overwrite-only":
            return tear > 0 and number == operations
        image = self.slots[1].image
        fit = image is not None and self.slots[1].whole and self._valid(image) and not self._lower(image)
        header_erased = operations - 1 if fit and not self.torn else 1
        self.torn = self.torn or (number == header_erased and 0 < tear < _MAGIC_SIZE)
        self.stale = number > header_erased or (number == header_erased and tear >= _MAGIC_SIZE)
        return self.stale


@dataclass
class PickModel(Model):
    """Modes in which the higher version runs."""

    left: list[int] = field(default_factory=list)
    """Slots that this boot may yet choose."""
    chosen: int | None = None

    @property
    def forgets(self) -> bool:
        """Whether marks count."""
        return self.mode.endswith("-with-revert")

    @property
    def goes_back(self) -> bool:
        """Whether what runs is erased at the next boot."""
        return self.forgets and not self.slots[self.active].confirmed

    def upload_slot(self) -> int | None:
        return None if self.goes_back else 1 - self.active

    def in_use(self, slot: int) -> bool:
        return slot == self.active or self.goes_back

    def flags(self, slot: int) -> str:
        other = self.slots[1 - self.active]
        if slot == self.active:
            return "active" if self.goes_back else "active confirmed"
        if self.goes_back:
            return "confirmed"
        assert other.image
        marked = other.marked and (other.confirmed or not other.ran)
        if other.image.version <= self.running.version or (self.forgets and not marked):
            return ""
        return "pending permanent" if not self.forgets or other.confirmed else "pending"

    def mark(self, slot: int, *, confirm: bool) -> None:
        if slot == self.active and not confirm:
            raise Refused(TEST_OF_RUNNING)
        self.slots[slot].marked = True
        if confirm:
            self.slots[slot].ran = self.slots[slot].confirmed = True

    def boot(self, *, loader: bool = False) -> None:
        del loader
        self.look()
        self.choose()

    def look(self) -> None:
        """Begin a boot: find the slots with an image, or half of one."""
        self.left, self.chosen = [number for number in (0, 1) if self.slots[number].image], None

    def choose(self) -> None:
        """Take the highest version that is fit to run, and erase what is not."""
        while self.chosen is None:
            number = max(self.left, key=lambda each: (self._version(each), -each))
            if self._runs(self.slots[number]):
                self.active = self.chosen = number
                return
            self.left.remove(number)
            self.clear(number)

    def pass_over(self) -> None:
        """Choose another slot, as the image wants what is not there; it stays."""
        assert self.chosen is not None
        self.left.remove(self.chosen)
        self.chosen = None

    def _version(self, number: int) -> int:
        image = self.slots[number].image
        return image.version if image else 0

    def _runs(self, slot: Slot) -> bool:
        if self.forgets and (not slot.marked or (slot.ran and not slot.confirmed)):
            return False
        slot.ran = True
        return slot.fit


@dataclass
class OneSlotModel(Model):
    """Modes in which nothing changes places."""

    order: tuple[int, ...] = field(default=(0,))

    def upload_slot(self) -> int | None:
        return 0 if self.active else None

    def flags(self, slot: int) -> str:
        return "active confirmed" if slot == self.active else ""

    def mark(self, slot: int, *, confirm: bool) -> None:
        raise NotSupported

    def boot(self, *, loader: bool = False) -> None:
        fits = [number for number in self.order if self.slots[number].fit]
        self.active = fits[-1 if loader else 0]

"""A device in words: what lies in its two slots, how it is marked, what an upload has got to, what a boot makes of it.

    swap, overwrite     a plan for the next boot: none, test, perm, revert
    offset              the same; the image that a revert goes back to lies beside the place for updates
    direct-xip, ram     versions; with revert, marks of each slot
    one slot            nothing

Replies are what a client gets. No code of the program is used.
Sources: zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src; mcuboot boot/bootutil/src/loader.c, boot/zephyr/firmware_loader.c.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_FREE_SLOT, HASH_NOT_FOUND, INVALID_SLOT, NO_AREA, INVALID_HASH = 9, 8, 14, 10, 24
NOT_NEWER, ALREADY_PENDING, TEST_OF_RUNNING = 27, 28, 33
SECTOR = 4096

Reply = Mapping[str, Any]
Entry = tuple[int, bytes, str]
"""Slot, hash, flags."""


class Refused(Exception):  # noqa: N818  (a reply)
    """The request is answered with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def err(rc: int) -> Reply:
    """Return the reply of the image group's errors."""
    return {"err": {"group": 1, "rc": rc}}


@dataclass(frozen=True, slots=True)
class Made:
    """An image that a client may upload."""

    version: int
    data: bytes
    hash: bytes
    """As its TLV has it."""
    good: bool
    """Whether that is its hash."""

    @property
    def sha(self) -> bytes:
        """The SHA-256 of the file."""
        return hashlib.sha256(self.data).digest()

    @property
    def sectors(self) -> int:
        """How many it takes."""
        return -(-len(self.data) // SECTOR)


@dataclass(slots=True)
class Slot:
    """What lies in a slot; the marks are looked at by modes that pick a slot and can go back."""

    image: Made | None = None
    whole: bool = True
    marked: bool = False
    ran: bool = False
    confirmed: bool = False

    @property
    def listed(self) -> Made | None:
        """What a client sees in it."""
        return self.image if self.whole else None

    @property
    def fit(self) -> bool:
        """Whether the boot loader takes what is in it for a valid image."""
        return self.image is not None and self.whole and self.image.good


@dataclass(slots=True)
class Session:
    """An upload under way."""

    image: Made
    slot: int
    sha: bytes
    off: int = 0


@dataclass
class Model:
    """What all modes share."""

    mode: str
    validate: bool
    slots: list[Slot]
    active: int = 0
    session: Session | None = None

    def upload_slot(self) -> int | None:
        """Return where an upload goes; None: nowhere now."""
        raise NotImplementedError

    def set_state(self, digest: bytes | None, *, confirm: bool) -> None:
        """Test or confirm.

        Raises:
            Refused: If that is not possible now.
        """
        raise NotImplementedError

    def boot(self, *, loader: bool = False) -> None:
        """Run the boot loader."""
        raise NotImplementedError

    def flags(self, slot: int) -> str:
        """Return the flags of a slot with an image."""
        raise NotImplementedError

    def in_use(self, slot: int) -> bool:
        """Tell whether a slot must not be erased."""
        return slot == self.active

    def clear(self, slot: int) -> None:
        """Erase a slot, or make room in it for an upload."""
        self.slots[slot] = Slot()

    def entries(self) -> list[Entry]:
        """Return the image list."""
        return [(number, slot.listed.hash, self.flags(number)) for number, slot in enumerate(self.slots) if slot.listed]

    def erase(self, slot: int | None) -> Reply:
        """Erase a slot."""
        slot = 1 - self.active if slot is None else slot
        if slot > 1:
            self.session = None
            return err(INVALID_SLOT if slot < 4 else NO_AREA)
        if self.in_use(slot):
            return err(NO_FREE_SLOT)
        self.session = None
        self.clear(slot)
        return {}

    def first(self, image: Made, sha: bytes, data: bytes, *, upgrade: bool) -> Reply:
        """Take the first part of an upload, or tell how far it is."""
        if self.session and sha and sha == self.session.sha:
            return {"off": self.session.off}
        self.session, slot, running = None, self.upload_slot(), self.slots[self.active].image
        if slot is None:
            return err(NO_FREE_SLOT)
        if upgrade and running and image.version <= running.version:
            return err(NOT_NEWER)
        if (there := self.slots[slot].listed) and there.data == image.data and sha == image.sha:
            self.already_there(slot)
            return {"off": len(image.data), "match": True}
        self.clear(slot)
        self.session = Session(image, slot, sha)
        return self.next(0, data)

    def already_there(self, slot: int) -> None:
        """Note that a client uploaded what a slot holds already."""

    def next(self, off: int, data: bytes) -> Reply:
        """Take another part, or tell where to go on."""
        session = self.session
        if session is None or off != session.off:
            return {"off": session.off if session else 0}
        session.off += len(data)
        whole = session.off == len(session.image.data)
        self.slots[session.slot] = Slot(session.image, whole)
        return self._finish(session) if whole else {"off": session.off}

    def _finish(self, session: Session) -> Reply:
        self.session = None
        match = {"match": session.sha == session.image.sha} if session.sha else {}
        if self.validate and match.get("match", True) and not session.image.good:
            self.clear(session.slot)
            return err(INVALID_HASH)
        return {"off": session.off, **match}

    def find(self, digest: bytes | None, *, confirm: bool) -> int:
        """Return the slot that a hash means: the first that has it; none: the running one, to be confirmed."""
        if not digest:
            if confirm:
                return self.active
            raise Refused(err(INVALID_HASH))
        found = [number for number, slot in enumerate(self.slots) if slot.listed and slot.listed.hash == digest]
        if not found:
            raise Refused(err(HASH_NOT_FOUND))
        if found[0] == self.active and not confirm:
            raise Refused(err(TEST_OF_RUNNING))
        return found[0]


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


@dataclass
class UpdateModel(Model):
    """Modes in which the boot loader changes what is in slot 0."""

    plan: str = "none"
    rolled_back: bool = False
    """Whether the image in slot 1 ran and was not confirmed."""
    backup: Made | None = None
    """With offset, what a revert goes back to; it lies where clients do not see it."""
    stale: bool = False
    """With overwrite, whether the coming boot is cut so late that the mark stays on an empty slot."""

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

    def set_state(self, digest: bytes | None, *, confirm: bool) -> None:
        slot = self.find(digest, confirm=confirm)
        if slot and confirm and self.rolled_back:
            raise Refused(err(HASH_NOT_FOUND))
        plan = STATE_WRITES[self.plan][1 + slot if confirm else 0]
        if not plan:
            raise Refused(err(ALREADY_PENDING))
        self.plan = plan

    def boot(self, *, loader: bool = False) -> None:
        del loader
        plan, (running, other) = self.plan, self.slots
        going_back = plan == "revert" and self.mode == "swap-using-offset"
        if plan == "none" or (other.image is None and not going_back):
            return  # overwrite leaves a mark without an image where it is
        if not other.fit and not going_back:
            self.clear(1)
            return
        self.plan = "revert" if plan == "test" and self.mode != "overwrite-only" else "none"
        self.rolled_back = plan == "revert"
        if self.mode == "overwrite-only":
            self.slots, self.plan = [other, Slot()], plan if self.stale else "none"
        elif self.mode == "swap-using-offset":
            self._swap_by_offset(running, other, going_back=going_back)
        else:
            self.slots = [other, running]

    def _swap_by_offset(self, running: Slot, other: Slot, *, going_back: bool) -> None:
        assert running.image
        if going_back:
            self.slots, self.backup = [Slot(self.backup), running], None
            return
        assert other.image
        # What is swapped out lies one sector lower. Only a swap of one sector leaves the update's first one in place.
        stays = max(running.image.sectors, other.image.sectors) == 1
        self.slots, self.backup = [other, Slot(other.image) if stays else Slot()], running.image


@dataclass
class PickModel(Model):
    """Modes in which the higher version runs."""

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
        mine, other = self.slots[self.active], self.slots[1 - self.active]
        if slot == self.active:
            return "active" if self.goes_back else "active confirmed"
        if self.goes_back:
            return "confirmed"
        assert mine.image
        assert other.image
        marked = other.marked and (other.confirmed or not other.ran)
        if other.image.version <= mine.image.version or (self.forgets and not marked):
            return ""
        return "pending permanent" if not self.forgets or other.confirmed else "pending"

    def set_state(self, digest: bytes | None, *, confirm: bool) -> None:
        if not self.forgets:
            raise Refused({"rc": 8})
        slot = self.slots[self.find(digest, confirm=confirm)]
        slot.marked = True
        if confirm:
            slot.ran = slot.confirmed = True

    def boot(self, *, loader: bool = False) -> None:
        del loader
        left = [number for number in (0, 1) if self.slots[number].image]
        while left:
            number = max(left, key=lambda each: (self._version(each), -each))
            if self._runs(self.slots[number]):
                self.active = number
                return
            left.remove(number)
            self.slots[number] = Slot()
            if self.session and self.session.slot == number:
                self.session = None
        raise AssertionError("nothing is left to run")

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

    def set_state(self, digest: bytes | None, *, confirm: bool) -> None:
        raise Refused({"rc": 8})

    def boot(self, *, loader: bool = False) -> None:
        fits = [number for number in self.order if self.slots[number].fit]
        self.active = fits[-1 if loader else 0]


def model_of(mode: str, *, validate: bool, slots: list[Slot]) -> Model:
    """Return a device that was not started yet."""
    if mode in ("swap-using-scratch", "swap-using-move", "swap-using-offset", "overwrite-only"):
        return UpdateModel(mode, validate, slots)
    if mode.startswith(("direct-xip", "ram-load")):
        return PickModel(mode, validate, slots)
    return OneSlotModel(mode, validate, slots, order=(0, 1) if mode == "firmware-loader" else (0,))

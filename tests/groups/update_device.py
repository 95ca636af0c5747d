"""A device in words: its images, one upload for all of them, and what they want of each other at a boot."""

from dataclasses import dataclass
from typing import cast

from tests.groups.update_model import (
    DENIED,
    HASH_NOT_FOUND,
    INVALID_HASH,
    INVALID_SLOT,
    NO_AREA,
    NO_FREE_SLOT,
    Entry,
    Made,
    Model,
    NotSupported,
    Refused,
    Reply,
    Session,
    Slot,
    err,
)
from tests.groups.update_modes import OneSlotModel, PickModel, UpdateModel

UPDATE_MODES = ("swap-using-scratch", "swap-using-move", "swap-using-offset", "overwrite-only")
"""Modes in which the boot loader changes what is in slot 0."""


@dataclass
class DeviceModel:
    """All images of a device; slots are counted through all of them."""

    parts: list[Model]
    confirm_others: str = "secondary"
    """`[image] confirm_others`."""

    @property
    def session(self) -> Session | None:
        """The upload under way."""
        return next((part.session for part in self.parts if part.session), None)

    def drop_session(self) -> None:
        """Forget the upload under way."""
        for part in self.parts:
            part.session = None

    def entries(self) -> list[Entry]:
        """Return the image list."""
        return [
            (2 * number + place, slot.hash, part.flags(place))
            for number, part in enumerate(self.parts)
            for place, slot in enumerate(part.slots)
            if slot.listed
        ]

    def upload_slots(self) -> list[int]:
        """Return the slots that slot info calls places for uploads: those that do not run, where one is changed."""
        usable = [part for part in self.parts if not isinstance(part, OneSlotModel) or part.active]
        return [2 * number + 1 - part.active for number, part in enumerate(self.parts) if part in usable]

    # Requests

    def first(self, number: int, image: Made, sha: bytes, data: bytes, *, upgrade: bool) -> Reply:
        """Take the first part of an upload for an image, or tell how far it is."""
        if self.session and sha and sha == self.session.sha:
            return {"off": self.session.off}
        self.drop_session()
        return self.parts[number].first(image, sha, data, upgrade=upgrade)

    def next(self, off: int, data: bytes) -> Reply:
        """Take another part, or tell where to go on."""
        return next((part.next(off, data) for part in self.parts if part.session), {"off": 0})

    def erase(self, slot: int | None) -> Reply:
        """Erase a slot."""
        slot = 1 - self.parts[0].active if slot is None else slot
        if slot >= (count := 2 * len(self.parts)):
            self.drop_session()
            return err(INVALID_SLOT if slot < count + 2 else NO_AREA)
        part, place = self.parts[slot // 2], slot % 2
        if part.in_use(place):
            return err(NO_FREE_SLOT)
        self.drop_session()
        part.clear(place)
        return {}

    def set_state(self, digest: bytes, *, confirm: bool) -> None:
        """Test or confirm an image by its hash.

        Raises:
            Refused: If that is not possible now.
        """
        if isinstance(self.parts[0], OneSlotModel) or not getattr(self.parts[0], "forgets", True):
            raise NotSupported
        number, place = divmod(self._find(digest, confirm=confirm), 2)
        part = self.parts[number]
        allowed = self.confirm_others == "any" or (self.confirm_others == "secondary" and place != part.active)
        if number and confirm and not allowed:
            raise Refused(DENIED)
        part.mark(place, confirm=confirm)

    def _find(self, digest: bytes, *, confirm: bool) -> int:
        """Return the slot that a hash means: the first that has it; none: the running one, to be confirmed."""
        if not digest:
            if confirm:
                return self.parts[0].active
            raise Refused(INVALID_HASH)
        for slot, found, _ in self.entries():
            if found == digest:
                return slot
        raise Refused(HASH_NOT_FOUND)

    # A boot

    def boot(self, *, loader: bool = False) -> None:
        """Run the boot loader."""
        if isinstance(self.parts[0], UpdateModel):
            self._update(cast("list[UpdateModel]", self.parts))
        elif isinstance(self.parts[0], PickModel):
            self._pick(cast("list[PickModel]", self.parts))
        else:
            self.parts[0].boot(loader=loader)

    def _update(self, parts: list[UpdateModel]) -> None:
        asked = [part.asked() for part in parts]
        last = max((number for number, what in enumerate(asked) if what in ("test", "perm")), default=0)
        for number, what in enumerate(asked[:last]):  # images before one that is updated do not go back
            asked[number] = "none" if what == "revert" else what
        if _unmet([part.after(what) for part, what in zip(parts, asked, strict=True)]) is not None:
            asked = ["none"] * len(parts)  # if one wants what is not there, no image is changed; the marks stay
        for part, what in zip(parts, asked, strict=True):
            part.perform(what)

    def _pick(self, parts: list[PickModel]) -> None:
        for part in parts:
            part.look()
        while True:
            for part in parts:
                part.choose()
            number = _unmet([part.running for part in parts])
            if number is None:
                return
            parts[number].pass_over()


def _unmet(images: list[Made]) -> int | None:
    """Return the first image that wants what is not there; None: all have what they want."""
    for number, image in enumerate(images):
        if any(images[other].version < lowest for other, lowest in image.needs.items()):
            return number
    return None


def model_of(mode: str, build: str, factory: Made, *, validate: bool) -> Model:
    """Return an image of a device that was not started yet."""
    slots = [Slot(factory, marked=True, ran=True, confirmed=True), Slot()]
    if mode in UPDATE_MODES:
        downgrade, stored = build if build.startswith("by-") else "allowed", 1 if build == "rollback" else None
        return UpdateModel(mode, validate, slots, downgrade=downgrade, stored=stored)
    if mode.startswith(("direct-xip", "ram-load")):
        return PickModel(mode, validate, slots)
    return OneSlotModel(mode, validate, slots, order=(0, 1) if mode == "firmware-loader" else (0,))

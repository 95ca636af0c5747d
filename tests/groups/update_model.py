"""One image of a device in words: what lies in its two slots, and what an upload has got to.

Replies are what a client gets. No code of the program is used. What the modes of the boot loader make of marks and
versions is in update_modes.py, what images of one device have in common in update_device.py.
Sources: zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src; mcuboot boot/bootutil/src/loader.c, boot/zephyr/firmware_loader.c.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_FREE_SLOT, HASH_NOT_FOUND, INVALID_SLOT, NO_AREA, INVALID_HASH = 9, 8, 14, 10, 24
NOT_NEWER, ALREADY_PENDING, DENIED, TEST_OF_RUNNING = 27, 28, 32, 33
SECTOR = 4096

Reply = Mapping[str, Any]
Entry = tuple[int, bytes, str]
"""Slot, hash, flags."""


class Refused(Exception):  # noqa: N818  (a reply)
    """The request is answered with an error."""

    def __init__(self, rc: int) -> None:
        super().__init__(rc)
        self.reply = err(rc)


class NotSupported(Refused):
    """The mode has no such thing."""

    def __init__(self) -> None:
        super().__init__(8)
        self.reply = {"rc": 8}


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
    """Whether that is its hash, and a signature is there if one is wanted."""
    plain: bytes
    """As slot 0 has it: decrypted."""
    seen_at: int
    """How many bytes of it must be in a slot for clients to see it: up to its hash, of which the rest may be erased."""
    counter: int | None = None
    """Its security counter."""
    needs: Mapping[int, int] = field(default_factory=dict)
    """By image: the lowest version that it runs with."""

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
    off: int | None = None
    """How many of its bytes are there; None: all."""
    marked: bool = False
    ran: bool = False
    confirmed: bool = False

    @property
    def listed(self) -> Made | None:
        """What a client sees in it."""
        return self.image if self.image and (self.whole or (self.off or 0) >= self.image.seen_at) else None

    @property
    def hash(self) -> bytes:
        """The hash that a client sees."""
        assert self.image
        there = None if self.off is None else max(self.off - self.image.seen_at, 0)
        return self.image.hash[:there].ljust(len(self.image.hash), b"\xff")

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return self.off is None

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

    @property
    def running(self) -> Made:
        """The image that runs."""
        image = self.slots[self.active].image
        assert image
        return image

    def upload_slot(self) -> int | None:
        """Return where an upload goes; None: nowhere now."""
        raise NotImplementedError

    def mark(self, slot: int, *, confirm: bool) -> None:
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
        if self.session and self.session.slot == slot:
            self.session = None

    def fault_at_first(self, image: Made) -> int:
        """Return why an upload is refused at its first part, 0: it is not; with validation on arrival."""
        del image
        return 0

    def fault(self, image: Made) -> int:
        """Return why an upload is refused at its last part, 0: it is not; with validation on arrival."""
        return 0 if image.good else INVALID_HASH

    def first(self, image: Made, sha: bytes, data: bytes, *, upgrade: bool) -> Reply:
        """Take the first part of an upload."""
        slot = self.upload_slot()
        if slot is None:
            return err(NO_FREE_SLOT)
        if upgrade and image.version <= self.running.version:
            return err(NOT_NEWER)
        if self.validate and (rc := self.fault_at_first(image)):
            return err(rc)
        there = self.slots[slot]
        if there.image and there.whole and there.image.data == image.data and sha == image.sha:
            self.already_there(slot)
            return {"off": len(image.data), "match": True}
        self.clear(slot)
        self.session = Session(image, slot, sha)
        return self.next(0, data)

    def already_there(self, slot: int) -> None:
        """Note that a client uploaded what a slot holds already."""

    def next(self, off: int, data: bytes) -> Reply:
        """Take another part of the upload under way, or tell where to go on."""
        session = self.session
        assert session
        if off != session.off:
            return {"off": session.off}
        session.off += len(data)
        whole, slot = session.off == len(session.image.data), self.slots[session.slot]
        slot.image, slot.off = session.image, None if whole else session.off
        return self._finish(session) if whole else {"off": session.off}

    def _finish(self, session: Session) -> Reply:
        self.session = None
        match = {"match": session.sha == session.image.sha} if session.sha else {}
        if self.validate and match.get("match", True) and (rc := self.fault(session.image)):
            self.clear(session.slot)
            return err(rc)
        return {"off": session.off, **match}

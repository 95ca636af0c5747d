"""Zephyr's image group as a small model of its own, to compare ours with: two slots, one session, swapping.

Written from zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src/{img_mgmt,img_mgmt_state,zephyr_img_mgmt}.c; the one difference
is deliberate: a first chunk longer than `len` is refused. It shares no code with the product. What only flash knows it
is told: the trailer's offset, and the slots after a boot.
"""

from dataclasses import dataclass
from struct import calcsize, unpack_from
from typing import Any

Body = dict[str, Any]

MAGIC = 0x96F3B83D
HEADER = "<IIHHIIBBHI4x"
V0_RC = {9: 6, 20: 3, 21: 3, 22: 3, 24: 3, 27: 6, 28: 6}
REASONS = {
    9: "no slot",
    20: "header malformed",
    21: "header malformed",
    22: "header malformed",
    23: "magic mismatch",
    27: "downgrade",
    30: "img too large",
    31: "data overrun",
}
UNSET = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Info:
    """What is listed of an image."""

    version: tuple[int, int, int, int]
    hash: bytes
    bootable: bool

    @property
    def text(self) -> str:
        major, minor, revision, build = self.version
        return f"{major}.{minor}.{revision}" + (f".{build}" if build else "")


def info(data: bytes | bytearray) -> Info | None:
    """Read what an image says of itself; None: it is not listed (img_mgmt_read_info)."""
    magic, _, header_size, _, size, flags, *version = unpack_from(HEADER, data)
    if magic != MAGIC:
        return None
    offset = header_size + size
    if (protected := _tlvs(data, offset, 0x6908)) is not None:
        offset = protected
    end = _tlvs(data, offset, 0x6907)
    if end is None:
        return None
    hashes, offset = [], offset + 4
    while offset + 4 <= end:
        kind, length = unpack_from("<HH", data, offset)
        offset += 4
        if (kind, length) == (0x10, 32):
            hashes.append(bytes(data[offset : offset + 32]))
        offset += length
    return Info(tuple(version), hashes[0], not flags & 0x10) if len(hashes) == 1 else None


def _tlvs(data: bytes | bytearray, offset: int, magic: int) -> int | None:
    """Return the end of a TLV area, or None if there is none of that kind."""
    if offset + 4 > len(data):
        return None
    found, total = unpack_from("<HH", data, offset)
    return offset + total if found == magic else None


class ZephyrImages:
    """The group's state and its answers."""

    def __init__(self, slots: list[bytes], sector: int, trailer: int) -> None:
        self.slots = [bytearray(slot) for slot in slots]
        self.plan = "none"
        """What the next boot does: `none`, `test`, `perm` or `revert`."""
        self.off = 0
        self._sector = sector
        self._trailer = trailer
        self.close()

    def close(self) -> None:
        """Forget the upload session."""
        self._open = False
        self.off = self._size = 0
        self._sha = b""

    def booted(self, slots: list[bytes], plan: str) -> None:
        """Go on after a boot."""
        self.slots = [bytearray(slot) for slot in slots]
        self.plan = plan
        self.close()

    def list(self) -> Body:
        """Answer a read of the state."""
        marks = {"perm": ("pending", "permanent"), "test": ("pending",), "revert": ("confirmed",), "none": ()}
        running = ("active",) if self.plan == "revert" else ("active", "confirmed")
        images = []
        for slot, flags in enumerate((running, marks[self.plan])):
            if (found := info(self.slots[slot])) is not None:
                entry = {"slot": slot, "version": found.text, "hash": found.hash, "bootable": found.bootable}
                names = ("pending", "confirmed", "active", "permanent")
                images.append(entry | {name: name in flags for name in names})
        return {"images": images, "splitStatus": 0}

    def mark(self, digest: bytes, *, confirm: bool, version: int) -> Body:
        """Answer a write of the state."""
        rc = self._mark(digest, confirm=confirm)
        return self.list() if rc == 0 else _refused(rc, version)

    def _mark(self, digest: bytes, *, confirm: bool) -> int:
        if (not digest and not confirm) or len(digest) not in (0, 32):
            return 24
        found = [slot for slot in (0, 1) if (one := info(self.slots[slot])) and one.hash == digest]
        if digest and not found:
            return 8
        slot = found[0] if digest else 0
        if not confirm and slot == 0:
            return 33
        planned = 0 if self.plan == "none" else 1
        if self.plan == "test":
            return 0 if not confirm and slot == planned else 28
        if confirm and slot == planned:
            return 0
        if (self.plan == "revert" and not confirm) or self.plan == "perm":
            return 28
        self.plan = "none" if slot == 0 else "perm" if confirm else "test"
        return 0

    def erase(self, slot: int | None, version: int) -> Body:
        """Answer an erase; the running slot is one that is listed."""
        slot = 1 if slot is None else slot
        if slot == 0 or (slot == 1 and self.plan == "revert" and info(self.slots[1])):
            return _refused(9, version)
        self.close()
        if slot > 1:
            return _refused(10, version)
        self._erase(0, len(self.slots[1]))
        self._unplan()
        return {}

    def upload(self, request: Body, version: int) -> Body:
        """Answer an upload."""
        rc = self._inspect(request)
        if rc is None:
            return {"off": self.off}
        data = request.get("data", b"")
        if rc == 0 and request["off"] == 0 and len(data) > request["len"]:
            rc = 31  # smp-protocol.md section 8.3
        if rc:
            self.close()
            return _refused(rc, version, verbose=True)
        if request["off"] == 0:
            self._begin(request["len"], request.get("sha", b""))
        self.slots[1][self.off : self.off + len(data)] = data
        self.off += len(data)
        reply = {"off": self.off}
        if data and self.off == self._size:
            self.close()
        return reply

    def _inspect(self, request: Body) -> int | None:
        """Return the refusal, 0 to go on, or None to say where to go on."""
        off, data = request.get("off", UNSET), request.get("data", b"")
        if off == UNSET:
            return 20
        if off == 0:
            return self._inspect_first(request, data)
        if off != self.off:
            return None
        return 31 if off + len(data) > self._size else 0

    def _inspect_first(self, request: Body, data: bytes) -> int | None:
        size, sha = request.get("len", UNSET), request.get("sha", b"")
        if len(data) < calcsize(HEADER):
            return 22
        if size == UNSET:
            return 21
        magic, *_ = new = unpack_from(HEADER, data)
        if magic != MAGIC:
            return 23
        if len(sha) > 32:
            return 24
        if sha and self._open and sha == self._sha:
            return None
        if self.plan == "revert":
            return 9
        if size > len(self.slots[1]):
            return 30
        running = info(self.slots[0])
        return 27 if request.get("upgrade") and running and new[6:9] <= running.version[:3] else 0

    def _begin(self, size: int, sha: bytes) -> None:
        self._open, self.off, self._size, self._sha = True, 0, size, sha
        if self.slots[1].count(0xFF) < len(self.slots[1]):
            end = -(-size // self._sector) * self._sector
            self._erase(0, end)
            if self._trailer >= end:
                self._erase(self._trailer // self._sector * self._sector, len(self.slots[1]))
            self._unplan()

    def _erase(self, start: int, end: int) -> None:
        self.slots[1][start:end] = b"\xff" * (end - start)

    def _unplan(self) -> None:
        self.plan = "revert" if self.plan == "revert" else "none"


def _refused(rc: int, version: int, *, verbose: bool = False) -> Body:
    if version:
        return {"err": {"group": 1, "rc": rc}}
    reply: Body = {"rc": V0_RC.get(rc, 1)}
    return reply | {"rsn": REASONS[rc]} if verbose and rc in REASONS else reply

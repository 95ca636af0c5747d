"""How much work a boot is: each image is hashed once, and nothing large is read in one piece."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.store.files import Overlay
from smp_dfu_host.store.slots import SlotStore
from tests.store.builders import config, hash_of, image

FLASH = {"sector_size": 4096, "sectors": 64, "max_sectors": 64}
READ_LIMIT = 64 << 10
"""Bytes that may be read at a time: a quarter of a slot."""
OLD, NEW = (image((number, 0, 0), bytes([number]) * 1000 * size) for number, size in ((1, 150), (2, 180)))
SWAPS = ("swap-using-move", "swap-using-scratch", "swap-using-offset")


@dataclass
class Work:
    """What was done since it was made."""

    hashed: int = 0
    """Bytes, through `hashlib`."""
    largest: int = 0
    """Bytes of the largest read, of flash or of a file under it."""


class Counted:
    """A hash under way, which counts what it takes."""

    def __init__(self, work: Work, inner: Any, data: bytes) -> None:
        self._work, self._inner = work, inner
        self.update(data)

    def update(self, data: bytes) -> None:
        self._work.hashed += len(data)
        self._inner.update(data)

    def digest(self) -> bytes:
        return bytes(self._inner.digest())

    def hexdigest(self) -> str:
        return self.digest().hex()


def watch(patch: pytest.MonkeyPatch) -> Work:
    """Count from now on."""
    work, new = Work(), hashlib.new

    def named(name: str) -> Callable[..., Counted]:
        return lambda data=b"", **_: Counted(work, new(name), data)

    patch.setattr(hashlib, "new", lambda name, data=b"", **_: Counted(work, new(name), data))
    for name in ("sha256", "sha384", "sha512"):
        patch.setattr(hashlib, name, named(name))
    for name in ("read", "_original"):
        patch.setattr(Overlay, name, _sized(work, getattr(Overlay, name)))
    return work


def _sized(work: Work, read: Callable[[Overlay, int, int], bytes]) -> Callable[[Overlay, int, int], bytes]:
    def sized(overlay: Overlay, start: int, size: int) -> bytes:
        data = read(overlay, start, size)
        work.largest = max(work.largest, len(data))
        return data

    return sized


def boot(slots: SlotStore) -> tuple[Work, str]:
    """Boot; return the work, and the version that runs."""
    with pytest.MonkeyPatch.context() as patch:
        work = watch(patch)
        result = slots.boot()
    return work, str(result.header and result.header.version)


def updated(folder: Path, mode: str) -> SlotStore:
    """Return a store with an update that the next boot takes."""
    (folder / "old.bin").write_bytes(OLD)
    slots = SlotStore(config(folder, flash=FLASH, bootloader={"mode": mode}, image={"factory": "old.bin"}))
    slots.load(1, NEW)
    if mode != "direct-xip":
        slots.set_state(hash_of(NEW), confirm=False)
    return slots


def size_of(data: bytes) -> int:
    return ImageHeader.parse(data).hashed_size


@pytest.mark.parametrize("mode", [*SWAPS, "overwrite-only", "direct-xip"])
def test_boot_hashes_what_runs_once_and_reads_in_pieces(tmp_path: Path, mode: str) -> None:
    """The update, where it arrived and where it was brought to; then a boot that goes back, or changes nothing."""
    slots = updated(tmp_path, mode)
    work, version = boot(slots)
    assert (version, work.hashed) == ("2.0.0", size_of(NEW))
    assert 0 < work.largest <= READ_LIMIT
    work, version = boot(slots)
    assert (version, work.hashed) == (("1.0.0", size_of(OLD)) if mode in SWAPS else ("2.0.0", size_of(NEW)))
    assert 0 < work.largest <= READ_LIMIT


def test_what_is_hashed_twice_or_read_whole_is_counted(tmp_path: Path) -> None:
    slots = updated(tmp_path, "swap-using-move")
    size = slots.layout.size(0)
    with pytest.MonkeyPatch.context() as patch, closing(Overlay(slots.layout.slot(0), 4096)) as overlay:
        work = watch(patch)
        for _ in range(2):
            hashlib.sha256(overlay.read(0, size)).digest()
    assert (work.hashed, work.largest) == (2 * size, size)

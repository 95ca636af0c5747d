"""Flash as MCUboot sees it: areas of erasable sectors, over bytes in memory or a file.

     area   [ sector 0 | sector 1 | ... | sector n-1 ]     read: any bytes
                                                           write: multiples of `align`, onto erased bytes
                                                           erase: whole sectors, back to `erased`

The rules are counted and not enforced: real boot loaders break them at times (MCUboot writes a magic over a bad one),
and a model that refuses would differ from them. A write replaces what was there, as RAM would.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from smp_dfu_host.errors import SmpHostError, StoreError


class PowerCut(SmpHostError):  # noqa: N818  (an event, more than an error)
    """The power failed before, or in the middle of, a flash operation; the flash is as it was left.

    Args:
        reason: In words.
        size: Bytes of that operation, had it been done whole.
    """

    def __init__(self, reason: str, size: int = 0) -> None:
        super().__init__(reason)
        self.size = size


class OutOfBounds(StoreError):  # noqa: N818  (reads as what it says)
    """Bytes or sectors that do not lie inside of an area."""


class Readable(Protocol):
    """Bytes that can be read at an offset: an area, a file or a buffer."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on.

        Raises:
            StoreError: If they do not lie inside.
        """
        ...


class Storage(Readable, Protocol):
    """Where the bytes of one flash area are kept."""

    def write(self, offset: int, data: bytes) -> None:
        """Replace the bytes from `offset` on.

        Raises:
            StoreError: If they do not lie inside, or cannot be kept.
        """
        ...


def _inside(offset: int, size: int, limit: int, what: str) -> None:
    if offset < 0 or size < 0 or offset + size > limit:
        raise _outside(what, offset, size, limit)


def _outside(what: str, offset: int, size: int, limit: int) -> OutOfBounds:
    return OutOfBounds(f"{what} of {size} bytes at 0x{offset:x}: outside of 0x{limit:x} bytes")


class MemoryStorage:
    """Bytes in memory, of a fixed size."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on."""
        _inside(offset, size, len(self._data), "read")
        return bytes(self._data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Replace the bytes from `offset` on."""
        _inside(offset, len(data), len(self._data), "write")
        self._data[offset : offset + len(data)] = data


class FileStorage:
    """The bytes of a file of a fixed size, read and written in place; nothing is cached, nothing is synced.

    Args:
        path: The file.
        writable: False: it is only read, and may be somebody else's.
    """

    __slots__ = ("_file", "_path", "_size")

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        self._path = path
        try:
            self._file = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            self._size = os.fstat(self._file).st_size
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}") from exc

    @property
    def size(self) -> int:
        """Bytes; as it was when opened."""
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on."""
        _inside(offset, size, self._size, f"{self._path}: read")
        try:
            data = os.pread(self._file, size, offset)
        except OSError as exc:
            raise StoreError(f"{self._path}: {exc.strerror}") from exc
        if len(data) != size:
            raise StoreError(f"{self._path}: {len(data)} bytes at 0x{offset:x}, {size} wanted; was the file cut short?")
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Replace the bytes from `offset` on."""
        _inside(offset, len(data), self._size, f"{self._path}: write")
        try:
            written = os.pwrite(self._file, data, offset)
        except OSError as exc:
            raise StoreError(f"{self._path}: {exc.strerror}") from exc
        if written != len(data):
            raise StoreError(f"{self._path}: {written} of {len(data)} bytes written at 0x{offset:x}; is the disk full?")

    def sync(self) -> None:
        """Return when everything written is on the disk."""
        try:
            os.fsync(self._file)
        except (OSError, ValueError) as exc:
            raise StoreError(f"{self._path}: {exc}") from exc

    def close(self) -> None:
        """Close the file; further calls close nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class FlashMeter:
    """Counts the operations (writes and erases) of all areas that share it, and cuts their power.

    Args:
        cut_before: The operation, counted from 1, that the power does not live to see; None: it never fails.
        tear: How many bytes of that operation are still done; all of them, if it has fewer.
        trace: Called with each operation that is carried out: `W` or `E`, area, offset, size, data (empty for `E`).
    """

    __slots__ = ("cut_before", "misaligned", "ops", "tear", "trace", "writes_to_nonerased")

    def __init__(
        self,
        cut_before: int | None = None,
        tear: int = 0,
        trace: Callable[[str, str, int, int, bytes], None] | None = None,
    ) -> None:
        self.ops = 0
        """Writes and erases so far, not the one that the power cut."""
        self.writes_to_nonerased = 0
        """Writes that met at least one byte that was not erased."""
        self.misaligned = 0
        """Writes and erases off their alignment."""
        self.cut_before = cut_before
        self.tear = tear
        self.trace = trace

    def step(self) -> bool:
        """Count one operation; return False if it is the one that the power cuts (and is not counted)."""
        if self.cut_before is not None and self.ops + 1 >= self.cut_before:
            return False
        self.ops += 1
        return True

    def free(self, count: int) -> bool:
        """Tell whether so many operations can go unobserved: no cut falls among them, and nobody traces them."""
        return self.trace is None and (self.cut_before is None or self.ops + count < self.cut_before)

    def cut(self, size: int) -> PowerCut:
        """Return the error of the cut; `size` bytes would have been written or erased."""
        torn = f", after {min(self.tear, size)} of its bytes" if self.tear else ""
        return PowerCut(f"power cut before flash operation {self.cut_before}{torn}", size)


class FlashArea:
    """One area of flash: a slot or the scratch area.

    Args:
        name: What messages and traces call it.
        storage: Where the bytes are; its size must be the sum of the sectors.
        sectors: Size of each sector in bytes, from the start.
        align: Write alignment in bytes.
        erased: Value of an erased byte.
        address: Flash address of the first byte, as images with a fixed address name it.
        meter: Counter, perhaps shared with other areas; without one the area gets its own.
    """

    __slots__ = (
        "_blank",
        "_edges",
        "_starts",
        "_storage",
        "address",
        "align",
        "erased",
        "generation",
        "meter",
        "name",
        "sectors",
        "size",
    )

    def __init__(
        self,
        name: str,
        storage: Storage,
        sectors: Sequence[int],
        align: int,
        erased: int = 0xFF,
        address: int = 0,
        meter: FlashMeter | None = None,
    ) -> None:
        self.name = name
        self.sectors = tuple(sectors)
        self.size = sum(self.sectors)
        self.align = align
        self.erased = erased
        self.address = address
        self.meter = meter or FlashMeter()
        self.generation = 0
        """Rises with every change of the contents."""
        self._storage = storage
        self._starts = (0, *accumulate(self.sectors))
        self._edges = frozenset(self._starts)
        self._blank = bytes([erased]) * max(self.sectors, default=0)
        """The largest sector, erased: compared with and written so often that it is made once."""
        if storage.size != self.size:
            raise StoreError(f"{name}: {storage.size} bytes, the sectors make {self.size}")

    def __repr__(self) -> str:
        return f"<FlashArea {self.name} {self.size} bytes, {len(self.sectors)} sectors>"

    def sector_at(self, offset: int) -> int:
        """Return the number of the sector that holds the byte at `offset`."""
        if not 0 <= offset < self.size:
            raise _outside(f"{self.name}: sector lookup", offset, 1, self.size)
        return bisect_right(self._starts, offset) - 1

    def sector_offset(self, number: int) -> int:
        """Return the offset of a sector's first byte; the number after the last gives the size.

        Raises:
            OutOfBounds: If there is no such sector.
        """
        if not 0 <= number < len(self._starts):
            raise OutOfBounds(f"{self.name}: sector {number}, there are {len(self.sectors)}")
        return self._starts[number]

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on.

        Raises:
            StoreError: If they do not lie inside.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise _outside(f"{self.name}: read", offset, size, self.size)
        return self._storage.read(offset, size)

    def is_erased(self, offset: int, size: int) -> bool:
        """Tell whether all those bytes have the erased value."""
        return self.read(offset, size) == self._erased(size)

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes; one operation.

        Raises:
            StoreError: If they do not lie inside.
            PowerCut: If the meter says so.
        """
        size = len(data)
        if offset < 0 or offset + size > self.size:
            raise _outside(f"{self.name}: write", offset, size, self.size)
        meter = self.meter
        if not meter.step():
            self._change(offset, data[: meter.tear])
            raise meter.cut(size)
        if offset % self.align or size % self.align:
            meter.misaligned += 1
        if self._storage.read(offset, size) != self._erased(size):
            meter.writes_to_nonerased += 1
        self._change(offset, data)
        if meter.trace:
            meter.trace("W", self.name, offset, size, data)

    def write_pieces(self, offset: int, data: bytes, piece: int) -> None:
        """Write bytes, `piece` of them at a time; each piece is one operation.

        Raises:
            StoreError: If they do not lie inside.
            PowerCut: If the meter says so.
        """
        size = len(data)
        count = -(-size // piece)
        plain = not (offset % self.align or piece % self.align or size % self.align)
        if plain and self.meter.free(count) and self.is_erased(offset, size):
            # Nothing can happen between the pieces, so that they can be one.
            self._change(offset, data)
            self.meter.ops += count
            return
        for start in range(0, size, piece):
            self.write(offset + start, data[start : start + piece])

    def erase(self, offset: int, size: int) -> None:
        """Erase bytes; one operation, whatever the size.

        Raises:
            StoreError: If they do not lie inside.
            PowerCut: If the meter says so.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise _outside(f"{self.name}: erase", offset, size, self.size)
        meter = self.meter
        if not meter.step():
            self._change(offset, self._erased(min(meter.tear, size)))
            raise meter.cut(size)
        if offset not in self._edges or offset + size not in self._edges:
            meter.misaligned += 1
        self._change(offset, self._erased(size))
        if meter.trace:
            meter.trace("E", self.name, offset, size, b"")

    def erase_sectors(self, offset: int, size: int, *, backwards: bool = False) -> None:
        """Erase each sector that holds one of those bytes, one operation each (bootutil_area.c, boot_erase_region)."""
        first = self.sector_at(offset)
        if offset + size <= self._starts[first + 1]:
            self.erase(self._starts[first], self.sectors[first])
            return
        numbers = range(first, self.sector_at(offset + size - 1) + 1)
        for number in reversed(numbers) if backwards else numbers:
            self.erase(self._starts[number], self.sectors[number])

    def load(self, offset: int, data: bytes) -> None:
        """Put bytes there from outside, by a programmer: no operation, no rules.

        Raises:
            StoreError: If they do not lie inside.
        """
        _inside(offset, len(data), self.size, f"{self.name}: load")
        self._change(offset, data)

    def _erased(self, size: int) -> bytes:
        return self._blank[:size] if size <= len(self._blank) else bytes([self.erased]) * size

    def _change(self, offset: int, data: bytes) -> None:
        if data:
            self._storage.write(offset, data)
            self.generation += 1

"""Files that survive: written whole and renamed, locked across processes, staged in memory before they change.

What `fsync` is for: a rename is atomic for other processes at once, and for a power cut once the new file's data were
synced before it and the folder after it (POSIX rename, fsync; ext4, xfs, btrfs and f2fs keep that order).
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from smp_dfu_host.errors import StoreError

LOCK_TIMEOUT_S = 10.0
"""How long to wait for another process that changes the store: a boot with a swap takes about a second."""
_POLL_S = 0.01
_COPY_SIZE = 1 << 20
_RUN = 16
"""Sectors read at a time: whoever wants one mostly wants those around it, too, a swap from the last to the first."""


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries (creations, renames, removals) are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the operating system says into a StoreError that names the file."""
    try:
        yield
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc


def begin_writing(file: BinaryIO) -> None:
    """Have the kernel write a new file to the disk from now on, without waiting for it.

    Linux begins to write what is advised to be dropped and is not on the disk yet (mm/fadvise.c), and drops what is;
    of a file that was just made that is nothing. It is a hint: `fsync` is what makes sure.
    """
    file.flush()
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_synced(path: Path, data: bytes) -> None:
    """Write a whole new file and return when its bytes are on the disk; its name is not yet.

    Raises:
        StoreError: If it cannot be written.
    """
    with naming(path), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file by new contents; others see the old or the new ones, and after a power cut perhaps none.

    Raises:
        StoreError: If it cannot be written.
    """
    staged = path.with_name(f"{path.name}.new")
    with naming(path):
        staged.write_bytes(data)
        staged.replace(path)


def replace_durably(path: Path, data: bytes) -> None:
    """Replace a file by new contents; others, and a power cut, see the old or the new ones.

    Raises:
        StoreError: If it cannot be written.
    """
    staged = path.with_name(f"{path.name}.new")
    write_synced(staged, data)
    with naming(path):
        staged.replace(path)
        sync_folder(path.parent)


def read_file(path: Path) -> bytes | None:
    """Return a file's contents, or None if there is no such file.

    Raises:
        StoreError: If it cannot be read.
    """
    with naming(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


@contextmanager
def freed_later(paths: Iterable[Path]) -> Iterator[None]:
    """Let files lose their names, or be replaced, and be freed afterwards, in a thread.

    To free blocks takes about as long as to write them, longer where the disk is told (mount option `discard`), and
    whoever closes a nameless file last waits for it.
    """
    descriptors = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths if path.exists()]
    try:
        yield
    finally:
        Thread(target=_close, args=(descriptors,), name="free").start()


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold a lock across threads and processes; the kernel frees it when its holder dies.

    Whoever may read the file but not write it can hold it too: to look at somebody else's store.

    Raises:
        StoreError: If somebody else holds it all the time, or the file cannot be opened.
    """
    with naming(path):
        descriptor = _lock_file(path)
    try:
        _lock(descriptor, path, time.monotonic() + timeout_s)
        yield
    finally:
        os.close(descriptor)


def _lock_file(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        if exc.errno not in (errno.EACCES, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                raise StoreError(f"{path}: another process is changing the store and does not end") from exc
            time.sleep(_POLL_S)
        else:
            return


class Overlay:
    """Flash contents that begin as a file's and change in memory only, sector by sector.

    A sector is `bytes` until a part of it is written: one that is read whole and written whole elsewhere, as a swap
    does, is shared and not copied.

    Args:
        path: The file; it is only read.
        sector_size: Bytes that are read at a time, when one of them is first wanted.
    """

    __slots__ = ("_descriptor", "_path", "_sector_size", "_sectors", "_size", "_written")

    def __init__(self, path: Path, sector_size: int) -> None:
        self._path = path
        self._sector_size = sector_size
        with naming(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size
        self._sectors: list[bytes | bytearray | None] = [None] * -(-self._size // sector_size)
        """As they are now; None: as in the file, and not read from it yet."""
        self._written: set[int] = set()

    @property
    def size(self) -> int:
        """Bytes; as the file was when opened."""
        return self._size

    @property
    def changed(self) -> bool:
        """Whether anything differs from the file."""
        return any(self._original(number, 1) != self._sectors[number] for number in self._written)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes, changed ones as they are now."""
        unit = self._sector_size
        first, start = offset // unit, offset % unit
        end = start + size
        if size > 0 and end <= unit:
            return bytes((self._sectors[first] or self._sector(first))[start:end])
        run = range(first, first - (-end // unit))
        if None in self._sectors[run.start : run.stop]:
            self._load(run)
        return b"".join(map(self._sector, run))[start:end]

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes in memory."""
        unit, size = self._sector_size, len(data)
        number, start = offset // unit, offset % unit
        if size == unit and not start:
            self._sectors[number] = data
            self._written.add(number)
        elif start + size <= unit:
            if data:
                self._part(number)[start : start + size] = data
        else:
            inside = unit - start
            self.write(offset, data[:inside])
            for done in range(inside, size, unit):
                self.write(offset + done, data[done : done + unit])

    def save(self, file: BinaryIO) -> None:
        """Write all of it to a new file, and close the old one.

        Raises:
            OSError: If it cannot be written.
            StoreError: If the old one cannot be read.
        """
        for written, numbers in groupby(range(len(self._sectors)), self._written.__contains__):
            self._save_run(file, list(numbers), written=written)
        self.close()

    def close(self) -> None:
        """Close the file; further calls close nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _save_run(self, file: BinaryIO, numbers: Sequence[int], *, written: bool) -> None:
        offset = numbers[0] * self._sector_size
        if written:
            file.seek(offset)
            file.write(b"".join(map(self._sector, numbers)))
        else:
            _copy(self._descriptor, file.fileno(), offset, min(self._size, (numbers[-1] + 1) * self._sector_size))

    def _part(self, number: int) -> bytearray:
        """Return a sector to change a part of."""
        sector = self._sectors[number]
        if not isinstance(sector, bytearray):
            sector = self._sectors[number] = bytearray(self._sector(number))
            self._written.add(number)
        return sector

    def _sector(self, number: int) -> bytes | bytearray:
        """Return a sector as it is now."""
        if (sector := self._sectors[number]) is not None:
            return sector
        first = number - number % _RUN
        self._load(range(first, min(first + _RUN, len(self._sectors))))
        return self._sector(number)

    def _load(self, numbers: range) -> None:
        """Read sectors at one go, and keep those that are not in memory yet."""
        data, unit = self._original(numbers.start, len(numbers)), self._sector_size
        for start, number in zip(range(0, len(data), unit), numbers, strict=True):
            if self._sectors[number] is None:
                self._sectors[number] = data[start : start + unit]

    def _original(self, number: int, count: int) -> bytes:
        """Read sectors from the file."""
        offset = number * self._sector_size
        size = min(count * self._sector_size, self._size - offset)
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise StoreError(f"{self._path}: {len(data)} bytes at 0x{offset:x}, {size} wanted; was the file cut short?")
        return data


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Copy a part of a file to the same place in another; the kernel shares the blocks where the file system can."""
    done = start
    while done < end:
        try:
            count = os.copy_file_range(source, target, min(end - done, _COPY_SIZE), done, done)
        except OSError:  # some network and overlay file systems cannot
            count = os.pwrite(target, os.pread(source, min(end - done, _COPY_SIZE), done), done)
        if not count:
            raise StoreError(f"{done} bytes copied, {end} wanted; was the file cut short?")
        done += count

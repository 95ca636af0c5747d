"""Files that survive: written whole and renamed, locked across processes, staged in memory before they change.

What `fsync` is for: a rename is atomic for other processes at once, and for a power cut once the new file's data were
synced before it and the folder after it (POSIX rename, fsync; ext4, xfs, btrfs and f2fs keep that order).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smp_dfu_host.errors import StoreError

LOCK_TIMEOUT_S = 10.0
"""How long to wait for another process that changes the store: a boot with a swap takes about a second."""
_POLL_S = 0.01
_COPY_SIZE = 1 << 20


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries (creations, renames, removals) are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a whole new file and return when its bytes are on the disk; its name is not yet.

    Raises:
        StoreError: If it cannot be written.
    """
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc


def replace_durably(path: Path, data: bytes) -> None:
    """Replace a file by new contents; others, and a power cut, see the old or the new ones.

    Raises:
        StoreError: If it cannot be written.
    """
    staged = path.with_name(f"{path.name}.new")
    write_synced(staged, data)
    staged.replace(path)
    sync_folder(path.parent)


def read_file(path: Path) -> bytes | None:
    """Return a file's contents, or None if there is no such file.

    Raises:
        StoreError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold a lock across threads and processes; the kernel frees it when its holder dies.

    Raises:
        StoreError: If somebody else holds it all the time, or the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc
    try:
        _lock(descriptor, path, time.monotonic() + timeout_s)
        yield
    finally:
        os.close(descriptor)


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

    Args:
        path: The file; it is only read.
        sector_size: Bytes that are read at a time, when one of them is first wanted.
    """

    __slots__ = ("_data", "_descriptor", "_missing", "_path", "_sector_size", "_size", "_written")

    def __init__(self, path: Path, sector_size: int) -> None:
        self._path = path
        self._sector_size = sector_size
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}") from exc
        self._size = os.fstat(self._descriptor).st_size
        self._data = bytearray(self._size)
        self._missing = set(range(-(-self._size // sector_size)))
        """Sectors that were not read from the file yet."""
        self._written: set[int] = set()

    @property
    def size(self) -> int:
        """Bytes; as the file was when opened."""
        return self._size

    @property
    def changed(self) -> bool:
        """Whether anything differs from the file."""
        unit = self._sector_size
        pieces = ((number * unit, self._data[number * unit : (number + 1) * unit]) for number in self._written)
        return any(self._original(offset, len(data)) != data for offset, data in pieces)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes, changed ones as they are now."""
        if self._missing:
            self._load(offset, size)
        return bytes(self._data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes in memory."""
        end, unit = offset + len(data), self._sector_size
        if self._missing:
            self._load(offset, end - offset)
        for number in range(offset // unit, -(-end // unit)):
            self._written.add(number)
        self._data[offset:end] = data

    def save(self, path: Path) -> None:
        """Write all of it to a new file and return when its bytes are on the disk.

        Raises:
            StoreError: If it cannot be written.
        """
        unit = self._sector_size
        try:
            with path.open("wb") as file:
                _copy(self._descriptor, file.fileno(), self._size)
                for number in sorted(self._written):
                    os.pwrite(file.fileno(), self._data[number * unit : (number + 1) * unit], number * unit)
                os.fsync(file.fileno())
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}") from exc

    def close(self) -> None:
        """Close the file; further calls close nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _load(self, offset: int, size: int) -> None:
        """Read what is not in memory yet of the sectors with those bytes."""
        unit = self._sector_size
        for number in self._missing.intersection(range(offset // unit, -(-(offset + size) // unit))):
            start = number * unit
            self._data[start : start + unit] = self._original(start, min(unit, self._size - start))
            self._missing.remove(number)

    def _original(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise StoreError(f"{self._path}: {len(data)} bytes at 0x{offset:x}, {size} wanted; was the file cut short?")
        return data


def _copy(source: int, target: int, size: int) -> None:
    """Copy a file's first bytes; the kernel shares the blocks where the file system can."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, min(size - done, _COPY_SIZE), done, done)
        except OSError:  # some network and overlay file systems cannot
            count = os.pwrite(target, os.pread(source, _COPY_SIZE, done), done)
        if not count:
            raise StoreError(f"{done} bytes copied, {size} wanted; was the file cut short?")
        done += count

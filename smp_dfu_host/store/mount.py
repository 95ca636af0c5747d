"""A folder as a device's file system: files by paths like `/lfs1/a.txt`, and no way out of the folder.

A path is walked component by component, each opened relative to the one before and without following links, so that
nothing that is renamed or linked meanwhile leads elsewhere. `..` is refused, not resolved. What is no plain file with
exactly one name is not there: links, pipes and devices, and hard links, whose other name may be anywhere.

After zephyr subsys/fs/fs.c: mount points are matched by name, `/` and the mount point itself are directories.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from smp_dfu_host.errors import StoreError

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class MountFault(Enum):
    """Why a file cannot be used."""

    NAME = auto()
    """The path is none: relative, or with `..` or a NUL in it."""
    ABSENT = auto()
    """There is no such file, directory or mount point."""
    DIRECTORY = auto()
    READ_ONLY = auto()
    FULL = auto()
    """The files would get too many or too large."""
    FAILED = auto()
    """The host's file system does not want to."""


class MountError(StoreError):
    """A file cannot be used."""

    def __init__(self, fault: MountFault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


class MountedFile:
    """An open file; closed at the latest when nobody has it any more."""

    __slots__ = ("_descriptor", "_name")

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name

    def __del__(self) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from the offset on, fewer or none at the end.

        Raises:
            MountError: If they cannot be read.
        """
        if offset >= self.size:
            return b""
        with self._errors():
            return os.pread(self._descriptor, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at the offset.

        Raises:
            MountError: If they cannot all be written.
        """
        with self._errors():
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                offset, data = offset + written, data[written:]

    def truncate(self, size: int) -> None:
        """Cut the file to that size.

        Raises:
            MountError: If it cannot be cut.
        """
        with self._errors():
            os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Return when what was written is on the disk.

        Raises:
            MountError: If it does not get there.
        """
        with self._errors():
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; further calls close nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _errors(self) -> "_Errors":
        return _Errors(self._name)


class _Errors:
    """Turns the host's errors into ours."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise _failed(self._name, error) from error


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system.

    Args:
        folder: Where the files are; must exist.
        point: The mount point's name.
        size: Bytes that all files together may have after a write.
        files: How many files there may be after one is made.
        read_only: Whether all that changes something is refused.
    """

    folder: Path
    point: str
    size: int
    files: int
    read_only: bool = False

    def file_size(self, name: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            MountError: `NAME`, `ABSENT`, `DIRECTORY` or `FAILED`.
        """
        with self._parent(name) as (parent, leaf), _Errors(name):
            return _plain(os.stat(leaf, dir_fd=parent, follow_symlinks=False), name).st_size

    def open(self, name: str) -> MountedFile:
        """Open a file to read it.

        Raises:
            MountError: As for `file_size`.
        """
        with self._parent(name) as (parent, leaf), _Errors(name):
            return _opened(parent, leaf, name, os.O_RDONLY)

    def edit(self, name: str) -> MountedFile:
        """Open a file to change it; made, empty, if there is none.

        Raises:
            MountError: As for `file_size`; `READ_ONLY`; `FULL` if there are too many files.
        """
        if self.read_only:
            raise MountError(MountFault.READ_ONLY, f"{name!r}: fs.read_only = true")
        with self._parent(name) as (parent, leaf), _Errors(name):
            try:
                return _opened(parent, leaf, name, os.O_RDWR)
            except FileNotFoundError:
                if (count := len(self._sizes())) >= self.files:
                    raise MountError(MountFault.FULL, f"{name!r}: there are {count} files already") from None
                return _opened(parent, leaf, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def room(self, file: MountedFile) -> int:
        """Return how large that file may get, in bytes."""
        return max(self.size - (sum(self._sizes()) - file.size), 0)

    def _sizes(self) -> list[int]:
        """Return the sizes of all files, in bytes."""
        sizes: list[int] = []
        for _, _, names, folder in os.fwalk(self.folder):
            for name in names:
                with suppress(OSError):  # removed just now
                    sizes.append(os.stat(name, dir_fd=folder, follow_symlinks=False).st_size)
        return sizes

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, bytes]]:
        """Open the directory that a file is in; give it and the file's own name."""
        *folders, leaf = self._components(name)
        with _Errors(name):
            descriptor = os.open(self.folder, _FOLDER)
        try:
            for component in folders:
                with _Errors(name):
                    inner = os.open(component, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor, leaf
        finally:
            os.close(descriptor)

    def _components(self, name: str) -> list[bytes]:
        """Return a path's components behind the mount point, one at least."""
        raw = name.encode(errors="surrogateescape")
        components = [part for part in raw.split(b"/") if part not in (b"", b".")]
        if not raw.startswith(b"/") or b"\0" in raw or b".." in components:
            raise MountError(MountFault.NAME, f"path {name!r}: must begin with / and have no .. and no NUL in it")
        point = self.point.encode()
        if raw.rstrip(b"/") in (b"", point):
            raise MountError(MountFault.DIRECTORY, f"{name!r}: is a directory")
        if not raw.startswith(point + b"/"):
            raise MountError(MountFault.ABSENT, f"{name!r}: no such mount point, there is {self.point}")
        if len(components) == 1:
            raise MountError(MountFault.DIRECTORY, f"{name!r}: is a directory")
        return components[1:]


def _opened(parent: int, leaf: bytes, name: str, flags: int) -> MountedFile:
    """Open a plain file; what it is is asked first, since to open a device can do something already."""
    if not flags & os.O_CREAT:
        _plain(os.stat(leaf, dir_fd=parent, follow_symlinks=False), name)
    descriptor = os.open(leaf, flags | _FILE, 0o644, dir_fd=parent)
    try:
        _plain(os.fstat(descriptor), name)
    except BaseException:
        os.close(descriptor)
        raise
    return MountedFile(descriptor, name)


def _plain(found: os.stat_result, name: str) -> os.stat_result:
    """Return what was found if it is a plain file with one name."""
    if stat.S_ISDIR(found.st_mode):
        raise MountError(MountFault.DIRECTORY, f"{name!r}: is a directory")
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise MountError(MountFault.ABSENT, f"{name!r}: is a link or no plain file, and not served")
    return found


def _failed(name: str, error: OSError) -> MountError:
    """Return our error for one of the host's."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            fault = MountFault.ABSENT
        case _:
            fault = MountFault.FAILED
    return MountError(fault, f"{name!r}: {error.strerror}")

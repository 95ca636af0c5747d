"""The file system group (8): download, upload, status, checksums and hashes of the files in one folder.

After zephyr subsys/mgmt/mcumgr/grp/fs_mgmt/src/fs_mgmt.c. That no path leaves the folder is the mount's business
(store/mount.py); which file is open and until when, that of fs_session.py. Work that waits for the disk runs in another
thread; a chunk's write and read do not wait and run here.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.events import ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.group import Context, Group, read, write
from smp_dfu_host.dispatch.hooks import Event, FileAccess, FileUse
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import ConfigError, GroupError, MgmtError, Rc, Refusal
from smp_dfu_host.groups.fs_hash import DEFAULT_TYPE, TYPE_LIMIT, TYPES, chunks
from smp_dfu_host.groups.fs_rc import GROUP, READING, V0_RC, WRITING, FsRc, refusals
from smp_dfu_host.groups.fs_session import OpenFile, Transfer
from smp_dfu_host.store.mount import Mount, MountError, MountFault
from smp_dfu_host.wire.body import Body, Uint64

log = logging.getLogger(__name__)

CHUNK_OVERHEAD = 44
"""Bytes of a download's reply that are not data, at the worst: header, keys, sizes (zephyr fs_mgmt_config.h)."""


@dataclass(frozen=True, slots=True)
class Download(Body):
    """The part of a file that is wanted."""

    off: Uint64 | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class DownloadReply(Body):
    """A part of a file."""

    off: int
    data: bytes
    len: int | None = None
    """Of the whole file; with the first part only."""


@dataclass(frozen=True, slots=True)
class Upload(Body):
    """A part of a file; `len` counts in the first one only."""

    off: Uint64 | None = None
    name: str = ""
    data: bytes = b""
    len: Uint64 | None = None


@dataclass(frozen=True, slots=True)
class UploadReply(Body):
    """Where to go on."""

    off: int


@dataclass(frozen=True, slots=True)
class Status(Body):
    """A file."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class StatusReply(Body):
    """Its size."""

    len: int


@dataclass(frozen=True, slots=True)
class Hash(Body):
    """What to hash, and how."""

    type: str = ""
    """Empty: crc32."""
    name: str = ""
    off: Uint64 = 0
    len: Uint64 | None = None
    """Missing: to the end of the file."""


@dataclass(frozen=True, slots=True)
class HashReply(Body):
    """A checksum or hash."""

    type: str
    off: int | None
    """Where the hashed part begins; None: at 0."""
    len: int
    """Bytes that were hashed."""
    output: int | bytes


class FileSystemGroup(Group):
    """Commands about files.

    Raises:
        ConfigError: If the folder cannot be made.
    """

    id = GROUP
    name = "fs mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = V0_RC

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        config = services.config.fs
        self._path_len = config.path_len
        self._mount = mount(services.config)
        self._open = OpenFile(services.clock, config.idle_close_ms / 1000)
        services.events.subscribe(ModuleStateEvent, self._state_changed)

    @classmethod
    def needs(cls, config: Config) -> str:
        """Return the option that names the folder, unless it is set."""
        return "" if config.fs.folder else "fs.folder"

    @read(0, Download)
    async def download(self, context: Context, request: Download) -> Body:
        """Tell a part of a file, as much as fits; behind the end there is nothing."""
        off = self._check(request.name, request.off)
        transfer = self._open.resume((context.peer.owner, request.name, False))
        if transfer is None:
            name = await self._ask(FileUse.READ, context, request.name)
            self._open.close()
            with refusals(READING):
                file = self._mount.open(name)
            key = (context.peer.owner, request.name, False)
            transfer = self._open.begin(Transfer(key, file, file.size, file.size, length=file.size))
        with self._ending(), refusals(READING, FsRc.FILE_READ_FAILED):
            data = transfer.file.read(off, context.buf_size - CHUNK_OVERHEAD)
        transfer.off = off + len(data)
        self._rest(transfer)
        return DownloadReply(off, data, transfer.length if off == 0 else None)

    @write(0, Upload)
    async def upload(self, context: Context, request: Upload) -> Body:
        """Take a part of a file."""
        off = self._check(request.name, request.off)
        if off == 0 and request.len is None:
            raise MgmtError(Rc.EINVAL, "len is missing")
        transfer = self._open.resume((context.peer.owner, request.name, True))
        if transfer is None:
            transfer = await self._begin(context, request.name)
        with self._ending():
            _place(transfer, off, request.len)
            if request.data:
                _write(transfer, request.data)
            if transfer.complete:
                with refusals(WRITING, FsRc.FILE_CLOSE_FAILED):
                    await asyncio.to_thread(transfer.file.sync)
        self._rest(transfer)
        return UploadReply(transfer.off)

    @read(1, Status)
    async def status(self, context: Context, request: Status) -> Body:
        """Tell a file's size; that of one that is being uploaded is the one from before."""
        self._check(request.name, 0)
        name = await self._ask(FileUse.STATUS, context, request.name)
        if (transfer := self._open.uploaded(request.name)) is not None:
            return StatusReply(transfer.told)
        with refusals(READING):
            return StatusReply(self._mount.file_size(name))

    @read(2, Hash)
    async def hash(self, context: Context, request: Hash) -> Body:
        """Tell the checksum or hash of a file, or of a part of it."""
        self._check(request.name, 0)
        size = len(request.type.encode(errors="surrogateescape"))
        if size > TYPE_LIMIT or request.len == 0:
            raise MgmtError(Rc.EINVAL, f"type of {size} bytes, limit is {TYPE_LIMIT}; len {request.len}, not 0")
        kind = request.type or DEFAULT_TYPE
        if kind not in TYPES:
            raise GroupError(GROUP, FsRc.CHECKSUM_HASH_NOT_FOUND, f"no type {kind!r}")
        name = await self._ask(FileUse.HASH, context, request.name)
        with refusals(READING):
            file = self._mount.open(name)
        with closing(file), refusals(READING, FsRc.FILE_READ_FAILED):
            length = _hashable(file.size, request.off, request.len)
            output = await asyncio.to_thread(TYPES[kind].work, chunks(file, request.off, length))
        return HashReply(kind, request.off or None, length, output)

    @read(3)
    async def hash_types(self, _context: Context) -> Mapping[str, object]:
        """Tell the types that there are: numbers have format 0, bytes format 1."""
        return {"types": {name: {"format": kind.format, "size": kind.size} for name, kind in TYPES.items()}}

    @write(4)
    async def close(self, _context: Context) -> Body:
        """Close the open file, if there is one."""
        self._open.close()
        return Body()

    def _check(self, name: str, off: int | None) -> int:
        """Check what is there of path and offset; return the offset."""
        size = len(name.encode(errors="surrogateescape"))
        if off is None or not 1 <= size <= self._path_len:
            raise MgmtError(Rc.EINVAL, f"off {off}; path of {size} bytes, must be 1 to {self._path_len}")
        return off

    async def _ask(self, use: FileUse, context: Context, name: str) -> str:
        """Ask the hooks; return the path that they leave."""
        access = FileAccess(use, name, context.peer)
        await self.services.hooks.notify(Event.FS_FILE_ACCESS, access)
        return access.name

    async def _begin(self, context: Context, path: str) -> Transfer:
        """Open a file for an upload."""
        name = await self._ask(FileUse.WRITE, context, path)
        self._open.close()
        with refusals(WRITING):
            file = await asyncio.to_thread(self._mount.edit, name)
            room = await asyncio.to_thread(self._mount.room, file)
        key, size = (context.peer.owner, path, True), file.size
        log.info("%s: upload to %r", context.peer, name)
        return self._open.begin(Transfer(key, file, kept=size, told=size, room=room))

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Close the file if the request is refused."""
        try:
            yield
        except Refusal:
            self._open.close()
            raise

    def _rest(self, transfer: Transfer) -> None:
        """Close a file that is all there, or wait for the next request."""
        if transfer.complete:
            self._open.close()
        else:
            self._open.rest()

    def _state_changed(self, event: ModuleStateEvent) -> None:
        """Forget the open file at a reset."""
        if event == ModuleStateEvent("main", ModuleState.READY):
            self._open.close()


def _place(transfer: Transfer, off: int, length: int | None) -> None:
    """Check that an upload goes on where it is; at 0 it begins anew, and without one it goes on at the file's end."""
    if off == 0:
        transfer.off, transfer.length = 0, length
        return
    if transfer.off == 0:
        transfer.off = transfer.file.size
    if off != transfer.off:
        reason = f"off {off}, the next part goes to {transfer.off}"
        raise GroupError(GROUP, FsRc.FILE_OFFSET_NOT_VALID, reason, beside={"len": transfer.off})


def _write(transfer: Transfer, data: bytes) -> None:
    """Write a part; the first one replaces what was there. A failure takes back all that this transfer has written."""
    file, end = transfer.file, transfer.off + len(data)
    if transfer.off == 0:
        with refusals(WRITING, FsRc.FILE_TRUNCATE_FAILED):
            file.truncate(0)
        transfer.kept = 0
    try:
        with refusals(WRITING, FsRc.FILE_WRITE_FAILED):
            if end > transfer.room:
                raise MountError(MountFault.FULL, f"file of {end} bytes, there is room for {transfer.room}")
            file.write(transfer.off, data)
    except GroupError:
        with suppress(MountError):
            file.truncate(transfer.kept)
        raise
    transfer.off = end


def _hashable(size: int, off: int, wanted: int | None) -> int:
    """Return how many bytes are to be hashed."""
    if size == 0:
        raise GroupError(GROUP, FsRc.FILE_EMPTY, "the file is empty")
    if off >= size:
        raise GroupError(GROUP, FsRc.FILE_OFFSET_LARGER_THAN_FILE, f"off {off}, the file has {size} bytes")
    return size - off if wanted is None else min(wanted, size - off)


def mount(config: Config) -> Mount:
    """Return the file system that is configured; its folder is made if need be.

    Raises:
        ConfigError: If there is none, or its folder cannot be made.
    """
    fs = config.fs
    if fs.folder is None:
        raise ConfigError("fs.folder is missing: the folder that clients see")
    try:
        fs.folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"fs.folder = {fs.folder}: {exc.strerror}") from exc
    return Mount(fs.folder, fs.mount, fs.size, fs.files, fs.read_only)

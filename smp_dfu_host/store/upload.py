"""The upload session: one for the server, as in Zephyr, kept in a file so that it outlives the process.

    off = 0 ─► begin: erase what is needed ─► write, write, ... ─► finish: sync, compare, forget
                          └── sync now and then, in another thread ──┘

The session is the server's, not a link's or a transport's. It ends when it is finished, when a request is refused,
when another upload begins, and when its file is removed: at an erase, a reset, and when the DFU lock goes to somebody
else. It is also over when the lock's counter is not the one that it began with.

What survives: a chunk that was answered is in the kernel (data, then the number that counts it), so it survives the end
of the process, however sudden. If the host itself was started anew since, which its boot id tells, only the synced part
counts; the client is told so when it resumes. The last chunk is answered after everything is synced. Until then the
record does not count it, so that a session found at start is never complete and always has a chunk to come.

Not told by a record: that bytes behind `off` were written already. They are written again, with the same bytes.

The upload is hashed once, as the file has it when it is synced. A file that is put in the slot's place meanwhile fails
the upload; bytes that somebody else changes in place afterwards are the next boot's to notice.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import NamedTuple

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.tlv import tlv_bounds
from smp_dfu_host.store.admission import Admission, Chunk, Step
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.files import naming, sync_folder
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.upload_record import UploadRecord, boot_id, owner_bytes, write_durable, write_off

_CHUNK = 1 << 16
TLV_INFO_SIZE = 4
"""Bytes that open a TLV area and say how long it is."""


class Progress(NamedTuple):
    """How far an upload is."""

    off: int
    """Bytes that are there."""
    size: int
    """Bytes of the whole."""
    unsynced: int
    """Bytes that a power cut of the host would take back."""

    checkable: bool = False
    """Whether all of the image is there for the first time, and more bytes are to come: `check` is due."""

    @property
    def complete(self) -> bool:
        """Whether `finish` is due."""
        return self.off == self.size


class _Session:
    """An open session: its record, its two files.

    Args:
        record: What is known of it.
        record_file: Where that is kept.
        slot_file: Where the upload goes.
        base: Where it starts in the slot.
        opened: Closes the files.
    """

    def __init__(self, record: UploadRecord, record_file: int, slot_file: int, base: int, opened: ExitStack) -> None:
        self.record = record
        """As it was when the session was opened here."""
        self.record_file = record_file
        self.slot_file = slot_file
        self.base = base
        self.off = record.off
        """Bytes that are there."""
        self.durable = record.durable
        """Bytes that are synced."""
        self.lost = ""
        """What the disk said when bytes did not get there: the kernel says so once, and the next sync succeeds."""
        self._wanted = ImageHeader.SIZE
        """How many bytes must be there before more can be said about where the image ends."""
        self._told = False
        self._hash, self._hashed = hashlib.sha256(), 0
        self._image: int | None = None
        """How much of it the image's own hash is of, as soon as that is known; 0: that is of something else."""
        self._proofs: Proofs | None = None
        self._open = opened

    @property
    def size(self) -> int:
        """Bytes that are there, of the whole."""
        return self.off

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self.off == self.record.size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the upload that are there."""
        return os.pread(self.slot_file, min(size, self.off - offset), self.base + offset)

    def hash_to(self, off: int, slot_file: int) -> None:
        """Hash what is there up to that offset and is not hashed yet; in one thread at a time.

        Args:
            off: Where to stop, in bytes.
            slot_file: The slot's open file, that of this session or one like it.
        """
        if self._image is None and off >= ImageHeader.SIZE:
            header = ImageHeader.parse(os.pread(slot_file, ImageHeader.SIZE, self.base))
            self._image = 0 if header.encrypted else header.hashed_size
        while self._hashed < off:
            start, end = self._hashed, min(off, self._hashed + _CHUNK)
            if self._image and start < self._image:
                end = min(end, self._image)
            self._hash.update(os.pread(slot_file, end - start, self.base + start))
            self._hashed = end
            if end == self._image:
                self._proofs = Proofs((end, self._hash.copy().digest()))

    def finish(self) -> tuple[bytes, Proofs | None]:
        """Return the SHA-256 of what is there, and what is computed of the image in it."""
        self.hash_to(self.off, self.slot_file)
        return self._hash.digest(), self._proofs

    def arrived(self) -> bool:
        """Tell, once, that the image is there up to its last TLV, or can no longer become one."""
        if self._told or self.off < self._wanted:
            return False
        header = ImageHeader.parse(self.read(0, ImageHeader.SIZE))
        self._wanted = header.hashed_size + TLV_INFO_SIZE
        if self._wanted <= self.off:
            with suppress(ImageInvalid):
                self._wanted = tlv_bounds(self, header).end
        self._told = self._wanted <= self.off
        return self._told

    def alive(self, counter: int) -> bool:
        """Tell whether nobody has ended it: its record still has a name, and the lock was nobody else's."""
        return os.fstat(self.record_file).st_nlink > 0 and self.record.counter == counter

    def close(self) -> None:
        self._open.close()

    def __del__(self) -> None:
        self.close()


class Uploads:
    """The upload session of a store, if there is one; only `sync` may be called from another thread.

    Args:
        store: Where uploads go.
        validate: Refuse what the boot loader would refuse later (`[image] validate_upload`).
        check_address: Refuse what is built for another slot (`[image] check_address`).
        direct: Let uploads name their slot (`[image] direct_upload`).
        boot: Returns the host's boot id.
    """

    def __init__(
        self,
        store: SlotStore,
        *,
        validate: bool = True,
        check_address: bool = True,
        direct: bool = False,
        boot: Callable[[], bytes] = boot_id,
    ) -> None:
        self._store = store
        self._validate = validate
        self._admission = Admission(store, validate=validate, check_address=check_address, direct=direct)
        self._boot = boot
        self._session: _Session | None = None
        self._lock = threading.Lock()  # keeps the session's files open while `sync` takes them

    def inspect(self, chunk: Chunk, counter: int) -> Step:
        """Decide what is to be done with a chunk; nothing is changed.

        Args:
            chunk: The request.
            counter: The DFU lock's counter.

        Raises:
            SlotRefusal: If it is refused; the caller ends the session with `drop`.
            StoreError: If the store cannot be read.
        """
        if chunk.off is None:
            raise SlotRefusal(Fault.NO_OFFSET, "chunk without off")
        session = self._current(counter)
        off = session.off if session else 0
        if chunk.off == 0:
            self._admission.check(chunk)
            if session and chunk.sha and chunk.sha == session.record.sha:
                return Step(proceed=False, off=off)
            return self._admission.place(chunk)
        if session is None or chunk.off != off:
            return Step(proceed=False, off=off)
        if off + len(chunk.data) > session.record.size:
            raise SlotRefusal(Fault.OVERRUN, f"{len(chunk.data)} bytes at {off}, len is {session.record.size}")
        return Step(True, off, session.record.slot, session.record.size, session.record.sha)

    def holds(self, step: Step, data: bytes) -> bool:
        """Tell whether the slot holds just what is about to be uploaded, by its first chunk's data and its SHA-256."""
        if len(step.sha) != hashlib.sha256().digest_size:
            return False
        state, base = hashlib.sha256(), self._store.image_base(step.slot)
        with self._store.reading() as areas:
            if areas[step.slot].read(base, len(data)) != data:
                return False
            for offset in range(0, step.size, _CHUNK):
                state.update(areas[step.slot].read(base + offset, min(_CHUNK, step.size - offset)))
        return state.digest() == step.sha

    def skip(self, step: Step) -> None:
        """End an upload of what the slot holds already: it counts as uploaded all the same."""
        self.drop()
        self._store.renew(step.slot)

    def begin(self, step: Step, owner: str, counter: int) -> None:
        """Open a session for a first chunk: erase the sectors that it needs, and the trailer's.

        Raises:
            StoreError: If the slot cannot be erased.
        """
        self.drop()
        sync_folder(self._store.layout.folder)  # or a power cut would bring the old session back, over the new data
        path = self._store.layout.slot(step.slot)
        trailer, base = self._store.trailer_offset(step.slot), self._store.image_base(step.slot)
        with self._store.writing(step.slot) as area:
            behind = area.sector_offset(area.sector_at(base + step.size - 1) + 1)
            _erase(area, 0, behind)
            _erase(area, max(behind, area.sector_offset(area.sector_at(trailer))), area.size)
        with naming(path):
            inode = path.stat().st_ino
        record = UploadRecord(self._boot(), counter, inode, step.slot, step.size, 0, 0, step.sha, owner_bytes(owner))
        self._session = self._opened(record, os.O_CREAT | os.O_EXCL)

    def write(self, data: bytes) -> Progress:
        """Write the chunk that `inspect` let through.

        Raises:
            StoreError: If it cannot be written; the caller ends the session with `drop`.
        """
        session = self._open_session()
        if session.lost:
            raise StoreError(session.lost)
        size = session.record.size
        try:
            if os.pwrite(session.slot_file, data, session.base + session.off) != len(data):
                raise StoreError(f"{len(data)} bytes at 0x{session.off:x}: written in part; is the disk full?")
            off = session.off = session.off + len(data)
            if off < size:
                write_off(session.record_file, off)
        except OSError as exc:
            raise StoreError(f"{self._store.layout.slot(session.record.slot)}: {exc.strerror}") from exc
        checkable = self._validate and off < size and session.arrived()
        return Progress(off, size, off - session.durable, checkable)

    def sync(self) -> None:
        """Make what is written so far survive a power cut of the host, and hash it; may run beside `write` in a thread.

        Raises:
            StoreError: If the disk reports an error.
        """
        with ExitStack() as opened:
            with self._lock:
                session = self._session
                if session is None or session.complete:  # `finish` syncs and hashes it
                    return
                off, path = session.off, self._store.layout.slot(session.record.slot)
                with naming(path):
                    slot_file = _duplicate(session.slot_file, opened)
                    record_file = _duplicate(session.record_file, opened)
            try:
                with naming(path):
                    os.fdatasync(slot_file)
                    session.durable = max(off, session.durable)
                    write_durable(record_file, session.durable)
                    os.fdatasync(record_file)
                    session.hash_to(off, slot_file)
            except StoreError as exc:
                session.lost = str(exc)
                raise

    def finish(self) -> bool | None:
        """End the session of a complete upload: sync it, and compare it with the `sha` that came with it.

        Returns:
            Whether they match; None if there was no `sha`. A shorter one is compared with the beginning of the hash.

        Raises:
            SlotRefusal: If the boot loader would refuse the image; the slot is erased then. A mismatch is told and not
                refused, as Zephyr does it: the client knows that it has to begin again.
            StoreError: If the disk reports an error, or the slot's file was replaced meanwhile.
        """
        session = self._open_session()
        path, sha = self._store.layout.slot(session.record.slot), session.record.sha
        if session.lost:
            raise StoreError(session.lost)
        with naming(path):
            if not os.fstat(session.slot_file).st_nlink:
                raise StoreError(f"{path}: replaced while it was written to")
            with ThreadPoolExecutor(1) as beside:  # the disk writes what is hashed meanwhile
                synced = beside.submit(os.fdatasync, session.slot_file)
                digest, proofs = session.finish()
                synced.result()
        match = digest.startswith(sha) if sha else None
        if self._validate and match is not False:
            self.check(proofs)
        self.drop()
        sync_folder(self._store.layout.folder)
        return match

    def check(self, proofs: Proofs | None = None) -> None:
        """Check the image that has arrived.

        Args:
            proofs: What is computed of it already; None: nothing.

        Raises:
            SlotRefusal: If the boot loader would refuse it; nothing is left of it then that could be marked.
            StoreError: If the disk reports an error.
        """
        slot = self._open_session().record.slot
        try:
            self._store.check_image(slot, proofs)
        except SlotRefusal:
            self.drop()
            self._store.erase(slot)
            raise

    def drop(self) -> None:
        """End the session, if there is one."""
        self._store.close_uploads()
        self._close()

    def _current(self, counter: int) -> _Session | None:
        """Return the session that is open, perhaps since an earlier process."""
        session = self._session
        if session and (session.complete or not session.alive(counter)):  # complete: `finish` failed
            if os.fstat(session.record_file).st_nlink:  # over, and nobody has removed its file
                self._store.close_uploads()
            self._close()
        if self._session is None:
            self._session = self._found(counter)
        return self._session

    def _found(self, counter: int) -> _Session | None:
        """Return the session that an earlier process left; remove one that is over."""
        layout = self._store.layout
        record = UploadRecord.read(layout.upload)
        if record is None:
            return None
        if record.boot != self._boot():
            record = replace(record, boot=self._boot(), off=record.durable)
        if record.slot not in layout.slots or not 0 < record.off < record.size or record.counter != counter:
            self._store.close_uploads()
            return None
        path = layout.slot(record.slot)
        with naming(path):
            inode = path.stat().st_ino
        if record.inode != inode:
            self._store.close_uploads()
            return None
        return self._opened(record, 0)

    def _opened(self, record: UploadRecord, flags: int) -> _Session:
        """Open a session's files, and put the record into its own."""
        path, upload = self._store.layout.slot(record.slot), self._store.layout.upload
        with ExitStack() as opened:
            with naming(path):
                slot_file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            opened.callback(os.close, slot_file)
            with naming(upload):
                record_file = os.open(upload, os.O_RDWR | os.O_CLOEXEC | flags, 0o644)
                opened.callback(os.close, record_file)
                record.write(record_file)
            return _Session(record, record_file, slot_file, self._store.image_base(record.slot), opened.pop_all())

    def _open_session(self) -> _Session:
        if self._session is None:
            raise StoreError("no upload is going on")
        return self._session

    def _close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session:
            session.close()


def _duplicate(descriptor: int, opened: ExitStack) -> int:
    """Return the same open file once more, to be closed by itself."""
    copy = os.dup(descriptor)
    opened.callback(os.close, copy)
    return copy


def _erase(area: FlashArea, start: int, end: int) -> None:
    """Erase the sectors between two edges, but not what is erased already."""
    for offset in range(start, end, _CHUNK):
        size = min(_CHUNK, end - offset)
        if not area.is_erased(offset, size):
            area.erase(offset, size)

"""The upload session: what is answered, and what is left of it when process, host or others get in between."""

import errno
import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot import proofs
from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.store.admission import Chunk, Step
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.upload import Progress, Uploads
from tests.store.builders import SLOT, flags, hash_of, image, slot_bytes, store

OWNER = "udp:127.0.0.1"
NEW = image((2, 0, 0), bytes(range(256)) * 4)
SHA = hashlib.sha256(NEW).digest()


@contextmanager
def refused(fault: Fault) -> Iterator[None]:
    with pytest.raises(SlotRefusal) as refusal:
        yield
    assert refusal.value.fault is fault


def uploads(of: SlotStore, *, validate: bool = False, host: bytes = bytes(16)) -> Uploads:
    return Uploads(of, validate=validate, boot=lambda: host)


def first(data: bytes = NEW, count: int = 100, sha: bytes = SHA, **others: object) -> Chunk:
    return Chunk(**{"off": 0, "data": data[:count], "size": len(data), "sha": sha} | others)  # type: ignore[arg-type]


def begin(of: Uploads, chunk: Chunk, counter: int = 0) -> Progress:
    of.begin(of.inspect(chunk, counter), OWNER, counter)
    return of.write(chunk.data)


def go_on(of: Uploads, off: int, data: bytes = NEW, count: int = 100) -> Progress:
    assert of.inspect(Chunk(off, data[off : off + count]), 0).proceed
    return of.write(data[off : off + count])


def holds(of: Uploads, chunk: Chunk) -> bool:
    return of.holds(of.inspect(chunk, 0), chunk.data)


def upload(of: Uploads, data: bytes = NEW, sha: bytes = SHA) -> bool | None:
    progress = begin(of, first(data, sha=sha))
    while not progress.complete:
        progress = go_on(of, progress.off, data)
    return of.finish()


def test_an_upload_ends_in_the_slot(tmp_path: Path) -> None:
    assert upload(uploads(store(tmp_path))) is True
    assert slot_bytes(tmp_path, 1) == NEW.ljust(SLOT, b"\xff")
    assert not (tmp_path / "store" / "upload.bin").exists()


@pytest.mark.parametrize(
    ("sha", "match"), [(b"", None), (SHA, True), (SHA[:8], True), (bytes(32), False), (bytes(8), False)]
)
def test_match_compares_with_the_sha_that_was_given(tmp_path: Path, sha: bytes, match: bool | None) -> None:
    assert upload(uploads(store(tmp_path)), sha=sha) is match
    assert flags(store(tmp_path))[1] == ""


def test_a_first_chunk_of_the_same_sha_resumes(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    begin(session, first())
    assert session.inspect(first(count=32, size=999999), 0) == Step(proceed=False, off=100)


@pytest.mark.parametrize("sha", [b"", bytes(32), SHA[:8]])
def test_a_first_chunk_of_another_sha_begins_anew(tmp_path: Path, sha: bytes) -> None:
    session = uploads(store(tmp_path))
    begin(session, first())
    assert session.inspect(first(sha=sha), 0).first
    assert begin(session, first(sha=sha)).off == 100


def test_a_wrong_offset_is_told_the_right_one(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    assert session.inspect(Chunk(50, b"x"), 0) == Step(proceed=False, off=0)
    begin(session, first())
    assert session.inspect(Chunk(50, b"x"), 0) == Step(proceed=False, off=100)


def test_chunks_without_offset_or_past_the_end_are_refused(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    with refused(Fault.NO_OFFSET):
        session.inspect(Chunk(None, b"x"), 0)
    begin(session, first())
    with refused(Fault.OVERRUN):
        session.inspect(Chunk(100, bytes(len(NEW))), 0)


def test_an_upload_cancels_a_schedule_at_once(tmp_path: Path) -> None:
    slots = store(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=True)
    begin(uploads(slots), first())
    assert flags(slots) == {0: "active confirmed"}


def test_only_the_sectors_that_are_needed_are_erased(tmp_path: Path) -> None:
    slots = store(tmp_path)
    slots.load(1, b"\x5a" * SLOT, check=False)
    begin(uploads(slots), first())
    data = slot_bytes(tmp_path, 1)
    assert data[:100] == NEW[:100]
    assert data[100:1536] == b"\xff" * 1436
    assert data[1536 : SLOT - 512] == b"\x5a" * (SLOT - 512 - 1536)
    assert data[SLOT - 512 :] == b"\xff" * 512


def test_an_upload_forgets_a_rollback(tmp_path: Path) -> None:
    slots = store(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    slots.boot()
    assert slots.state().rolled_back
    upload(uploads(slots))
    slots.set_state(hash_of(NEW), confirm=True)
    assert flags(slots)[1] == "pending permanent"


def test_what_is_there_already_is_noticed_by_a_full_sha_only(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    upload(session)
    assert holds(session, first())
    assert not holds(session, first(sha=SHA[:31]))
    assert not holds(session, first(sha=bytes(32)))


def test_what_is_there_already_is_told_by_the_first_chunk_before_anything_is_hashed(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    upload(session)
    other = bytearray(NEW)
    other[50] ^= 1
    assert not holds(session, first(bytes(other), sha=SHA))


def test_a_valid_upload_is_accepted_with_validation(tmp_path: Path) -> None:
    assert upload(uploads(store(tmp_path), validate=True)) is True


def test_an_upload_that_the_boot_loader_would_refuse_is_refused_and_erased(tmp_path: Path) -> None:
    slots = store(tmp_path)
    data = NEW[:-1] + bytes([NEW[-1] ^ 1])
    with refused(Fault.INVALID_IMAGE):
        upload(uploads(slots, validate=True), data, sha=b"")
    assert slot_bytes(tmp_path, 1) == b"\xff" * SLOT


def test_a_mismatch_is_told_rather_than_refused(tmp_path: Path) -> None:
    data = NEW[:-1] + bytes([NEW[-1] ^ 1])
    assert upload(uploads(store(tmp_path), validate=True), data, sha=SHA) is False


def test_a_good_image_under_a_wrong_sha_stays(tmp_path: Path) -> None:
    assert upload(uploads(store(tmp_path), validate=True), NEW, sha=bytes(32)) is False
    assert slot_bytes(tmp_path, 1).startswith(NEW)


@pytest.mark.parametrize("synced", [False, True])
def test_an_image_is_hashed_once_on_its_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool) -> None:
    """With the upload: the boot loader's check of it compares, and still refuses what differs."""
    hashed = list[int]()
    compute = proofs._hash

    def counted(pieces: list[bytes], kind: HashKind) -> bytes:
        hashed.append(sum(map(len, pieces)))
        return compute(pieces, kind)

    monkeypatch.setattr(proofs, "_hash", counted)
    session = uploads(store(tmp_path), validate=True)
    for data in (NEW, NEW[:300] + bytes([NEW[300] ^ 1]) + NEW[301:]):
        progress = begin(session, first(data, sha=b""))
        while not progress.complete:
            progress = go_on(session, progress.off, data)
            if synced:
                session.sync()
        if data == NEW:
            assert session.finish() is None
        else:
            with refused(Fault.INVALID_IMAGE):
                session.finish()
    assert max(hashed) < ImageHeader.parse(NEW).hashed_size  # that was the image that runs, when a slot was looked for


def test_writing_and_finishing_need_a_session(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    with pytest.raises(StoreError, match="no upload"):
        session.write(b"x")
    with pytest.raises(StoreError, match="no upload"):
        session.finish()
    session.sync()


def test_another_counter_ends_the_session(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    begin(session, first())
    assert session.inspect(Chunk(100, b"x"), 1) == Step(proceed=False, off=0)
    assert not (tmp_path / "store" / "upload.bin").exists()


@pytest.mark.parametrize("owner", [OWNER, "ble:other"])
def test_drop_upload_drops_that_owners_session_only(tmp_path: Path, owner: str) -> None:
    slots = store(tmp_path)
    session = uploads(slots)
    begin(session, first())
    slots.drop_upload(owner)
    assert session.inspect(Chunk(100, b"x"), 0) == Step(
        *((False, 0) if owner == OWNER else (True, 100, 1, len(NEW), SHA))
    )
    slots.drop_upload(owner)


def test_a_load_by_another_process_ends_the_session(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    begin(session, first())
    store(tmp_path).load(1, NEW)
    assert session.inspect(Chunk(100, b"x"), 0) == Step(proceed=False, off=0)
    assert slot_bytes(tmp_path, 1) == NEW.ljust(SLOT, b"\xff")


def test_a_boot_that_changes_the_slot_ends_the_session(tmp_path: Path) -> None:
    slots = store(tmp_path)
    session = uploads(slots)
    slots.boot()
    begin(session, first())
    slots.boot()
    assert session.inspect(Chunk(100, b"x"), 0).proceed
    with (tmp_path / "store" / "slot1.bin").open("r+b") as file:  # a mark on half an image: the boot loader erases it
        file.seek(SLOT - 16)
        file.write(bytes.fromhex("77c295f360d2ef7f3552500f2cb67980"))
    slots.boot()
    assert session.inspect(Chunk(100, b"x"), 0) == Step(proceed=False, off=0)


def test_a_replaced_slot_ends_the_session_of_an_earlier_process(tmp_path: Path) -> None:
    begin(uploads(store(tmp_path)), first())
    path = tmp_path / "store" / "slot1.bin"
    path.with_name("copy").write_bytes(path.read_bytes())
    path.with_name("copy").replace(path)
    assert uploads(store(tmp_path)).inspect(Chunk(100, b"x"), 0) == Step(proceed=False, off=0)


def test_a_slot_that_somebody_replaces_by_hand_fails_the_upload(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    progress = begin(session, first())
    path = tmp_path / "store" / "slot1.bin"
    path.with_name("copy").write_bytes(path.read_bytes())
    path.with_name("copy").replace(path)
    while not progress.complete:
        progress = go_on(session, progress.off)
    with pytest.raises(StoreError, match=r"slot1\.bin: replaced while it was written to"):
        session.finish()


def test_a_slot_that_is_gone_is_told(tmp_path: Path) -> None:
    begin(uploads(store(tmp_path)), first())
    slots = store(tmp_path)
    (tmp_path / "store" / "slot1.bin").unlink()
    with pytest.raises(StoreError, match=r"slot1\.bin: No such file"):
        uploads(slots).inspect(Chunk(100, b"x"), 0)


def test_a_session_of_a_slot_that_the_store_no_longer_has_is_over(tmp_path: Path) -> None:
    begin(uploads(store(tmp_path, bootloader={"images": 2})), first(image=1))
    slots = store(tmp_path)
    assert uploads(slots).inspect(Chunk(100, b"x"), 0) == Step(proceed=False, off=0)
    assert begin(uploads(slots), first()).off == 100


def test_a_complete_upload_that_nobody_finished_is_begun_again(tmp_path: Path) -> None:
    """A resumed one would be told to be complete, and never be checked."""
    session = uploads(store(tmp_path), validate=True)
    progress = begin(session, first())
    while not progress.complete:
        progress = go_on(session, progress.off)
    session.sync()
    for again in (session, uploads(store(tmp_path)), uploads(store(tmp_path), host=b"another boot....")):
        assert again.inspect(first(), 0).proceed


@pytest.mark.parametrize("complete", [False, True])
def test_bytes_that_the_disk_lost_fail_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    """The kernel tells it once: whoever syncs next is told that all is well."""
    session = uploads(store(tmp_path))
    progress = begin(session, first())

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    while complete and progress.off + 100 < len(NEW):
        progress = go_on(session, progress.off)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match=r"slot1\.bin: Input/output error"):
            session.sync()
    with pytest.raises(StoreError, match=r"slot1\.bin: Input/output error"):
        go_on(session, progress.off)
    with pytest.raises(StoreError, match=r"slot1\.bin: Input/output error"):
        session.finish()


def test_syncing_without_a_descriptor_left_loses_nothing(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    progress = begin(session, first())
    free, (soft, hard) = os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free)
    for more in (0, 1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
        try:
            with pytest.raises(StoreError, match="Too many open files"):
                session.sync()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    after = os.dup(0)
    os.close(after)
    assert after == free
    while not progress.complete:
        progress = go_on(session, progress.off)
    assert session.finish() is True


def test_a_damaged_record_is_no_session(tmp_path: Path) -> None:
    begin(uploads(store(tmp_path)), first())
    (tmp_path / "store" / "upload.bin").write_bytes(b"damaged")
    session = uploads(store(tmp_path))
    assert session.inspect(Chunk(100, b"x"), 0) == Step(proceed=False, off=0)
    assert begin(session, first()).off == 100


def test_a_disk_error_is_a_store_error(tmp_path: Path) -> None:
    slots = store(tmp_path)
    session = uploads(slots)
    step = session.inspect(first(), 0)
    (tmp_path / "store" / "upload.bin").mkdir()
    with pytest.raises(StoreError, match="upload"):
        session.begin(step, OWNER, 0)


def test_an_image_is_checked_when_it_has_arrived_and_not_only_at_the_end(tmp_path: Path) -> None:
    slots, padded = store(tmp_path), NEW.ljust(SLOT, b"\xff")
    session = uploads(slots, validate=True)
    progress = [begin(session, first(padded))]
    while not progress[-1].complete:
        progress.append(go_on(session, progress[-1].off, padded))
    assert [each.off for each in progress if each.checkable] == [-(-len(NEW) // 100) * 100]
    assert session.finish() is False  # the sha is not that of the padded file


def test_an_image_that_is_refused_on_arrival_leaves_nothing(tmp_path: Path) -> None:
    slots = store(tmp_path)
    broken = (NEW[:-1] + bytes([NEW[-1] ^ 1])).ljust(SLOT, b"\xff")
    session = uploads(slots, validate=True)
    begin(session, first(broken))
    assert go_on(session, 100, broken, 2000).checkable
    with refused(Fault.INVALID_IMAGE):
        session.check()
    assert slot_bytes(tmp_path, 1) == b"\xff" * SLOT
    assert session.inspect(Chunk(2100, b"x"), 0).off == 0


def test_an_image_without_tlvs_is_checked_as_soon_as_that_is_clear(tmp_path: Path) -> None:
    data = bytearray(NEW.ljust(SLOT, b"\xff"))
    end = len(NEW) - 40
    data[end : end + 2] = b"no"
    session = uploads(store(tmp_path), validate=True)
    begin(session, first(bytes(data)))
    assert not go_on(session, 100, bytes(data), end - 100).checkable
    assert go_on(session, end, bytes(data), 100).checkable
    with refused(Fault.NO_TLVS):
        session.check()


class UploadMachine(RuleBasedStateMachine):
    """Whatever gets in between, offsets are what a client was told, and a finished upload is what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.host = 0
        self.counter = 0
        self.off = self.durable = 0
        self.data = b""
        self.sha = b""

    @initialize()
    def start(self) -> None:
        self.slots = store(Path(self.folder.name))
        self.open()

    def open(self) -> None:
        self.slots = store(Path(self.folder.name))
        self.uploads = uploads(self.slots, host=self.host.to_bytes(16, "big"))

    def teardown(self) -> None:
        self.uploads.drop()
        self.folder.cleanup()

    @rule(seed=st.integers(0, 3), size=st.integers(32, 90), with_sha=st.booleans())
    def begin(self, seed: int, size: int, with_sha: bool) -> None:
        data = image((seed, 0, 0), bytes([seed]) * 300)
        sha = hashlib.sha256(data).digest() if with_sha else b""
        step = self.uploads.inspect(first(data, size, sha), self.counter)
        if self.off and sha and sha == self.sha:
            assert step == Step(proceed=False, off=self.off)
            return
        self.uploads.begin(step, OWNER, self.counter)
        assert self.uploads.write(data[:size]).off == size
        self.data, self.sha, self.off, self.durable = data, sha, size, 0

    @precondition(lambda self: self.off)
    @rule(size=st.integers(1, 90))
    def go_on(self, size: int) -> None:
        part = self.data[self.off : self.off + size]
        assert self.uploads.inspect(Chunk(self.off, part), self.counter).proceed
        progress = self.uploads.write(part)
        self.off += len(part)
        assert (progress.off, progress.unsynced) == (self.off, self.off - self.durable)
        if progress.complete:
            assert self.uploads.finish() is (True if self.sha else None)
            assert self.slot().startswith(self.data)
            self.off = 0

    @precondition(lambda self: self.off)
    @rule()
    def sync(self) -> None:
        self.uploads.inspect(Chunk(1), self.counter)  # as after a restart: the first request finds the session
        self.uploads.sync()
        self.durable = self.off

    @rule()
    def kill_the_process(self) -> None:
        self.open()

    @rule(garbage=st.integers(0, 255))
    def cut_the_hosts_power(self, garbage: int) -> None:
        if self.off:  # what was not synced is not on the disk
            with (Path(self.folder.name) / "store" / "slot1.bin").open("r+b") as file:
                file.seek(self.durable)
                file.write(bytes([garbage]) * (self.off - self.durable))
        self.off = self.durable if self.off else 0
        self.host += 1
        self.open()

    @rule()
    def lose_the_lock(self) -> None:
        self.counter += 1
        self.off = 0

    @rule(process=st.booleans())
    def erase(self, process: bool) -> None:
        (store(Path(self.folder.name)) if process else self.slots).erase(1)
        self.off = 0

    def slot(self) -> bytes:
        return slot_bytes(Path(self.folder.name), 1)

    @invariant()
    def a_wrong_offset_is_told_the_right_one(self) -> None:
        assert self.uploads.inspect(Chunk(0xFFFFFF, b""), self.counter).off == self.off
        assert self.slot()[: self.off] == self.data[: self.off]


UploadMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestUploadMachine = UploadMachine.TestCase


def test_syncing_beside_the_end_of_a_session_touches_no_other(tmp_path: Path) -> None:
    session = uploads(store(tmp_path))
    begin(session, first())
    session.sync()
    record = (tmp_path / "store" / "upload.bin").read_bytes()
    session.drop()
    session.sync()
    assert record
    assert not os.path.exists(tmp_path / "store" / "upload.bin")

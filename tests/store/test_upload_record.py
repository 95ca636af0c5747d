from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.store.upload_record import UploadRecord, boot_id

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
records = st.builds(
    UploadRecord,
    boot=st.binary(min_size=16, max_size=16),
    counter=u64,
    inode=u64,
    slot=u32,
    size=u32,
    off=u32,
    durable=u32,
    sha=st.binary(max_size=32),
    owner=st.binary(max_size=200),
)


@given(records)
def test_unpack_returns_what_was_packed(record: UploadRecord) -> None:
    """A record survives its file."""
    assert len(record.pack()) == UploadRecord.SIZE <= 512
    assert UploadRecord.unpack(record.pack()) == record


@given(records, st.integers(0, UploadRecord.SIZE - 1), st.integers(1, 255))
def test_a_torn_record_is_none(record: UploadRecord, where: int, change: int) -> None:
    """Any byte that is not as it was written is noticed, and so is a short file."""
    data = bytearray(record.pack())
    data[where] ^= change
    assert UploadRecord.unpack(bytes(data)) is None
    assert UploadRecord.unpack(record.pack()[:where]) is None


def test_a_missing_file_holds_no_record(tmp_path: Path) -> None:
    assert UploadRecord.read(tmp_path / "upload.bin") is None


def test_owners_are_compared_as_they_are_kept() -> None:
    record = UploadRecord(bytes(16), 0, 0, 1, 1, 1, 0, b"", b"serial:" + b"x" * 193)
    assert record.owned_by("serial:" + "x" * 300)
    assert not record.owned_by("serial:y")


def test_the_host_has_a_boot_id() -> None:
    assert len(boot_id()) == 16
    assert boot_id() == boot_id()

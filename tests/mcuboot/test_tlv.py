from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageInvalid, ImageVersion
from smp_dfu_host.mcuboot.tlv import INFO_MAGIC, PROTECTED_INFO_MAGIC, TlvType, read_tlvs
from tests.mcuboot.images import tlv_area

entries = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=80)), max_size=6)


def header(protected: int = 0, payload: int = 16) -> ImageHeader:
    return ImageHeader(IMAGE_MAGIC, 0, 32, protected, payload, 0, ImageVersion(1, 0, 0))


def source(*areas: bytes) -> MemoryStorage:
    return MemoryStorage(bytes(48) + b"".join(areas))


@given(entries, entries, st.binary(max_size=20))
def test_entries_come_back_in_order(
    protected: list[tuple[int, bytes]], others: list[tuple[int, bytes]], rest: bytes
) -> None:
    """Whatever was put into the areas comes out, with the place where it was."""
    first = tlv_area(protected, PROTECTED_INFO_MAGIC) if protected else b""
    second = tlv_area(others)
    data = source(first, second, rest)
    found = read_tlvs(data, header(len(first)))
    assert [(entry.type, entry.data) for entry in found.entries] == protected + others
    assert [entry.protected for entry in found.entries] == [True] * len(protected) + [False] * len(others)
    assert all(data.read(entry.offset, len(entry.data)) == entry.data for entry in found.entries)
    assert found.end == 48 + len(first) + len(second)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_garbage_is_refused_as_an_image(data: bytes, protected: int) -> None:
    """No bytes make the reader fail in any other way."""
    with suppress(ImageInvalid):
        read_tlvs(source(data), header(protected))


def test_entries_have_names() -> None:
    found = read_tlvs(source(tlv_area([(0x10, bytes(32)), (0xA0, b"")])), header())
    assert [entry.name for entry in found.entries] == ["SHA256", "0x00a0"]
    assert [entry.type for entry in found.find(TlvType.SHA256)] == [0x10]


def test_base_moves_the_image_within_the_area() -> None:
    data = MemoryStorage(bytes(100) + bytes(48) + tlv_area([(1, b"x")]))
    found = read_tlvs(data, header(), base=100)
    assert (found.end, found.entries[0].offset) == (48 + 9, 48 + 8)


def test_protected_entries_alone_do_not_look_at_the_others() -> None:
    first = tlv_area([(0x40, bytes(12))], PROTECTED_INFO_MAGIC)
    broken = INFO_MAGIC.to_bytes(2, "little") + b"\x08\x00" + b"\x10\x00\x20\x00"
    data = source(first, broken)
    assert len(read_tlvs(data, header(len(first)), protected_only=True).entries) == 1
    with pytest.raises(ImageInvalid, match="TLV 0x0010 of 32 bytes"):
        read_tlvs(data, header(len(first)))


@pytest.mark.parametrize(
    ("data", "protected", "reason"),
    [
        (b"", 0, "passes the end"),
        (b"\x07\x69", 0, "passes the end"),
        (b"\x00\x00\x04\x00", 0, "no TLV area at 0x30: magic is 0x0000, not 0x6907"),
        (b"\x08\x69\x04\x00" + b"\x07\x69\x04\x00", 8, "protected TLV area of 4 bytes, header says 8"),
        (b"\x07\x69\x04\x00", 8, "no protected TLV area at 0x30, header says 8 bytes"),
        (b"\x08\x69\x04\x00" + b"\x08\x69\x04\x00", 4, "no TLV area at 0x34"),
        (b"\x07\x69\x06\x00" + b"\x10\x00", 0, "TLV at 0x34: the TLV area ends at 0x36"),
        (b"\x07\x69\x09\x00" + b"\x10\x00\x02\x00x", 0, "TLV 0x0010 of 2 bytes at 0x38: the TLV area ends at 0x39"),
    ],
)
def test_broken_area_is_refused_with_the_reason(data: bytes, protected: int, reason: str) -> None:
    with pytest.raises(ImageInvalid, match=reason):
        read_tlvs(source(data), header(protected))

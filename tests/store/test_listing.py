from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.store.listing import BootType, NextBoot, next_boot, read_listed, view
from tests.store.builders import hash_of, image, tlv

HASH = tlv(0x10, bytes(range(32)))


def slot(data: bytes) -> MemoryStorage:
    return MemoryStorage(data.ljust(1024, b"\xff"))


def with_tlvs(entries: bytes, *, total: int | None = None, protected: bytes = b"", protect_tlv_size: int = 0) -> bytes:
    header = ImageHeader(0x96F3B83D, 0, 32, protect_tlv_size, 4, 0, ImageVersion(1, 2, 3))
    return (
        header.pack()
        + b"data"
        + protected
        + pack("<HH", 0x6907, 4 + len(entries) if total is None else total)
        + entries
    )


def test_an_image_is_listed_by_the_hash_in_its_tlvs() -> None:
    data = image((1, 2, 3, 4))
    listed = read_listed(slot(data))
    assert listed is not None
    assert (listed.hash, str(listed.header.version)) == (hash_of(data), "1.2.3.4")


def test_a_hash_that_is_not_right_is_listed_all_the_same() -> None:
    listed = read_listed(slot(with_tlvs(HASH)))
    assert listed is not None
    assert listed.hash == bytes(range(32))


def test_a_protected_area_is_passed_over_even_if_the_header_does_not_know_it() -> None:
    entry = tlv(0x50, bytes(4))
    data = with_tlvs(HASH, protected=pack("<HH", 0x6908, 4 + len(entry)) + entry)
    assert read_listed(slot(data)) is not None


def test_an_entry_that_passes_the_end_hides_nothing_before_it() -> None:
    data = with_tlvs(HASH + pack("<HH", 0xA0, 500))
    assert read_listed(slot(data)) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(64),
        with_tlvs(b""),
        with_tlvs(HASH + HASH),
        with_tlvs(tlv(0x10, bytes(16))),
        with_tlvs(HASH, total=20),
        with_tlvs(HASH).replace(b"\x07\x69", b"\x07\x70"),
        with_tlvs(HASH)[:36],
        ImageHeader(0x96F3B83D, 0, 32, 0, 0xFFFFFF, 0, ImageVersion(1, 2, 3)).pack(),
    ],
    ids=["erased", "zeros", "no hash", "two hashes", "short hash", "cut hash", "no magic", "no TLVs", "huge"],
)
def test_what_does_not_read_as_an_image_is_not_listed(data: bytes) -> None:
    assert read_listed(slot(data)) is None


@given(st.binary(max_size=400))
def test_any_bytes_can_be_looked_at(tail: bytes) -> None:
    """Whatever is behind a header, there is an answer and no error."""
    header = ImageHeader(0x96F3B83D, 0, 32, 0, 0, 0, ImageVersion(0, 0, 0))
    read_listed(slot(header.pack() + tail))


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        (SwapType.NONE, NextBoot(BootType.NORMAL, 0)),
        (SwapType.TEST, NextBoot(BootType.TEST, 1)),
        (SwapType.PERM, NextBoot(BootType.NORMAL, 1)),
        (SwapType.REVERT, NextBoot(BootType.REVERT, 1)),
        (SwapType.FAIL, NextBoot(BootType.NORMAL, 0)),
    ],
)
def test_next_boot_is_the_swap_type_in_other_words(kind: SwapType, plan: NextBoot) -> None:
    assert next_boot(kind, 0, 1) == plan


@pytest.mark.parametrize(
    ("plan", "running", "other"),
    [
        (NextBoot(BootType.NORMAL, 0), "active confirmed", ""),
        (NextBoot(BootType.NORMAL, 1), "active confirmed", "pending permanent"),
        (NextBoot(BootType.TEST, 1), "active confirmed", "pending"),
        (NextBoot(BootType.REVERT, 1), "active", "confirmed"),
    ],
)
def test_flags_are_zephyrs(plan: NextBoot, running: str, other: str) -> None:
    listed = read_listed(slot(image()))
    assert listed is not None
    found = []
    for number in (0, 1):
        entry = view(0, number, 1024, listed, 0, plan)
        names = ("active", "confirmed", "pending", "permanent")
        found.append(" ".join(name for name in names if getattr(entry, name)))
    assert found == [running, other]


def test_an_image_flagged_so_is_not_bootable() -> None:
    listed = read_listed(slot(image(flags=0x10)))
    assert listed is not None
    assert not view(0, 1, 1024, listed, 0, NextBoot(BootType.NORMAL, 0)).bootable

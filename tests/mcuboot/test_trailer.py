from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.flash import FlashMeter
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType, TrailerState
from smp_dfu_host.mcuboot.trailer import Trailer, TrailerRules
from tests.mcuboot.images import make_area

RULES = TrailerRules(max_sectors=16)


def trailer(rules: TrailerRules = RULES, *, align: int = 8, erased: int = 0xFF) -> Trailer:
    return Trailer(make_area(align=align, erased=erased), rules)


@pytest.mark.parametrize(
    ("max_align", "offsets"),
    [(8, (-16, -24, -32, -40, -48)), (16, (-16, -32, -48, -64, -80)), (32, (-16, -64, -96, -128, -160))],
)
def test_fields_lie_where_mcuboot_has_them(max_align: int, offsets: tuple[int, ...]) -> None:
    """mcuboot-slots.md section 4."""
    at = TrailerRules(max_align).layout(32768, 8)
    assert (at.magic, at.image_ok, at.copy_done, at.swap_info, at.swap_size) == tuple(32768 + o for o in offsets)


def test_offset_mode_and_encryption_have_more_fields() -> None:
    at = TrailerRules(16, tlv_sizes=True, key_size=16).layout(4096, 16)
    assert (at.tlv_sizes, at.swap_size, at.keys) == (4096 - 80, 4096 - 96, (4096 - 112, 4096 - 128))
    assert TrailerRules(tlv_sizes=True, states=2).trailer_size(8) == 2104
    with pytest.raises(ValueError, match="no sizes"):
        trailer().tlv_sizes()


@pytest.mark.parametrize(("write", "rules", "size"), [(8, (8, 128), 3120), (1, (8, 16), 96), (32, (32, 128), 12448)])
def test_trailer_has_the_size_that_mcuboot_says(write: int, rules: tuple[int, int], size: int) -> None:
    assert TrailerRules(*rules).trailer_size(write) == size
    assert TrailerRules(*rules).layout(1 << 16, write).status == (1 << 16) - size


def test_scratch_area_has_the_status_of_one_sector() -> None:
    assert RULES.layout(4096, 8, scratch=True).status == 4096 - 48 - 24


@pytest.mark.parametrize("erased", [0xFF, 0x00])
@pytest.mark.parametrize(("align", "max_align"), [(1, 8), (8, 8), (16, 16), (4, 16), (8, 32)])
def test_what_is_written_is_read_back(align: int, max_align: int, erased: int) -> None:
    one = trailer(TrailerRules(max_align, 16, tlv_sizes=True), align=align, erased=erased)
    assert one.state() == TrailerState()
    assert one.swap_info() == (SwapType.NONE, 0)
    one.write_swap_info(SwapType.PERM, 2)
    one.write_copy_done()
    one.write_image_ok()
    one.write_swap_size(0x12345)
    one.write_tlv_sizes(0x123, 0x456)
    one.write_magic()
    assert one.state() == TrailerState(Magic.GOOD, SwapType.PERM, 2, Flag.SET, Flag.SET)
    assert (one.swap_info(), one.swap_size(), one.tlv_sizes()) == ((3, 2), 0x12345, (0x123, 0x456))
    assert (one.area.meter.misaligned, one.area.meter.writes_to_nonerased) == (0, 0)


def test_garbage_reads_as_bad() -> None:
    one = trailer()
    one.area.load(one.layout.status, b"\x55" * RULES.trailer_size(8))
    assert one.state() == TrailerState(Magic.BAD, SwapType.NONE, 0, Flag.BAD, Flag.BAD)
    assert one.swap_info() == (5, 5)


def test_swap_info_with_type_0_reads_as_none() -> None:
    one = trailer()
    one.write_swap_info(0, 3)
    assert (one.state().swap_type, one.swap_info()) == (SwapType.NONE, (0, 3))


def test_magic_of_another_alignment_is_bad() -> None:
    one = trailer()
    one.area.load(one.layout.magic, TrailerRules(16).magic)
    assert one.state().magic is Magic.BAD


def test_status_steps_lie_one_write_apart() -> None:
    one = trailer(align=4)
    one.write_status(0, 4, 1)
    one.write_status(2, 4, 2)
    assert one.status(4, 4) == b"\x01\xff\x02\xff"
    assert one.area.read(one.layout.status, 12) == bytes.fromhex("01ffffff ffffffff 02ffffff")


def test_fields_cover_the_trailer_for_pictures() -> None:
    one = trailer(TrailerRules(8, 16, tlv_sizes=True, key_size=16))
    one.write_image_ok()
    fields = one.fields()
    names = ["status", "key 1", "key 0", "swap_size", "tlv_sizes", "swap_info", "copy_done", "image_ok", "magic"]
    assert [field.name for field in fields] == names
    assert all(one.offset + one.size == other.offset for one, other in pairwise(fields))
    assert (fields[0].offset, fields[-1].offset + 16) == (one.layout.status, one.area.size)
    assert [field.name for field in fields if field.written] == ["image_ok"]


def test_trailer_larger_than_its_area_can_be_looked_at() -> None:
    one = Trailer(make_area(sectors=(1024,)), TrailerRules())
    assert one.layout.status < 0
    assert one.fields()[0].offset == 0


def test_writes_of_the_magic_fill_its_cell() -> None:
    seen: list[tuple[int, bytes]] = []
    meter = FlashMeter(trace=lambda kind, name, offset, size, data: seen.append((offset, data)))
    one = Trailer(make_area(meter=meter, align=32), TrailerRules(32, 16))
    one.write_magic()
    assert seen == [(0x7FE0, b"\xff" * 16 + bytes.fromhex("20002de15d29410b8d77679c110f1f8a"))]


@given(st.binary(min_size=48, max_size=48))
def test_any_trailer_can_be_decoded(data: bytes) -> None:
    """No bytes make the decoder fail."""
    one = trailer()
    one.area.load(one.area.size - 48, data)
    one.state()
    one.swap_info()
    one.swap_size()

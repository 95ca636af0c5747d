"""What lies where in a slot."""

import hashlib
import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.config import BootloaderConfig, Config, FlashConfig
from smp_dfu_host.mcuboot.flash import FlashArea, MemoryStorage
from smp_dfu_host.mcuboot.image import ImageHeader, ImageVersion
from smp_dfu_host.store.factory import make_image
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.survey import (
    Part,
    Segment,
    image_segments,
    present_images,
    survey,
    survey_scratch,
    survey_slots,
)
from tests.store.builders import FLASH
from tests.store.builders import store as scratch_store

SECTOR, SECTORS = 4096, 8
SIZE = SECTOR * SECTORS
TRAILER = SIZE - 48
STATUS = TRAILER - 384


def slot(data: bytes = b"", erased: int = 0xFF) -> FlashArea:
    filled = data.ljust(SIZE, bytes([erased]))
    return FlashArea("slot", MemoryStorage(filled), (SECTOR,) * SECTORS, 8, erased)


def parts(segments: tuple[Segment, ...]) -> list[Part]:
    return [segment.part for segment in segments]


def test_erased_slot_is_free_but_for_its_trailer() -> None:
    assert survey(slot(), STATUS, TRAILER) == (
        Segment(Part.FREE, 0, STATUS),
        Segment(Part.STATUS, STATUS, 384),
        Segment(Part.TRAILER, TRAILER, 48),
    )


def test_image_is_shown_with_header_and_tlvs() -> None:
    image = make_image(ImageVersion(1, 2, 3), bytes(5000))
    found = survey(slot(image), STATUS, TRAILER)
    assert parts(found) == [Part.HEADER, Part.IMAGE, Part.TLVS, Part.FREE, Part.STATUS, Part.TRAILER]
    assert found[1] == Segment(Part.IMAGE, 32, 5000)
    assert found[2].end == len(image)


def test_erased_value_zero_is_free() -> None:
    assert parts(survey(slot(make_image(), erased=0), STATUS, TRAILER))[3] is Part.FREE


def test_leftovers_behind_the_image_are_data() -> None:
    data = bytearray(make_image().ljust(SIZE, b"\xff"))
    data[2 * SECTOR] = 1
    found = survey(slot(bytes(data)), STATUS, TRAILER)
    assert Segment(Part.DATA, 2 * SECTOR, SECTOR) in found
    assert parts(found)[3:6] == [Part.FREE, Part.DATA, Part.FREE]


def test_without_a_header_everything_is_data_or_free() -> None:
    found = survey(slot(b"\x00" * (SECTOR + 1)), STATUS, TRAILER)
    assert found[0] == Segment(Part.DATA, 0, 2 * SECTOR)
    assert found[1].part is Part.FREE


def test_image_may_cover_the_status_of_a_mode_that_swaps_nothing() -> None:
    image = make_image(payload=bytes(STATUS))
    assert Part.STATUS not in parts(survey(slot(image), TRAILER, TRAILER))
    assert survey(slot(image), STATUS, TRAILER)[-2] == Segment(Part.STATUS, len(image), TRAILER - len(image))


def test_image_longer_than_its_slot_is_cut_off_at_the_trailer() -> None:
    header = ImageHeader.parse(make_image())
    long = ImageHeader(header.magic, 0, 32, 0, 1 << 30, 0, header.version).pack()
    assert parts(survey(slot(long.ljust(SIZE, b"\x00")), STATUS, TRAILER)) == [Part.HEADER, Part.IMAGE, Part.TRAILER]


def test_header_size_out_of_range_is_no_image() -> None:
    header = ImageHeader.parse(make_image())
    for size in (0, 31, 0xFFFF):
        wrong = ImageHeader(header.magic, 0, size, 0, 100, 0, header.version).pack()
        assert image_segments(MemoryStorage(wrong.ljust(SIZE, b"\xff")), TRAILER) == ()


def test_too_few_bytes_are_no_image() -> None:
    assert image_segments(MemoryStorage(b"\x3d\xb8\xf3\x96"), 4) == ()


def test_broken_tlvs_are_left_out() -> None:
    image = make_image()[:-40] + bytes(40)  # TLV info and all
    assert parts(image_segments(MemoryStorage(image), len(image))) == [Part.HEADER, Part.IMAGE]


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, SIZE - 200))
def test_segments_cover_the_slot_without_gaps(head: bytes, other: bytes, where: int) -> None:
    """Whatever is in the flash, the segments follow each other from 0 to the end, and no two neighbours are alike."""
    data = bytearray(make_image(payload=head).ljust(SIZE, b"\xff"))
    data[where : where + len(other)] = other
    found = survey(slot(bytes(data)), STATUS, TRAILER)
    assert found[0].offset == 0
    assert found[-1].end == SIZE
    assert all(first.end == second.offset for first, second in itertools.pairwise(found))
    assert all(first.part is not second.part for first, second in itertools.pairwise(found))
    assert all(segment.size > 0 for segment in found)


def test_erased_part_of_an_image_without_tlvs_is_free() -> None:
    image = make_image(payload=bytes(3 * SECTOR))
    found = survey(slot(image[: SECTOR + 100]), STATUS, TRAILER)
    assert parts(found) == [Part.HEADER, Part.IMAGE, Part.FREE, Part.STATUS, Part.TRAILER]
    assert found[1].end == 2 * SECTOR


def test_header_alone_is_drawn_alone() -> None:
    image = make_image(payload=b"")
    assert parts(survey(slot(image), STATUS, TRAILER))[:3] == [Part.HEADER, Part.TLVS, Part.FREE]
    assert parts(survey(slot(image[:32]), STATUS, TRAILER))[:2] == [Part.HEADER, Part.FREE]


def store(tmp_path: Path, mode: str = "swap-using-move") -> SlotStore:
    flash = FlashConfig(sectors=8, max_sectors=16)
    return SlotStore(Config(store=tmp_path, flash=flash, bootloader=BootloaderConfig(mode=mode)))


def test_survey_of_a_new_store(tmp_path: Path) -> None:
    first, second = survey_slots(store(tmp_path))
    assert first.found.valid
    assert first.view is not None
    assert (second.view, second.found.header, second.address) == (None, None, 0xC000 + SIZE)
    assert first.segments[-1].size == 48
    assert first.segments[-2].size == 16 * 3 * 8


def test_direct_xip_has_no_status(tmp_path: Path) -> None:
    first, _second = survey_slots(store(tmp_path, "direct-xip"))
    assert Part.STATUS not in parts(first.segments)
    assert first.segments[-1].size == 40


def test_slot_smaller_than_its_trailer_is_for_modes_without_steps(tmp_path: Path) -> None:
    flash, build = FlashConfig(sectors=2, sector_size=1024), BootloaderConfig(mode="direct-xip")
    made = SlotStore(Config(store=tmp_path, flash=flash, bootloader=build))
    assert [each.steps for each in survey_slots(made)] == [0, 0]


def test_offset_mode_shows_the_image_where_it_is(tmp_path: Path) -> None:
    """An update lies one sector into slot 1, an image that was swapped out at its start."""
    made = store(tmp_path, "swap-using-offset")
    image = make_image(ImageVersion(2, 0, 0), bytes(5000))
    made.load(1, image)
    segments = survey_slots(made)[1].segments
    assert [(each.part, each.offset) for each in segments[:2]] == [(Part.FREE, 0), (Part.HEADER, SECTOR)]
    assert survey_slots(made)[1].found.valid
    made.set_state(hashlib.sha256(image[:5032]).digest(), confirm=False)
    made.boot()
    old = survey_slots(made)[1]
    assert (old.segments[0].part, old.segments[0].offset, old.found.valid) == (Part.HEADER, 0, True)
    assert [listed and str(listed.header.version) for listed in present_images(made)] == ["2.0.0", "0.0.0"]


def test_scratch_area_has_a_trailer_only_while_a_swap_is_noted_there(tmp_path: Path) -> None:
    """Else what lies there is left of images, whatever it looks like."""
    slots = scratch_store(tmp_path, flash=FLASH, bootloader={"mode": "swap-using-scratch"})
    found = survey_scratch(slots)
    assert found is not None
    assert parts(found.segments) == [Part.FREE]
    with slots.reading() as areas:
        noted = areas.scratch and slots.bootloader(areas).scratch_trailer()
        assert noted
        magic, at = noted.rules.magic, noted.layout.magic
    file = slots.layout.slot(2)
    file.write_bytes(file.read_bytes()[:at] + magic)
    noting = survey_scratch(slots)
    assert noting is not None
    assert parts(noting.segments) == [Part.FREE, Part.STATUS, Part.TRAILER]
    assert survey_scratch(scratch_store(tmp_path / "other", flash=FLASH)) is None

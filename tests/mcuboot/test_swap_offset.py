"""Swap using offset: what the recordings (tests/conformance) do not cover, and properties."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from tests.mcuboot.images import contents, make_image, make_pair

OLD, NEW = make_image((1, 0, 0, 0), b"old" * 900), make_image((2, 0, 0, 0), b"new" * 3000)
SECTOR = 4096


def flashed(old: bytes = OLD, new: bytes = NEW, *, at: int = SECTOR, more: tuple[int, ...] | None = None) -> SlotPair:
    pair = make_pair(old, more=more)
    pair.secondary.load(at, new)
    return pair


def loader(pair: SlotPair) -> Bootloader:
    return Bootloader(BootOptions(Mode.SWAP_USING_OFFSET, max_sectors=16), [pair])


def test_update_comes_from_the_second_sector_and_goes_back_there() -> None:
    pair = flashed()
    boot = loader(pair)
    boot.set_pending(0, permanent=False)
    assert boot.boot().swap_type_done == (SwapType.TEST,)
    first, second = contents(pair)
    assert first.startswith(NEW)
    assert second.startswith(OLD)
    assert boot.boot().swap_type_done == (SwapType.REVERT,)
    first, second = contents(pair)
    assert first.startswith(OLD)
    assert second[:SECTOR] == b"\xff" * SECTOR
    assert second[SECTOR:].startswith(NEW)


def test_update_in_the_first_sector_is_erased() -> None:
    pair = flashed(at=0)
    boot = loader(pair)
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert any("it lies in the first sector, an update belongs into the second" in action for action in result.actions)
    assert contents(pair)[1] == b"\xff" * 0x8000


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2), st.lists(st.integers(1, 55), max_size=4))
def test_any_number_of_cuts_ends_with_both_images_whole(boots: int, cuts: list[int]) -> None:
    """However often the power fails in a test or its revert, both images are whole in the end."""
    pair = flashed()
    boot, meter = loader(pair), pair.primary.meter
    boot.set_pending(0, permanent=False)
    for _ in range(boots - 1):
        boot.boot()
    for cut in cuts:
        meter.ops, meter.cut_before = 0, cut
        with suppress(PowerCut):
            boot.boot()
    meter.cut_before = None
    assert boot.boot().ok
    first, second = contents(pair)
    back = first.startswith(OLD) and second[SECTOR:].startswith(NEW)
    assert back != (first.startswith(NEW) and second.startswith(OLD))


def test_image_of_slot_0_that_leaves_no_room_is_not_swapped() -> None:
    pair = flashed(make_image((1, 0, 0, 0), bytes(30000)))
    boot = Bootloader(BootOptions(Mode.SWAP_USING_OFFSET, max_sectors=16, validate_primary=False), [pair])
    boot.set_pending(0, permanent=False)
    result = boot.boot()
    assert "nothing is swapped: 8 sectors are wanted, 7 are free" in result.actions


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ((4096,) * 9, ""),
        ((4096,) * 7, "slot 0 has 8 sectors, slot 1 has 7"),
        ((4096,) * 10, "slot 0 has 8 sectors, slot 1 has 10"),
        ((4096,) * 4 + (8192,) * 4, "the slots have sectors of different sizes"),
        ((4096,) * 6 + (2048, 4096), "the slots have sectors of different sizes"),
        ((4096,) * 7 + (2048,), ""),
        ((4096,) * 7 + (2048, 4096), "the slots have sectors of different sizes"),
    ],
)
def test_slot_1_wants_as_many_sectors_or_one_more(more: tuple[int, ...], reason: str) -> None:
    assert loader(flashed(more=more)).incompatible(0) == reason


def test_max_image_size_leaves_the_first_sector_of_slot_1_free() -> None:
    assert loader(flashed()).max_image_size(0) == 24576
    assert loader(flashed(more=(4096,) * 9)).max_image_size(0) == 28672


def test_trailer_says_how_much_of_each_slot_is_swapped_even_if_it_was_there_before() -> None:
    """One that holds no sizes of the TLV areas has 0xffff each, so every sector up to the last one is swapped."""
    pair = flashed(make_image((1, 0, 0, 0), bytes(18000)), make_image((2, 0, 0, 0), bytes(300)))
    boot, erased = loader(pair), set[int]()

    def note(kind: str, area: str, offset: int, _size: int, _data: bytes) -> None:
        if (kind, area) == ("E", "slot 0"):
            erased.add(offset)

    trailer = boot.trailer(0, 0)
    trailer.write_swap_info(SwapType.TEST, 0)
    trailer.write_magic()
    pair.primary.meter.trace = note
    boot.boot()
    assert set(range(0, 5 * SECTOR, SECTOR)) <= erased


def test_slot_0_without_an_image_never_gets_the_update() -> None:
    boot = loader(flashed(b""))
    boot.set_pending(0, permanent=True)
    assert (boot.boot().ok, boot.boot().ok) == (False, False)

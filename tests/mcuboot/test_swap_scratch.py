"""Swap using scratch: what the recordings (tests/conformance) do not cover, and properties."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.flash import FlashArea, PowerCut
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from tests.mcuboot.images import contents, make_area, make_image, make_pair

OLD, NEW = make_image((1, 0, 0, 0), b"old" * 900), make_image((2, 0, 0, 0), b"new" * 3000)
LARGE = make_image((2, 0, 0, 0), b"large!" * 5368)


def scratch_of(pair: SlotPair, sectors: tuple[int, ...] = (4096,)) -> FlashArea:
    return make_area("scratch", sectors, meter=pair.primary.meter)


def loader(pair: SlotPair, scratch: FlashArea, **more: object) -> Bootloader:
    options = BootOptions(Mode.SWAP_USING_SCRATCH, max_sectors=16, **more)  # type: ignore[arg-type]
    return Bootloader(options, [pair], scratch)


def test_mode_needs_a_scratch_area() -> None:
    with pytest.raises(StoreError, match="swap-using-scratch needs a scratch area"):
        Bootloader(BootOptions(Mode.SWAP_USING_SCRATCH), [make_pair()])


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([NEW, LARGE]),
    st.sampled_from([1, 2, 8]),
    st.integers(1, 2),
    st.lists(st.integers(1, 170), max_size=4),
)
def test_any_number_of_cuts_ends_with_both_images_whole(new: bytes, size: int, boots: int, cuts: list[int]) -> None:
    """However often the power fails in a test or its revert, both images are whole in the end."""
    pair = make_pair(OLD, new)
    boot, meter = loader(pair, scratch_of(pair, (4096,) * size)), pair.primary.meter
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
    back = first.startswith(OLD) and second.startswith(new)
    assert back != (first.startswith(new) and second.startswith(OLD))


def test_large_image_shares_its_sector_with_the_trailer() -> None:
    pair = make_pair(OLD, LARGE)
    boot = loader(pair, scratch_of(pair))
    assert boot.max_image_size(0) == 32336
    boot.set_pending(0, permanent=True)
    assert str(boot.boot().header.version) == "2.0.0"  # type: ignore[union-attr]
    assert contents(pair)[0].startswith(LARGE)
    assert boot.trailer(0, 0).state().image_ok.value == "set"


def test_image_over_the_status_of_slot_0_is_refused_and_not_crashed_on() -> None:
    """mcuboot-slots.md section 7: the real boot loader reads the image as status and crashes."""
    huge = make_image((1, 0, 0, 0), bytes(range(1, 251)) * 130)
    pair = make_pair(huge[:32760], NEW)
    boot = loader(pair, scratch_of(pair))
    pair.primary.load(32720, b"\xff" * 48)
    result = boot.boot()
    assert result.stopped == "slot 0 holds data where the status of a swap is, is its image too large?"


def test_status_that_contradicts_itself_stops_a_boot_without_check_of_slot_0() -> None:
    pair = make_pair(OLD, NEW)
    trailer = loader(pair, scratch_of(pair)).trailer(0, 0)
    trailer.write_status(0, 8, 1)
    trailer.write_status(5, 8, 1)
    assert loader(pair, scratch_of(pair), validate_primary=False).boot().stopped is not None


@pytest.mark.parametrize(
    ("primary", "secondary", "scratch", "reason"),
    [
        ((4096,) * 8, (4096,) * 7, (4096,), "slot 0 has 32768 bytes, slot 1 has 28672"),
        ((8192,) * 4, (8192,) * 4, (4096,), "8192 bytes change places at a time, the scratch area has 4096"),
        ((4096,) * 6, (6144,) * 4, (8192,), "the sectors of the slots do not fit each other"),
        ((1024,) * 32, (1024,) * 32, (4096,), "a slot has more sectors than 16"),
        ((4096,) * 8, (8192,) * 4, (8192,), ""),
    ],
)
def test_slots_and_scratch_must_fit_each_other(
    primary: tuple[int, ...], secondary: tuple[int, ...], scratch: tuple[int, ...], reason: str
) -> None:
    pair = make_pair(OLD, NEW, sectors=primary, more=secondary)
    boot = loader(pair, scratch_of(pair, scratch))
    assert boot.incompatible(0) == reason
    if not reason:
        boot.set_pending(0, permanent=True)
        assert boot.boot().swap_type_done == (SwapType.PERM,)
        assert contents(pair)[0].startswith(NEW)
    if "fit" in reason:
        assert boot.max_image_size(0) == 0


@pytest.mark.parametrize(
    ("primary", "secondary", "size"),
    [
        ((1024,) * 32, (1024,) * 32, 31672),
        ((1024,) * 32, (4096,) * 8, 31712),
        ((4096,) * 8, (1024,) * 32, 31712),
    ],
)
def test_largest_image_ends_before_the_trailer_in_the_larger_sectors(
    primary: tuple[int, ...], secondary: tuple[int, ...], size: int
) -> None:
    pair = make_pair(sectors=primary, more=secondary)
    boot = Bootloader(BootOptions(Mode.SWAP_USING_SCRATCH, max_sectors=42), [pair], scratch_of(pair))
    assert boot.max_image_size(0) == size


def test_scratch_of_another_image_is_left_alone() -> None:
    pairs = [make_pair(OLD, NEW), make_pair(OLD, NEW)]
    scratch = scratch_of(pairs[0])
    boot = Bootloader(BootOptions(Mode.SWAP_USING_SCRATCH, max_sectors=16), pairs, scratch)
    trailer = boot.scratch_trailer()
    trailer.write_swap_info(SwapType.TEST, 1)
    trailer.write_swap_size(9000)
    trailer.write_magic()
    assert boot.boot().swap_type_done[0] is SwapType.NONE

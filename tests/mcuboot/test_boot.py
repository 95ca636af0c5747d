import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.options import RamRegion, SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from tests.mcuboot.images import make_area, make_image, make_pair


def test_modes_have_the_names_of_the_configuration_and_the_numbers_of_the_info_command() -> None:
    numbers = {mode.value: mode.number for mode in Mode}
    assert numbers["swap-using-move"] == 3
    assert numbers["direct-xip"] == 4
    assert sorted(numbers.values()) == [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9]


def test_operations_are_counted_over_areas_with_and_without_a_common_meter() -> None:
    areas = [make_area("slot 0"), make_area("slot 1")]
    areas[0].load(0, make_image())
    areas[1].load(0, make_image((2, 0, 0, 0)))
    apart = Bootloader(BootOptions(max_sectors=16), [SlotPair(*areas)])
    together = Bootloader(BootOptions(max_sectors=16), [make_pair(make_image(), make_image((2, 0, 0, 0)))])
    for loader in (apart, together):
        loader.set_pending(0, permanent=True)
    assert apart.boot().ops == together.boot().ops > 0


def test_scratch_trailer_wants_a_scratch_area() -> None:
    loader = Bootloader(BootOptions(), [make_pair()])
    with pytest.raises(StoreError, match="no scratch area"):
        loader.scratch_trailer()
    with_scratch = Bootloader(BootOptions(), [make_pair()], make_area("scratch", (4096,)))
    assert with_scratch.scratch_trailer().layout.status == 4096 - 72


def test_counters_are_those_that_were_given() -> None:
    counters = [3]
    assert Bootloader(BootOptions(max_sectors=16), [make_pair(make_image())], counters=counters).boot().nv == (3,)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(Mode),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 300), st.binary(max_size=40)), max_size=6),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["magic", "swap_info", "swap_size", "status"])), max_size=6),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_no_garbage_in_flash_makes_the_boot_loader_fail(
    mode: Mode, garbage: list[tuple[int, int, bytes]], fields: list[tuple[int, str]], size: int, bootstrap: bool
) -> None:
    """Whatever the trailers say, a boot ends with a result: an image, none, or why the real one would hang."""
    pair = make_pair(make_image(flags=0x20), make_image((2, 0, 0, 0), flags=0x20))
    scratch = make_area("scratch", (4096,), meter=pair.primary.meter)
    options = BootOptions(mode, max_sectors=16, bootstrap=bootstrap, ram=RamRegion(0, 1 << 20))
    loader = Bootloader(options, [pair], scratch)
    areas = (pair.primary, pair.secondary, scratch)
    for number, back, data in garbage:
        areas[number].load(areas[number].size - back, data[:back])
    for number, field in fields:
        trailer = loader.scratch_trailer() if number == 2 else loader.trailer(0, number)
        match field:
            case "magic":
                areas[number].load(trailer.layout.magic, trailer.rules.magic)
            case "swap_info":
                trailer.write_swap_info(SwapType.TEST, 0)
            case "swap_size":
                trailer.write_swap_size(size)
            case "status":
                areas[number].load(trailer.layout.status, bytes([1, *[255] * 7]) * 3)
    for _ in range(2):
        result = loader.boot()
        assert result.ok == (result.header is not None)
        assert result.stopped is None or not result.ok

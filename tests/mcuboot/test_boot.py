import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.options import SlotPair
from tests.mcuboot.images import make_area, make_image, make_pair


def test_modes_have_the_names_of_the_configuration_and_the_numbers_of_the_info_command() -> None:
    numbers = {mode.value: mode.number for mode in Mode}
    assert numbers["swap-using-move"] == 3
    assert numbers["direct-xip"] == 4
    assert sorted(numbers.values()) == [0, 1, 2, 3, 4, 5, 6, 6, 7, 9]


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

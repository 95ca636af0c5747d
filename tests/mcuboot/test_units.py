import pytest

from smp_dfu_host.mcuboot.units import common_units
from tests.mcuboot.images import make_pair


@pytest.mark.parametrize(
    ("first", "second", "units"),
    [
        ((4,) * 3, (4,) * 3, (4, 4, 4)),
        ((4,) * 4, (8,) * 2, (8, 8)),
        ((8, 4, 4), (4, 4, 8), (8, 8)),
        ((4,) * 3, (4,) * 2, (4, 4)),
        ((4, 4, 4), (6, 6), ()),
        ((4, 4), (8, 8), (8,)),
        ((4,), (8,), ()),
    ],
)
def test_units_end_in_both_slots_at_once(
    first: tuple[int, ...], second: tuple[int, ...], units: tuple[int, ...]
) -> None:
    scale = 64
    pair = make_pair(sectors=[size * scale for size in first], more=[size * scale for size in second])
    assert common_units(pair) == tuple(size * scale for size in units)

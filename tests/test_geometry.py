"""Sectors as the configuration writes them, and the layouts of boards."""

import pytest

from smp_dfu_host.errors import ConfigError
from smp_dfu_host.geometry import PRESETS, parse_sectors
from tests.store.builders import parse_flash


@pytest.mark.parametrize(
    ("text", "sectors"),
    [
        ("4096x3", (4096,) * 3),
        ("4Kx2", (4096, 4096)),
        ("16Kx4, 64K, 128Kx1", (16384,) * 4 + (65536, 131072)),
        ("128", (128,)),
    ],
)
def test_runs_of_sectors_are_read(text: str, sectors: tuple[int, ...]) -> None:
    assert parse_sectors(text) == sectors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': sectors are written as SIZExCOUNT"),
        ("4096x", "'4096x': sectors are written as"),
        ("0x4", "'0x4': sectors are written as"),
        ("4096x2,,", "'': sectors are written as"),
        ("4M", "'4M': sectors are written as"),
        ("127x2", "'127x2': a sector has 128 to 1048576 bytes"),
        ("2048K", "'2048K': a sector has 128 to"),
        ("4096x4000,4096x97", "more than 4096 sectors"),
    ],
)
def test_sectors_that_make_no_sense_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sectors(text)


@pytest.mark.parametrize(
    ("preset", "size", "address", "behind", "align", "max_align", "max_sectors"),
    [
        ("nrf52840", 0x76000, 0xC000, 0xF8000, 4, 8, 118),
        ("nrf5340", 0x70000, 0x10000, 0xF0000, 4, 8, 112),
        ("nrf54l15", 664 * 1024, 0x10000, 0x15C000, 16, 16, 166),
        ("stm32f767", 768 * 1024, 0x40000, 0x1C0000, 1, 8, 128),
        ("stm32h743", 256 * 1024, 0x40000, 0xC0000, 32, 32, 2),
    ],
)
def test_presets_are_the_boards_partitions(
    preset: str, size: int, address: int, behind: int, align: int, max_align: int, max_sectors: int
) -> None:
    """`behind`: where slot 1 ends and the devicetree has the next partition."""
    flash = parse_flash({"preset": preset})
    assert [sum(sectors) for sectors in flash.slot_sectors(1)] == [size, size]
    assert (flash.address, flash.address + 2 * size) == (address, behind)
    assert (flash.align, flash.max_align, flash.max_sectors) == (align, max_align, max_sectors)


def test_options_beside_a_preset_win() -> None:
    flash = parse_flash({"preset": "nrf54l15", "sectors": 100, "erased": 0})
    assert (flash.sectors, flash.max_align, flash.erased) == (100, 16, 0)


def test_every_preset_is_tested() -> None:
    assert sorted(PRESETS) == ["nrf52840", "nrf5340", "nrf54l15", "stm32f767", "stm32h743"]

from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.store.layout import Layout
from tests.store.builders import SECTOR, SLOT, config


def layout(folder: Path) -> Layout:
    return Layout.from_config(config(folder))


def test_slot_files_are_in_the_store(tmp_path: Path) -> None:
    assert [layout(tmp_path).slot(slot) for slot in layout(tmp_path).slots] == [
        tmp_path / "store" / "slot0.bin",
        tmp_path / "store" / "slot1.bin",
    ]


def test_areas_follow_each_other_in_flash_and_share_a_meter(tmp_path: Path) -> None:
    first, second = layout(tmp_path).areas(lambda _: MemoryStorage(bytes(SLOT)))
    assert (first.size, first.sectors[0], first.align) == (SLOT, SECTOR, 8)
    assert second.address - first.address == SLOT
    assert first.meter is second.meter


def test_an_area_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="100 bytes"):
        layout(tmp_path).area(0, MemoryStorage(bytes(100)))


def test_a_blank_slot_has_the_erased_value(tmp_path: Path) -> None:
    assert layout(tmp_path).blank() == b"\xff" * SLOT


def test_unequal_slots_and_a_scratch_area_lie_behind_each_other(tmp_path: Path) -> None:
    flash = {"slots": ["512x16", "512x17"], "scratch": "512x2", "max_sectors": 32}
    made = Layout.from_config(config(tmp_path, flash=flash, bootloader={"mode": "swap-using-scratch", "images": 2}))
    areas = made.areas(lambda number: MemoryStorage(made.blank(number)))
    assert [area.size for area in areas] == [SLOT, SLOT + SECTOR] * 2
    assert [area.address - made.address for area in areas.all] == [0, 8192, 16896, 25088, 33792]
    assert areas.scratch is areas.all[-1]
    assert (made.images, made.slot(4).name, made.size(4)) == (2, "scratch.bin", 1024)
    assert (len(areas), areas[1:3]) == (4, areas.slots[1:3])
    assert areas.replaced(1, areas[0]).slots == (areas[0], areas[0], *areas[2:])

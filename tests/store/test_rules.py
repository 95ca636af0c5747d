"""Which rule decides."""

from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage, PowerCut
from smp_dfu_host.mcuboot.options import BootOptions, Mode, SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.layout import Areas
from smp_dfu_host.store.rules import Rule, the_rule
from smp_dfu_host.store.slots import SlotStore
from tests.store.builders import hash_of, image, store

UPDATE = image((2, 0, 0), bytes(1500))


def rule_of(slots: SlotStore, **build: Any) -> Rule:
    options = BootOptions(**build) if build else slots.options
    with slots.reading() as areas:
        return the_rule(options, make_bootloader(options, areas) if build else slots.bootloader(areas), 0, areas)


def updated(folder: Path, *, confirm: bool = False, **sections: Any) -> SlotStore:
    slots = store(folder, **sections)
    slots.load(1, UPDATE)
    slots.set_state(hash_of(UPDATE), confirm=confirm)
    return slots


def test_nothing_asked_for(tmp_path: Path) -> None:
    rule = rule_of(store(tmp_path))
    assert rule.name == "swap type table, no row"
    assert rule.condition.startswith("slot 0 magic unset, image_ok unset, copy_done unset; slot 1 magic unset")
    assert rule.short == "swap type table, no row -> none"


@pytest.mark.parametrize(
    ("confirm", "text"),
    [
        (False, "swap type table row 1: slot 1 magic good, image_ok unset -> test"),
        (True, "swap type table row 2: slot 1 magic good, image_ok set -> permanent"),
    ],
)
def test_rows_of_the_table_are_named_with_what_they_want(tmp_path: Path, confirm: bool, text: str) -> None:
    assert rule_of(updated(tmp_path, confirm=confirm)).text == text


def test_row_of_the_revert(tmp_path: Path) -> None:
    slots = updated(tmp_path)
    slots.boot()
    rule = rule_of(slots)
    assert rule.text == "swap type table row 3: slot 0 magic good, image_ok unset, copy_done set -> revert"
    assert rule.asked is SwapType.REVERT


def test_row_that_only_offset_has(tmp_path: Path) -> None:
    slots = store(tmp_path)
    options = BootOptions(Mode.SWAP_USING_OFFSET, max_sectors=16)
    _, areas = slots.rehearse(slots.contents(), FlashMeter())
    loader = make_bootloader(options, areas)
    trailer = loader.trailer(0, 1)
    trailer.write_copy_done()
    trailer.write_magic()
    rule = the_rule(options, loader, 0, areas)
    assert rule.name == "swap type table row 0"
    assert rule.asked is SwapType.REVERT


def test_swap_that_was_cut_comes_first(tmp_path: Path) -> None:
    slots = updated(tmp_path)
    with pytest.raises(PowerCut):
        slots.boot(cut_before=12)
    rule = rule_of(slots)
    assert rule.name == "swap status in slot 0"
    assert "a swap (test) was cut at step" in rule.condition
    assert rule.follows == "it is finished first"
    assert rule.resumes


@pytest.mark.parametrize("number", range(2, 30, 2))
def test_swap_is_under_way_once_the_mark_is_erased_and_until_copy_done(tmp_path: Path, number: int) -> None:
    """Operations 1 to 4 make the trailer of slot 0, 5 erases the mark in slot 1 (mcuboot-slots.md section 8)."""
    slots = updated(tmp_path)
    with pytest.raises(PowerCut):
        slots.boot(cut_before=number)
    rule = rule_of(slots)
    assert rule.cut is (number > 5)
    assert rule.resumes is (number > 8)
    assert rule.asked is SwapType.TEST
    if rule.cut and not rule.resumes:
        assert rule.follows == "it starts over if slot 1 holds a valid image"
    slots.boot()
    assert not rule_of(slots).cut


def test_kind_of_swap_that_does_not_exist_is_a_panic(tmp_path: Path) -> None:
    slots = store(tmp_path)
    with slots.writing(0) as area:
        trailer = Trailer(area, slots.options.rules)
        trailer.write_swap_info(9, 0)
        trailer.write_magic()
    assert rule_of(slots).asked is SwapType.PANIC


def test_status_that_contradicts_itself_is_told() -> None:
    options = BootOptions(Mode.SWAP_USING_SCRATCH, max_sectors=16, validate_primary=False)
    *areas, scratch = (
        FlashArea(name, MemoryStorage(b"\xff" * 512 * count), (512,) * count, 8)
        for name, count in (("slot 0", 16), ("slot 1", 16), ("scratch", 1))
    )
    loader = Bootloader(options, [SlotPair(*areas)], scratch)
    trailer = loader.trailer(0, 0)
    trailer.write_swap_info(SwapType.TEST, 0)
    trailer.write_magic()
    for step in (0, 2):
        trailer.write_status(step, 8, 1)
    rule = the_rule(options, loader, 0, Areas(tuple(areas)))
    assert (rule.name, rule.follows) == ("swap status", "the boot loader hangs")


def test_slots_that_cannot_be_swapped() -> None:
    areas = Areas(
        tuple(
            FlashArea(f"slot {slot}", MemoryStorage(b"\xff" * 512 * count), (512,) * count, 8)
            for slot, count in enumerate((16, 14))
        )
    )
    options = BootOptions(max_sectors=16)
    rule = the_rule(options, make_bootloader(options, areas), 0, areas)
    assert rule.name == "slots"
    assert rule.follows == "nothing is ever swapped"


@pytest.mark.parametrize(
    ("version", "mode", "text"),
    [
        ((2, 0, 0), "direct-xip", "higher version: slot 0 0.0.0, slot 1 2.0.0 -> the highest that is fit to run"),
        ((0, 0, 0), "direct-xip", "higher version: slot 0 0.0.0, slot 1 0.0.0 -> equal, slot 0 first"),
    ],
)
def test_modes_that_pick_by_version(tmp_path: Path, version: tuple[int, ...], mode: str, text: str) -> None:
    slots = store(tmp_path, bootloader={"mode": mode})
    slots.load(1, image(version))
    assert rule_of(slots).text == text


def test_empty_slots_of_a_mode_that_picks(tmp_path: Path) -> None:
    slots = store(tmp_path, bootloader={"mode": "direct-xip"})
    slots.layout.slot(0).write_bytes(slots.layout.slot(1).read_bytes())
    assert rule_of(slots).condition == "no image"


def test_mark_that_a_revert_wants_is_told(tmp_path: Path) -> None:
    rule = rule_of(store(tmp_path), mode=Mode.DIRECT_XIP_WITH_REVERT)
    assert "that ran and was not confirmed, is erased" in rule.text


def test_modes_of_one_slot(tmp_path: Path) -> None:
    slots = store(tmp_path)
    assert rule_of(slots, mode=Mode.SINGLE_SLOT).follows == "slot 0 runs if its image is valid"
    loader = rule_of(slots, mode=Mode.FIRMWARE_LOADER)
    assert loader.text.endswith("nobody asked for the loader -> slot 0 runs if its image is valid, else slot 1")
    asked = rule_of(slots, mode=Mode.FIRMWARE_LOADER, loader_asked_for=True)
    assert asked.follows == "slot 1 runs if its image is valid, else slot 0"

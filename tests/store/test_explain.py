"""Why an image will or will not boot next, and what could be done first."""

from pathlib import Path
from struct import pack
from typing import Any

import pytest

from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.store.explain import Explanation, explain
from smp_dfu_host.store.layout import Areas
from smp_dfu_host.store.slots import SlotStore
from tests.mcuboot.images import make_image
from tests.store.builders import FLASH, config, hash_of, image, slot_bytes, store

UPDATE = image((2, 0, 0), bytes(1500))
BROKEN = UPDATE[:-1] + bytes([UPDATE[-1] ^ 1])


def said(folder: Path, **sections: Any) -> dict[str, str]:
    return {f"{each.what} {each.slot}": each.text for each in explain(config(folder, **sections)).outcomes}


def boots(found: Explanation) -> list[bool]:
    return [each.boots for image in found.images for each in image.verdicts]


def with_update(folder: Path, data: bytes = UPDATE, **sections: Any) -> SlotStore:
    slots = SlotStore(config(folder, **sections))
    slots.load(1, data, check=False)
    return slots


def test_fresh_store(tmp_path: Path) -> None:
    found = explain(config(tmp_path))
    assert boots(found) == [True, False]
    assert found.verdict(1).why == "there is no image in it"
    assert said(tmp_path) == {
        "reset None": "version 0.0.0 runs from slot 0, and stays",
        "confirm 0": "version 0.0.0 runs from slot 0, and stays",
    }


def test_update_that_nobody_asked_for(tmp_path: Path) -> None:
    with_update(tmp_path)
    found = explain(config(tmp_path))
    assert boots(found) == [True, False]
    assert found.verdict(1).why == "nothing asks for it"
    outcomes = said(tmp_path)
    back = "at the reset after that, unless somebody confirms: version 0.0.0 runs from slot 0"
    assert outcomes["test 1"] == f"version 2.0.0 runs from slot 0; {back}"
    assert outcomes["confirm 1"] == "version 2.0.0 runs from slot 0, and stays"


def test_nothing_is_changed(tmp_path: Path) -> None:
    slots = with_update(tmp_path)
    before = [slot_bytes(tmp_path, slot) for slot in (0, 1)], slots.state()
    explain(config(tmp_path))
    assert ([slot_bytes(tmp_path, slot) for slot in (0, 1)], slots.state()) == before
    assert slots.history() == ()


def test_marked_update(tmp_path: Path) -> None:
    with_update(tmp_path).set_state(hash_of(UPDATE), confirm=False)
    found = explain(config(tmp_path))
    assert boots(found) == [False, True]
    assert found.verdict(0).why == "the image of slot 1 takes its place"
    assert found.verdict(1).why == "swap type table row 1 -> test"
    assert said(tmp_path)["confirm 1"].startswith("refused: the next boot runs slot 1 (test)")


def test_marked_update_that_is_not_valid_is_erased(tmp_path: Path) -> None:
    slots = with_update(tmp_path, BROKEN)
    listed = slots.listed(1)
    slots.set_state(listed.hash if listed else None, confirm=False)
    found = explain(config(tmp_path))
    assert boots(found) == [True, False]
    why = found.verdict(1).why
    assert why.startswith("the image is not valid:")
    assert why.endswith("; the image is gone after that boot")


def test_unconfirmed_image_goes_back(tmp_path: Path) -> None:
    slots = with_update(tmp_path)
    slots.set_state(hash_of(UPDATE), confirm=False)
    slots.boot()
    found = explain(config(tmp_path))
    assert boots(found) == [False, True]
    assert found.images[0].rule.name == "swap type table row 3"
    assert said(tmp_path)["confirm 0"] == "version 2.0.0 runs from slot 0, and stays"
    slots.boot()
    assert "rolled back" in said(tmp_path)["confirm 1"]


def test_half_a_swap(tmp_path: Path) -> None:
    slots = with_update(tmp_path)
    slots.set_state(hash_of(UPDATE), confirm=False)
    number = slots.preview_boot().ops // 2
    with pytest.raises(PowerCut):
        slots.boot(cut_before=number)
    found = explain(config(tmp_path))
    assert found.images[0].rule.resumes
    assert found.next_boot.ok
    assert "the boot finishes the swap first" in {each.why for each in found.images[0].verdicts}


def test_same_image_in_both_slots(tmp_path: Path) -> None:
    slots = SlotStore(config(tmp_path))
    slots.load(1, slot_bytes(tmp_path, 0))
    assert boots(explain(config(tmp_path))) == [True, False]
    with slots.writing(1) as area:
        slots.bootloader(Areas((area, area))).set_pending(0, permanent=True)
    assert boots(explain(config(tmp_path))) == [False, True]


def test_store_that_does_not_boot(tmp_path: Path) -> None:
    slots = SlotStore(config(tmp_path))
    slots.layout.slot(0).write_bytes(slots.layout.slot(1).read_bytes())
    slots.load(1, UPDATE, check=False)
    found = explain(config(tmp_path))
    assert not found.next_boot.ok
    assert boots(found) == [False, False]
    assert found.outcomes[0].text.startswith("no image boots: ")
    assert found.verdict(1).why


def test_direct_xip_says_which_version_wins(tmp_path: Path) -> None:
    with_update(tmp_path, bootloader={"mode": "direct-xip"})
    found = explain(config(tmp_path, bootloader={"mode": "direct-xip"}))
    assert boots(found) == [False, True]
    assert found.verdict(1).why == "higher version -> the highest that is fit to run"
    outcomes = said(tmp_path, bootloader={"mode": "direct-xip"})
    assert outcomes["reset None"] == "version 2.0.0 runs from slot 1, and stays"
    assert outcomes["test 1"].startswith("refused: direct-xip")


def test_direct_xip_image_that_is_not_valid_is_erased(tmp_path: Path) -> None:
    with_update(tmp_path, BROKEN, bootloader={"mode": "direct-xip"})
    found = explain(config(tmp_path, bootloader={"mode": "direct-xip"}))
    assert boots(found) == [True, False]
    assert found.verdict(1).why.startswith("the image is not valid")


def test_update_that_is_too_large_names_the_limit(tmp_path: Path) -> None:
    big = image((2, 0, 0), bytes(FLASH["sector_size"] * (FLASH["sectors"] - 2)))
    slots = with_update(tmp_path, big)
    slots.set_state(hash_of(big), confirm=False)
    found = explain(config(tmp_path))
    assert boots(found) == [True, False]
    assert str(slots.max_image_size()) in found.verdict(1).why


MODES = ("swap-using-scratch", "swap-using-move", "swap-using-offset", "overwrite-only", "direct-xip-with-revert")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_with_marks_tells_what_a_test_would_do(tmp_path: Path, mode: str) -> None:
    """What is foretold comes true: the version that runs after the boot, from the slot that was named."""
    slots = with_update(tmp_path, bootloader={"mode": mode})
    foretold = said(tmp_path, bootloader={"mode": mode})["test 1"]
    slots.set_state(hash_of(UPDATE), confirm=False)
    found = explain(config(tmp_path, bootloader={"mode": mode}))
    assert boots(found) == [False, True]
    slots.boot()
    assert foretold.startswith(f"version 2.0.0 runs from slot {slots.running_slot()}")
    assert ("unless somebody confirms" in foretold) is (mode != "overwrite-only")
    booted = explain(config(tmp_path, bootloader={"mode": mode}))
    assert boots(booted) == ([True, False] if mode in ("overwrite-only", "direct-xip-with-revert") else [False, True])


def test_overwritten_image_is_gone(tmp_path: Path) -> None:
    slots = with_update(tmp_path, bootloader={"mode": "overwrite-only"})
    slots.set_state(hash_of(UPDATE), confirm=False)
    why = explain(config(tmp_path, bootloader={"mode": "overwrite-only"})).verdict(0).why
    assert why == "the image of slot 1 takes its place; the image is gone after that boot"


def test_image_that_was_not_marked_is_erased_and_that_is_said(tmp_path: Path) -> None:
    with_update(tmp_path, bootloader={"mode": "direct-xip-with-revert"})
    found = explain(config(tmp_path, bootloader={"mode": "direct-xip-with-revert"}))
    assert boots(found) == [True, False]
    assert found.verdict(1).why == "slot 1 is erased: it was not marked to run; the image is gone after that boot"


def test_one_slot_modes_refuse_marks(tmp_path: Path) -> None:
    slots = SlotStore(config(tmp_path, bootloader={"mode": "single-slot"}))
    slots.restore(1, UPDATE.ljust(FLASH["sector_size"] * FLASH["sectors"], b"\xff"))
    found = explain(config(tmp_path, bootloader={"mode": "single-slot"}))
    assert found.verdict(1).why == "the image of slot 0 runs"
    assert all(each.refused for each in found.outcomes if each.what != "reset")


def test_each_image_has_its_own_rule(tmp_path: Path) -> None:
    build = {"images": 2}
    slots = with_update(tmp_path, bootloader=build)
    other = image((3, 0, 0), bytes(700))
    slots.load(3, other)
    slots.set_state(hash_of(other), confirm=True)
    found = explain(config(tmp_path, bootloader=build))
    assert [each.rule.name for each in found.images] == ["swap type table, no row", "swap type table row 2"]
    assert boots(found) == [True, False, False, True]
    assert found.verdict(1).why == "nothing asks for it"
    reset = found.outcomes[0]
    assert reset.say(0) == "version 0.0.0 runs from slot 0, and stays"
    assert reset.say(1) == "version 3.0.0 runs from slot 2, and stays"


def test_image_that_is_called_off_says_why(tmp_path: Path) -> None:
    """Image 1 wants what image 0 does not offer: nothing is changed."""
    build = {"images": 2}
    slots = SlotStore(config(tmp_path, bootloader=build))
    wanting = make_image((3, 0, 0, 0), protected=[(0x40, pack("<B3xBBHI", 0, 9, 0, 0, 0))])
    slots.load(3, wanting, check=False)
    listed = slots.listed(3)
    slots.set_state(listed.hash if listed else None, confirm=True)
    found = explain(config(tmp_path, bootloader=build))
    assert boots(found) == [True, False, True, False]
    wants = "it wants image 0 in version 9.0.0 or later, there is 0.0.0"
    assert found.verdict(3).why == f"no image is changed: {wants}"
    assert found.verdict(2).why == "it stays: the image of slot 3 was asked for (permanent) and cannot have its place"
    asked = "no image is changed, though swap type table row 2 asks for permanent"
    assert found.rule(0).name == "swap type table, no row"
    assert found.rule(1).text == f"dependency of image 1: {wants} -> {asked}"


def test_image_that_another_one_calls_off_names_that_one(tmp_path: Path) -> None:
    build = {"images": 3}
    slots = SlotStore(config(tmp_path, bootloader=build))
    wanting = make_image((3, 0, 0, 0), protected=[(0x40, pack("<B3xBBHI", 1, 5, 0, 0, 0))])
    for slot, data in ((1, wanting), (5, UPDATE)):
        slots.load(slot, data, check=False)
        listed = slots.listed(slot)
        slots.set_state(listed.hash if listed else None, confirm=False, slot=slot)
    found = explain(config(tmp_path, bootloader=build))
    wants = "it wants image 1 in version 5.0.0 or later, there is 0.0.0"
    assert boots(found) == [True, False] * 3
    assert found.verdict(1).why == f"no image is changed: {wants}"
    assert found.verdict(5).why == f"image 0: no image is changed: {wants}"
    assert found.rule(0).name == found.rule(2).name == "dependency of image 0"
    assert found.rule(1).name == "swap type table, no row"


def test_update_that_is_too_old_says_so_and_nothing_else(tmp_path: Path) -> None:
    build = {"downgrade": "by-version"}
    slots = with_update(tmp_path, bootloader=build)
    slots.set_state(hash_of(UPDATE), confirm=True)
    slots.boot()
    older = image((1, 0, 0))
    slots.load(1, older, check=False)
    slots.set_state(hash_of(older), confirm=False)
    why = explain(config(tmp_path, bootloader=build)).verdict(1).why
    assert why.startswith("it was asked for, but: the update is erased: ")
    assert "booting" not in why
    assert "marked" not in why


LOADER = "reset, loader asked for None"


def test_reset_that_asks_for_the_loader_is_foretold(tmp_path: Path) -> None:
    build = {"mode": "firmware-loader"}
    slots = with_update(tmp_path, bootloader=build)
    told = said(tmp_path, bootloader=build)
    assert told["reset None"] == "version 0.0.0 runs from slot 0, and stays"
    back = "at the reset after that: version 0.0.0 runs from slot 0"
    assert told[LOADER] == f"version 2.0.0 runs from slot 1; {back}"
    assert str(slots.boot(loader=True).header.version) == "2.0.0"  # type: ignore[union-attr]
    slots.boot()
    slots.erase(1)
    assert said(tmp_path, bootloader=build)[LOADER] == "version 0.0.0 runs from slot 0, and stays"


def test_loader_is_asked_for_in_no_other_mode(tmp_path: Path) -> None:
    with_update(tmp_path)
    assert LOADER not in said(tmp_path)


def test_image_stays_that_an_unfit_update_was_to_replace(tmp_path: Path) -> None:
    slots = store(tmp_path)
    slots.load(1, UPDATE[:100] + b"?" + UPDATE[101:], check=False)
    slots.set_state(hash_of(UPDATE), confirm=False)
    found = explain(config(tmp_path))
    assert found.verdict(0).boots
    assert found.verdict(0).why == "it stays: the image of slot 1 was asked for (test) and cannot have its place"
    assert found.verdict(1).why.startswith("the image is not valid: SHA256 hash is")

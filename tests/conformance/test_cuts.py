"""Power cuts beyond the recorded ones: torn and double."""

import pytest

from tests.conformance.cuts import Explorer, Start, Tally, explore, main, recorded, with_two_images
from tests.conformance.mcuboot_device import VECTORS, Build, Device, image

TABLES = VECTORS / "mcuboot" / "cuts.json"


def start(name: str) -> Start:
    return next(each for each in recorded(TABLES) if each.name == name)


@pytest.mark.parametrize(
    "name", ["scratch_a8_i1_s16 test", "move_a8_i1_s16 revert", "offset_a8_i1_s16 perm", "owfast_a8_i1_s16 test"]
)
def test_store_boots_after_cuts_at_every_operation_and_torn_ones(name: str) -> None:
    """Second cuts on a grid; `python -m tests.conformance.cuts` makes them everywhere."""
    tally = Tally()
    Explorer(start(name), tally, 13).run()
    assert tally.failures == []
    assert min(tally.cuts, tally.torn, tally.double) > 0


def test_two_images_boot_after_cuts() -> None:
    (tally,) = explore((each for each in with_two_images(kinds=("test",)) if each.mode == "owfast"), 13).values()
    assert tally.failures == []


def test_offset_revert_that_is_cut_twice_in_its_first_sector_goes_on() -> None:
    """MCUboot asserts at every boot here (swap_offset.c, fixup_revert in a resume); ours is to go on."""
    tally = Tally()
    Explorer(start("offset_a8_i1_s16 revert"), tally).run()
    assert (tally.failures, tally.bricks) == ([], 0)


def test_table_that_has_dead_ends_itself_may_have_them() -> None:
    tally = Tally()
    Explorer(start("offset-enc_a8_i1_s16 test"), tally, 13).run()
    assert (tally.failures, tally.bricks == tally.expected, tally.expected > 0) == ([], True, True)


def test_dead_end_and_lost_image_are_told_and_counted() -> None:
    build = Build("owfast", "", 8, 1, 16)
    cfg = {"align": 8, "erased": 255, "primary0": "4096x8", "secondary0": "4096x8"}
    device = Device(build, cfg, lambda _: b"")
    device.areas["primary0"].load(0, image("v1"))
    device.areas["secondary0"].load(0, image("v2"))
    device.bootloader.set_pending(0, permanent=False)
    contents = {name: area.read(0, area.size) for name, area in device.areas.items()}
    tally = Tally()
    Explorer(Start("overwrite", "owfast", build, cfg, contents, (image("v1"),)), tally, 13).run()
    assert tally.lost == len(tally.failures) == tally.failed > 0


@pytest.mark.slow
def test_quick_run_prints_a_table_and_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["mode", "cuts", "torn", "double", "no", "boot", "recorded", "lost"]
    assert lines[-1].endswith(" passed, 0 failed, 0 skipped")

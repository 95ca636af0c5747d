"""What modes of the boot loader do with updates that a client would not expect, through SMP.

Each is what Zephyr and MCUboot do, or differs from them for a reason that is told; test_update_machine.py has what is
common to all modes, and says where the other exceptions are.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smp_dfu_host.mcuboot.flash import PowerCut
from tests.groups.update_model import ALREADY_PENDING, HASH_NOT_FOUND, NO_FREE_SLOT, SECTOR, Made, err
from tests.groups.update_target import ERASE, FLASH, IMAGE, STATE, UPLOAD, WRITE, Target, entries, made

Start = Callable[[str], Target]
OLD = b"old" * 100
NEW = b"new" * 100


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Make devices that run version 1; what comes is not checked on arrival."""
    started: list[Target] = []

    def make(mode: str) -> Target:
        (tmp_path / "factory.bin").write_bytes(made(mode, 1, OLD).data)
        image = {"factory": "factory.bin", "validate_upload": False}
        started.append(Target(tmp_path, flash=FLASH, bootloader={"mode": mode}, image=image))
        assert started[-1].store.boot().ok
        return started[-1]

    yield make
    for target in started:
        target.close()


def upload(target: Target, image: Made, size: int | None = None) -> None:
    """Upload an image, or its first bytes."""
    body = {"off": 0, "len": len(image.data), "sha": image.sha, "data": image.data[:size]}
    assert target.ask(WRITE, IMAGE, UPLOAD, body)["off"] == len(image.data[:size])


def mark(target: Target, image: Made, *, confirm: bool = False) -> dict[str, object]:
    return target.ask(WRITE, IMAGE, STATE, {"hash": image.hash, "confirm": confirm})


def cut(target: Target, before: int) -> None:
    with pytest.raises(PowerCut):
        target.store.boot(before)
    target.restart()


def on_trial(target: Target, mode: str) -> Made:
    """Run version 2 for a test."""
    image = made(mode, 2, NEW)
    upload(target, image)
    mark(target, image)
    assert target.store.boot().ok
    return image


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-move", "swap-using-offset"])
def test_image_rolled_back_by_a_boot_that_was_cut_is_not_there_to_be_confirmed(
    start: Start, mode: str, where: str
) -> None:
    """The boot that finishes a revert does not tell that it was one, and a client could make a bad image permanent."""
    target = start(mode)
    image = on_trial(target, mode)
    last = target.store.preview_boot().ops
    cut(target, {"first": 1, "middle": last // 2, "last": last}[where])
    assert target.store.boot().ok
    assert mark(target, image, confirm=True) == err(HASH_NOT_FOUND)


def test_rolled_back_image_can_be_confirmed_once_it_was_uploaded_again(start: Start) -> None:
    """All of it is there already, so no byte of it is written; still the client means what it uploads."""
    target, mode = start("swap-using-move"), "swap-using-move"
    image = on_trial(target, mode)
    assert target.store.boot().ok
    assert mark(target, image, confirm=True) == err(HASH_NOT_FOUND)
    upload(target, image)
    assert entries(mark(target, image, confirm=True))[1] == (1, image.hash, "pending permanent")


def test_overwrite_that_is_cut_before_its_last_erase_leaves_a_mark_on_an_empty_slot(start: Start) -> None:
    """Boots go on for ever with it; the running image cannot be confirmed, until the slot is erased."""
    target, image = start("overwrite-only"), made("overwrite-only", 2, NEW)
    upload(target, image)
    mark(target, image)
    cut(target, target.store.preview_boot().ops)
    assert [target.store.boot().ok for _ in range(3)] == [True] * 3
    assert target.entries() == [(0, image.hash, "active confirmed")]
    assert mark(target, image, confirm=True) == err(ALREADY_PENDING)
    assert target.ask(WRITE, IMAGE, ERASE) == {}
    assert entries(mark(target, image, confirm=True)) == target.entries()


@pytest.mark.parametrize(("size", "listed"), [(200, True), (SECTOR + 300, False)])
def test_offset_lists_the_place_for_updates_and_not_what_a_revert_goes_back_to(
    start: Start, size: int, *, listed: bool
) -> None:
    """A swap of one sector leaves the update's copy where it was, and it is shown as what comes back; it is not."""
    target, mode = start("swap-using-offset"), "swap-using-offset"
    image = made(mode, 2, bytes(size))
    upload(target, image)
    mark(target, image)
    assert target.store.boot().ok
    assert target.entries() == [(0, image.hash, "active"), (1, image.hash, "confirmed")][: 1 + listed]
    assert mark(target, made(mode, 1, OLD)) == err(HASH_NOT_FOUND)  # trap 3 cannot be walked into
    assert target.ask(WRITE, IMAGE, ERASE) == err(NO_FREE_SLOT)  # nor trap 2
    assert target.store.boot().ok
    assert target.entries()[0] == (0, made(mode, 1, OLD).hash, "active confirmed")


def test_offset_does_not_resume_a_swap_of_one_sector_that_was_cut_behind_its_erase(start: Start) -> None:
    """The old header is looked for in slot 0 although it lies in slot 1 (mcuboot swap_offset.c: `idx <= last_idx`)."""
    target, mode = start("swap-using-offset"), "swap-using-offset"
    upload(target, made(mode, 2, bytes(200)))
    mark(target, made(mode, 2, bytes(200)))
    cut(target, 14)
    result = target.store.boot()
    assert (result.ok, result.actions[0]) == (False, "no image in slot 0, so nothing is swapped")


@pytest.mark.parametrize("mode", ["direct-xip", "ram-load"])
def test_of_two_equal_versions_slot_0_runs_though_the_list_says_nothing_is_pending(start: Start, mode: str) -> None:
    target = start(mode)
    first, second = made(mode, 2, NEW), made(mode, 2, OLD)
    upload(target, first)
    assert target.store.boot().ok
    upload(target, second)
    assert target.entries() == [(0, second.hash, ""), (1, first.hash, "active confirmed")]
    assert target.store.boot().ok
    assert target.entries() == [(0, second.hash, "active confirmed"), (1, first.hash, "")]


@pytest.mark.parametrize("mode", ["direct-xip", "direct-xip-with-revert", "ram-load", "ram-load-with-revert"])
@pytest.mark.parametrize(("version", "off"), [(2, 0), (1, 200)])
def test_half_an_upload_lives_through_a_boot_only_if_its_version_is_not_higher(
    start: Start, mode: str, version: int, off: int
) -> None:
    target, image = start(mode), made(mode, version, NEW)
    upload(target, image, 200)
    target.restart()
    assert target.store.boot().ok
    assert target.ask(WRITE, IMAGE, UPLOAD, {"off": 200}) == {"off": off}

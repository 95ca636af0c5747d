"""What modes of the boot loader do with updates that a client would not expect, through SMP.

Each is what Zephyr and MCUboot do, or differs from them for a reason that is told; test_update_machine.py has what is
common to all modes, and says where the other exceptions are.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smp_dfu_host.mcuboot.flash import PowerCut
from tests.groups.update_builds import make as made
from tests.groups.update_model import ALREADY_PENDING, HASH_NOT_FOUND, NO_FREE_SLOT, SECTOR, Made, err
from tests.groups.update_target import ERASE, FLASH, IMAGE, STATE, UPLOAD, WRITE, Target, entries

Start = Callable[..., Target]
OLD = b"old" * 100
NEW = b"new" * 100


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Make devices that run version 1; what comes is not checked on arrival."""
    started: list[Target] = []

    def make(mode: str, counter: int | None = None, **build: object) -> Target:
        (tmp_path / "factory.bin").write_bytes(made(mode, 1, OLD, build="rollback", counter=counter).data)
        factories = {"factory": "factory.bin", "more_factories": ["factory.bin"]}
        image = {**factories, "validate_upload": False, "confirm_others": "any"}
        started.append(Target(tmp_path, flash=FLASH, bootloader={"mode": mode, **build}, image=image))
        assert started[-1].store.boot().ok
        return started[-1]

    yield make
    for target in started:
        target.close()


def upload(target: Target, image: Made, size: int | None = None, number: int = 0) -> None:
    """Upload an image, or its first bytes."""
    body = {"image": number, "off": 0, "len": len(image.data), "sha": image.sha, "data": image.data[:size]}
    assert target.ask(WRITE, IMAGE, UPLOAD, body)["off"] == len(image.data[:size])


def mark(target: Target, image: Made, *, confirm: bool = False) -> dict[str, object]:
    return target.ask(WRITE, IMAGE, STATE, {"hash": image.hash, "confirm": confirm})


def cut(target: Target, before: int, tear: int = 0) -> None:
    with pytest.raises(PowerCut):
        target.store.boot(before, tear)
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


def test_overwrite_that_is_cut_in_the_erase_of_the_header_and_once_more_leaves_a_mark_too(start: Start) -> None:
    """What the first cut leaves in slot 1 is no image, so the next boot erases it, its mark last."""
    target, image = start("overwrite-only"), made("overwrite-only", 2, NEW)
    upload(target, image)
    mark(target, image)
    cut(target, target.store.preview_boot().ops - 1, 1)
    cut(target, 2)
    assert target.store.boot().ok
    assert target.entries() == [(0, image.hash, "active confirmed")]
    assert mark(target, image, confirm=True) == err(ALREADY_PENDING)


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


# Builds


def test_move_that_refuses_downgrades_refuses_a_revert_that_was_cut_at_its_start(start: Start) -> None:
    """It looks like an update for good then (swap_move.c, fixup_revert), to a lower version: what it goes back to is
    erased, and the image on trial stays although nobody confirmed it."""
    target, mode = start("swap-using-move", downgrade="by-version"), "swap-using-move"
    image = on_trial(target, mode)
    before, lost = [target.slot(number) for number in (0, 1)], []
    for number in range(1, target.store.preview_boot().ops + 1):
        for slot, contents in enumerate(before):
            target.store.restore(slot, contents)
        cut(target, number)
        assert target.store.boot().ok
        if not any(target.slot(slot).startswith(made(mode, 1, OLD).data) for slot in (0, 1)):
            lost.append(number)
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert 1 < lost[0] <= lost[-1] < 12
    assert target.slot(0).startswith(made(mode, 1, OLD).data)  # the last cut of all was none of those
    assert mark(target, image, confirm=True) == err(HASH_NOT_FOUND)


@pytest.mark.parametrize("mode", ["swap-using-move", "swap-using-offset"])
def test_bootstrap_whose_first_write_is_torn_never_boots_again(start: Start, mode: str) -> None:
    """Slot 0 is not erased and has no header then: no update is looked for (loader.c, boot_read_image_headers)."""
    target = start(mode, bootstrap=True)
    update, dead = made(mode, 2, NEW), []
    upload(target, update)
    before = [target.store.layout.blank(0), target.slot(1)]
    target.store.restore(0, before[0])
    for number in range(1, target.store.preview_boot().ops + 1):
        for slot, contents in enumerate(before):
            target.store.restore(slot, contents)
        cut(target, number, 1)
        results = [target.store.boot() for _ in range(2)]
        if not results[1].ok:
            dead.append(results[1].actions[0])
    assert dead == ["no image in slot 0, so nothing is swapped"]


@pytest.mark.parametrize("downgrade", ["by-version", "by-counter"])
def test_overwriting_that_refuses_downgrades_ends_with_nothing_if_the_header_is_torn(
    start: Start, downgrade: str
) -> None:
    """What is left erased of the header in slot 0 reads as the highest version, so that the update is refused and
    erased (loader.c, boot_validated_swap_type)."""
    target = start("overwrite-only", downgrade=downgrade)
    image = made("overwrite-only", 2, NEW, build=downgrade, counter=2)
    upload(target, image)
    mark(target, image, confirm=True)
    before, dead = [target.slot(number) for number in (0, 1)], []
    for number in range(1, target.store.preview_boot().ops + 1):
        for slot, contents in enumerate(before):
            target.store.restore(slot, contents)
        cut(target, number, 8)
        if not target.store.boot().ok:
            dead.append(number)
    assert len(dead) == 1


def test_a_revert_with_scratch_that_is_cut_twice_at_its_start_is_forgotten(start: Start) -> None:
    """The trailers of scratch and of slot 0 are made anew by the boot after the first cut; between the two erases
    nothing tells of the swap (swap_scratch.c, swap_run). The image on trial stays, unconfirmed."""
    target, mode = start("swap-using-scratch"), "swap-using-scratch"
    image = on_trial(target, mode)
    before, forgotten = [target.slot(number) for number in (0, 1, 2)], []
    for first in range(1, target.store.preview_boot().ops + 1):
        for second in range(1, 6):
            for slot, contents in enumerate(before):
                target.store.layout.slot(slot).write_bytes(contents)
            cut(target, first)
            if target.store.preview_boot().ops < second:
                continue
            cut(target, second)
            assert target.store.boot().ok
            if target.slot(0).startswith(image.data):
                forgotten.append((first, second))
    assert forgotten
    assert len({first for first, _ in forgotten}) == 1


@pytest.mark.parametrize(("late", "listed"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("mode", ["swap-using-scratch", "overwrite-only"])
def test_bootstrap_that_is_cut_behind_its_copy_leaves_the_image_in_slot_1(
    start: Start, mode: str, *, late: bool, listed: int
) -> None:
    """Slot 0 is valid then, so there is nothing left to be done."""
    target = start(mode, bootstrap=True)
    upload(target, made(mode, 2, NEW))
    layout = target.store.layout
    layout.slot(0).write_bytes(layout.blank(0))
    behind = {"swap-using-scratch": 3, "overwrite-only": 1}[mode]  # operations behind the erase of slot 1's header
    cut(target, target.store.preview_boot().ops - behind if late else 2)
    assert target.store.boot().ok
    assert len(target.entries()) == listed


def test_ram_load_with_revert_cannot_go_back_to_a_lower_security_counter(start: Start) -> None:
    """The stored counter rises when an image first runs (loader.c): after a failed test nothing is left to run."""
    mode = "ram-load-with-revert"
    target, image = start(mode, counter=1, rollback_counter=True), made(mode, 2, NEW, build="rollback", counter=2)
    upload(target, image)
    mark(target, image)
    assert target.store.boot().ok
    assert not target.store.boot().ok
    assert target.entries() == []


# Several images


def on_trial_too(target: Target, mode: str, number: int, **wants: object) -> Made:
    """Run version 2 of an image for a test."""
    image = made(mode, 2, NEW + bytes([number]), **wants)  # type: ignore[arg-type]
    upload(target, image, number=number)
    mark(target, image)
    assert target.store.boot().ok
    return image


@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-move"])
def test_test_of_an_image_ends_unseen_if_the_power_fails_before_another_one_goes_back(start: Start, mode: str) -> None:
    """Two images change in one boot; the next boot finds the first one on trial, and it never ran."""
    target = start(mode, images=2)
    on_trial_too(target, mode, 1)
    image = made(mode, 2, NEW)
    upload(target, image)
    mark(target, image)
    running = set()
    before = [path.read_bytes() for path in map(target.store.layout.slot, target.store.layout.numbers)]
    for number in range(1, target.store.preview_boot().ops + 1):
        for area, contents in enumerate(before):
            target.store.layout.slot(area).write_bytes(contents)
        cut(target, number)
        assert target.store.boot().ok
        assert target.slot(2).startswith(made(mode, 1, OLD).data)
        running.add(next(digest for slot, digest, _ in target.entries() if slot == 0))
    assert running == {image.hash, made(mode, 1, OLD).hash}


@pytest.mark.parametrize("images", [1, 2])
def test_update_that_is_cut_twice_is_forgotten_where_there_are_several_images(start: Start, images: int) -> None:
    """A swap that is marked in slot 0 and has not begun is begun anew then: the boot status is reset for each image
    (loader.c, context_boot_go), so slot 0's trailer is erased again, and slot 1's was before the first cut."""
    mode = "swap-using-move"
    target, image = start(mode, images=images), made(mode, 2, NEW + bytes(SECTOR))
    upload(target, image)
    mark(target, image, confirm=True)
    before = [path.read_bytes() for path in map(target.store.layout.slot, target.store.layout.numbers)]
    forgotten = []
    for first in range(1, target.store.preview_boot().ops + 1):
        for second in range(1, 6):
            for area, contents in enumerate(before):
                target.store.layout.slot(area).write_bytes(contents)
            cut(target, first)
            if target.store.preview_boot().ops < second:
                continue
            cut(target, second)
            assert target.store.boot().ok
            if not target.slot(0).startswith(image.data):
                forgotten.append((first, second))
    assert bool(forgotten) == (images > 1)


def test_one_unmet_want_keeps_every_image_as_it_is(start: Start) -> None:
    """The marks stay, and reverts are called off too: what is on trial runs on unconfirmed (trap 9)."""
    mode = "swap-using-move"
    target = start(mode, images=2)
    tried = on_trial_too(target, mode, 1)
    wanting = made(mode, 2, NEW, needs={1: 3})
    upload(target, wanting)
    mark(target, wanting)
    for _ in range(2):
        assert target.store.boot().ok
        flags = {slot: (digest, said) for slot, digest, said in target.entries()}
        assert flags[1] == (wanting.hash, "pending")
        assert flags[2] == (tried.hash, "active")


def test_direct_xip_with_revert_runs_nothing_once_what_an_image_wants_went_back(start: Start) -> None:
    """Confirming an image does not confirm the one that it wants: that goes back, and slot 0 was erased."""
    mode = "direct-xip-with-revert"
    target = start(mode, images=2)
    wanted = made(mode, 2, NEW + b"\1")
    upload(target, wanted, number=1)
    mark(target, wanted)
    wanting = on_trial_too(target, mode, 0, needs={1: 2})
    assert [said for _, _, said in entries(mark(target, wanting, confirm=True))].count("active confirmed") == 1
    assert target.ask(WRITE, IMAGE, ERASE, {"slot": 0}) == {}
    assert not target.store.boot().ok

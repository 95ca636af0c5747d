import pytest

from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.listing import BootType, Listed, NextBoot, read_listed
from smp_dfu_host.store.schedule import check_other, find_slot, must_write
from tests.store.builders import hash_of, image

A, B = 0, 1
NORMAL_A, NORMAL_B = NextBoot(BootType.NORMAL, A), NextBoot(BootType.NORMAL, B)
TEST_B, REVERT_B = NextBoot(BootType.TEST, B), NextBoot(BootType.REVERT, B)


@pytest.mark.parametrize(
    ("plan", "slot", "confirm", "write"),
    [
        (NORMAL_A, B, False, True),
        (NORMAL_A, B, True, True),
        (NORMAL_A, A, True, False),
        (NORMAL_B, B, True, False),
        (TEST_B, B, False, False),
        (REVERT_B, A, True, True),
        (REVERT_B, B, True, False),
    ],
)
def test_what_is_allowed(plan: NextBoot, slot: int, confirm: bool, write: bool) -> None:
    assert must_write(slot, A, plan, confirm=confirm) is write


@pytest.mark.parametrize(
    ("plan", "slot", "confirm"),
    [
        (NORMAL_B, B, False),
        (NORMAL_B, A, True),
        (TEST_B, A, True),
        (TEST_B, B, True),
        (REVERT_B, B, False),
    ],
)
def test_what_is_refused_because_of_what_is_scheduled(plan: NextBoot, slot: int, confirm: bool) -> None:
    with pytest.raises(SlotRefusal) as refusal:
        must_write(slot, A, plan, confirm=confirm)
    assert refusal.value.fault is Fault.ALREADY_PENDING


@pytest.mark.parametrize("plan", [NORMAL_A, NORMAL_B, TEST_B, REVERT_B])
def test_a_test_of_the_running_slot_is_refused_first(plan: NextBoot) -> None:
    with pytest.raises(SlotRefusal) as refusal:
        must_write(A, A, plan, confirm=False)
    assert refusal.value.fault is Fault.TEST_OF_RUNNING


def slots(*images: bytes) -> list[Listed | None]:
    return [read_listed(MemoryStorage(each.ljust(512, b"\xff"))) for each in images]


def test_the_first_slot_with_the_hash_is_found() -> None:
    first, second = image((1, 0, 0)), image((2, 0, 0))
    assert find_slot(slots(first, second), hash_of(second), A, confirm=False) == B
    assert find_slot(slots(first, first), hash_of(first), B, confirm=False) == A


@pytest.mark.parametrize(("wanted", "found"), [(None, 0), (0, 0), (1, 1), (2, 0)])
def test_of_several_slots_with_the_hash_the_wanted_one_is_found(wanted: int | None, found: int) -> None:
    same, other = image((1, 0, 0)), image((2, 0, 0))
    assert find_slot(slots(same, same, other), hash_of(same), A, confirm=False, wanted=wanted) == found


@pytest.mark.parametrize("digest", [None, b""])
def test_without_a_hash_the_running_slot_is_meant(digest: bytes | None) -> None:
    assert find_slot(slots(b"", b""), digest, B, confirm=True) == B


@pytest.mark.parametrize("digest", [None, b"", bytes(31), bytes(33)])
def test_a_hash_that_no_image_has_is_refused(digest: bytes | None) -> None:
    with pytest.raises(SlotRefusal) as refusal:
        find_slot(slots(b""), digest, A, confirm=bool(digest))
    assert refusal.value.fault is Fault.INVALID_HASH


def test_a_hash_in_no_slot_is_not_found() -> None:
    with pytest.raises(SlotRefusal) as refusal:
        find_slot(slots(image(), b""), bytes(32), A, confirm=True)
    assert refusal.value.fault is Fault.HASH_NOT_FOUND


def test_where_marks_are_free_only_a_test_of_the_running_slot_is_refused() -> None:
    assert must_write(B, A, TEST_B, confirm=True, free=True)
    assert must_write(A, A, REVERT_B, confirm=True, free=True)
    with pytest.raises(SlotRefusal):
        must_write(A, A, NORMAL_A, confirm=False, free=True)


@pytest.mark.parametrize(
    ("slot", "allowed", "denied"),
    [
        (0, "none", False),
        (1, "none", False),
        (2, "none", True),
        (3, "none", True),
        (2, "secondary", True),
        (3, "secondary", False),
        (2, "any", False),
    ],
)
def test_other_images_are_confirmed_as_far_as_that_is_allowed(slot: int, allowed: str, denied: bool) -> None:
    active = slot // 2 * 2
    if not denied:
        check_other(slot, active, allowed)
        return
    with pytest.raises(SlotRefusal) as refusal:
        check_other(slot, active, allowed)
    assert refusal.value.fault is Fault.OTHER_IMAGE

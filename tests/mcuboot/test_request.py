import pytest

from smp_dfu_host.mcuboot.request import SetNextError, set_next, set_next_direct
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType, TrailerState
from smp_dfu_host.mcuboot.trailer import Trailer, TrailerRules
from tests.mcuboot.images import make_area

TEST = TrailerState(Magic.GOOD, SwapType.TEST, 1)
PERM = TrailerState(Magic.GOOD, SwapType.PERM, 1, image_ok=Flag.SET)


@pytest.fixture
def trailer() -> Trailer:
    return Trailer(make_area(), TrailerRules())


def test_test_then_permanent_stays_a_test(trailer: Trailer) -> None:
    set_next(trailer, 1, active=False, confirm=False)
    assert trailer.state() == TEST
    set_next(trailer, 1, active=False, confirm=True)
    assert trailer.state() == TEST


def test_permanent_sets_image_ok(trailer: Trailer) -> None:
    set_next(trailer, 1, active=False, confirm=True)
    assert trailer.state() == PERM


def test_confirm_of_a_slot_without_magic_writes_nothing(trailer: Trailer) -> None:
    set_next(trailer, 0, active=True, confirm=True)
    assert trailer.area.meter.ops == 0


def test_confirm_sets_image_ok_once(trailer: Trailer) -> None:
    trailer.write_magic()
    for _ in range(2):
        set_next(trailer, 0, active=True, confirm=False)
    assert trailer.state() == TrailerState(Magic.GOOD, image_ok=Flag.SET)
    assert trailer.area.meter.ops == 2


@pytest.mark.parametrize(("active", "rc"), [(False, 3), (True, 4)])
def test_bad_magic_is_refused_and_nothing_written(trailer: Trailer, active: bool, rc: int) -> None:
    trailer.area.load(trailer.layout.magic, b"garbage")
    with pytest.raises(SetNextError, match="slot: the trailer's magic is bad") as caught:
        set_next(trailer, 0, active=active, confirm=True)
    assert (caught.value.rc, trailer.area.meter.ops) == (rc, 0)


def test_direct_test_writes_the_magic_alone(trailer: Trailer) -> None:
    set_next_direct(trailer, active=False, confirm=False)
    assert trailer.state() == TrailerState(Magic.GOOD)


@pytest.mark.parametrize(("active", "confirm"), [(True, False), (False, True)])
def test_direct_confirm_sets_copy_done_and_image_ok_once(trailer: Trailer, active: bool, confirm: bool) -> None:
    for _ in range(2):
        set_next_direct(trailer, active=active, confirm=confirm)
    assert trailer.state() == TrailerState(Magic.GOOD, copy_done=Flag.SET, image_ok=Flag.SET)
    assert trailer.area.meter.ops == 3


def test_direct_bad_magic_is_refused(trailer: Trailer) -> None:
    trailer.area.load(trailer.layout.magic, b"garbage")
    with pytest.raises(SetNextError) as caught:
        set_next_direct(trailer, active=True, confirm=True)
    assert caught.value.rc == 3

import pytest

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Downgrade, Mode
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.tlv import TlvType
from tests.mcuboot.images import contents, make_image, make_pair

MOVE, OVERWRITE = Mode.SWAP_USING_MOVE, Mode.OVERWRITE_ONLY


def counted(version: int, counter: int | None) -> bytes:
    protected = [] if counter is None else [(TlvType.SEC_CNT, counter.to_bytes(4, "little"))]
    return make_image((version, 0, 0, 0), protected=protected)


def loader(pair: SlotPair, mode: Mode = MOVE, counters: list[int] | None = None, **more: object) -> Bootloader:
    return Bootloader(BootOptions(mode, max_sectors=16, **more), [pair], counters=counters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "old", "new", "taken"),
    [
        (Downgrade.BY_VERSION, (2, None), (1, None), False),
        (Downgrade.BY_VERSION, (2, None), (2, None), True),
        (Downgrade.BY_COUNTER, (2, 5), (1, 5), True),
        (Downgrade.BY_COUNTER, (1, 5), (2, 4), False),
        (Downgrade.BY_COUNTER, (1, 5), (2, None), False),
        (Downgrade.BY_COUNTER, (1, None), (2, None), True),
        (Downgrade.ALLOWED, (2, 5), (1, 4), True),
    ],
)
def test_downgrade_prevention_erases_the_update(
    kind: Downgrade, old: tuple[int, int | None], new: tuple[int, int | None], taken: bool
) -> None:
    pair = make_pair(counted(*old), counted(*new))
    boot = loader(pair, downgrade=kind)
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert result.swap_type_done == ((SwapType.PERM if taken else SwapType.NONE),)
    if not taken:
        assert contents(pair)[1] == b"\xff" * 0x8000
        assert any("the update is erased" in action for action in result.actions)


def test_revert_is_no_downgrade() -> None:
    boot = loader(make_pair(counted(1, None), counted(2, None)), downgrade=Downgrade.BY_VERSION)
    boot.set_pending(0, permanent=False)
    boot.boot()
    assert boot.boot().swap_type_done == (SwapType.REVERT,)


@pytest.mark.parametrize("kind", [Downgrade.BY_VERSION, Downgrade.BY_COUNTER])
def test_overwrite_compares_versions_before_anything_else(kind: Downgrade) -> None:
    pair = make_pair(counted(2, None), counted(1, None))
    boot = loader(pair, OVERWRITE, downgrade=kind)
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert str(result.header and result.header.version) == "2.0.0"
    assert any("version 1.0.0 is below 2.0.0" in action for action in result.actions)
    assert contents(pair)[1] == b"\xff" * 0x8000


def test_counter_rises_at_once_when_an_update_stays() -> None:
    counters = [1]
    boot = loader(make_pair(counted(1, 1), counted(2, 3)), counters=counters, rollback=True)
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert (result.nv, counters) == ((3,), [3])
    assert "the stored security counter rises from 1 to 3" in result.actions


def test_counter_rises_before_the_update_is_marked_as_done() -> None:
    """A cut before the last operation, which is that mark, finds it raised."""
    pair = make_pair(counted(1, 1), counted(2, 3))
    counters, before = [1], contents(pair)
    boot = loader(pair, counters=counters, rollback=True)
    boot.set_pending(0, permanent=True)
    marked = contents(pair)
    assert marked != before
    operations = boot.boot().ops
    for area, data in zip((pair.primary, pair.secondary), marked, strict=True):
        area.load(0, data)
    counters[0] = 1
    meter = pair.primary.meter
    meter.ops, meter.cut_before = 0, operations
    with pytest.raises(PowerCut):
        boot.boot()
    assert counters == [3]


def test_counter_rises_at_the_boot_after_the_confirmation_of_a_test() -> None:
    boot = loader(make_pair(counted(1, 1), counted(2, 3)), rollback=True)
    boot.set_pending(0, permanent=False)
    assert boot.boot().nv == (0,)
    boot.set_confirmed(0)
    assert boot.boot().nv == (3,)


def test_image_below_the_stored_counter_is_refused() -> None:
    pair = make_pair(counted(1, 2), counted(2, 1))
    boot = loader(pair, counters=[2], rollback=True)
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert (result.ok, str(result.header and result.header.version)) == (True, "1.0.0")
    assert any("security counter 1 is below the stored one, 2" in action for action in result.actions)
    assert loader(pair, counters=[3], rollback=True).boot().ok is False


def test_counter_outside_of_the_protected_area_does_not_boot() -> None:
    """The check of the image is content, the counter that is to be stored is not found."""
    image = make_image(unprotected=[(TlvType.SEC_CNT, bytes(4))])
    result = loader(make_pair(image), rollback=True).boot()
    assert (result.ok, result.actions[-1]) == (False, "slot 0 does not boot: its image has no security counter")
    for mode in (MOVE, OVERWRITE):
        boot = loader(make_pair(counted(1, 0), image), mode, rollback=True)
        boot.set_pending(0, permanent=True)
        assert boot.boot().stopped == "the image has no security counter"


@pytest.mark.parametrize(
    ("mode", "confirm", "after"),
    [(Mode.DIRECT_XIP, False, 3), (Mode.DIRECT_XIP_WITH_REVERT, False, 0), (Mode.DIRECT_XIP_WITH_REVERT, True, 3)],
)
def test_picked_slot_raises_the_counter_unless_it_may_be_dropped(mode: Mode, confirm: bool, after: int) -> None:
    boot = loader(make_pair(counted(1, 3)), mode, rollback=True)
    boot.set_next(0, 0, active=False, confirm=confirm)
    assert boot.boot().nv == (after,)


def test_overwrite_raises_the_counter_at_once() -> None:
    boot = loader(make_pair(counted(1, 1), counted(2, 3)), OVERWRITE, rollback=True)
    boot.set_pending(0, permanent=False)
    assert boot.boot().nv == (3,)

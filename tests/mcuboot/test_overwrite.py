import pytest

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, BootResult, Mode
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import Magic, SwapType
from tests.mcuboot.images import contents, make_image, make_pair

OLD, NEW = make_image((1, 0, 0, 0), b"old" * 900), make_image((2, 0, 0, 0), b"new" * 3000)


def loader(
    pair: SlotPair, *, fast: bool = True, mode: Mode = Mode.OVERWRITE_ONLY, bootstrap: bool = False
) -> Bootloader:
    options = BootOptions(mode, max_sectors=16, overwrite_fast=fast, bootstrap=bootstrap)
    return Bootloader(options, [pair])


def version(result: BootResult) -> str:
    return str(result.header.version) if result.header else ""


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("permanent", [True, False])
def test_update_replaces_slot_0_for_good(fast: bool, permanent: bool) -> None:
    pair = make_pair(OLD, NEW)
    boot = loader(pair, fast=fast)
    boot.set_pending(0, permanent=permanent)
    result = boot.boot()
    assert (version(result), "copying slot 1 over slot 0" in result.actions) == ("2.0.0", True)
    first, second = contents(pair)
    assert first.startswith(NEW)
    assert second[:4096] == second[-4096:] == b"\xff" * 4096
    assert boot.trailer(0, 0).state().magic is Magic.GOOD
    assert (boot.swap_type(0), boot.boot().ops) == (SwapType.NONE, 0)


def test_plain_copies_the_trailer_too_and_fast_does_not() -> None:
    states = []
    for fast in (False, True):
        boot = loader(make_pair(OLD, NEW), fast=fast)
        boot.set_pending(0, permanent=True)
        boot.boot()
        states.append(boot.trailer(0, 0).state())
    assert [state.image_ok.value for state in states] == ["set", "unset"]
    assert [state.swap_type.name for state in states] == ["PERM", "NONE"]


@pytest.mark.parametrize("fast", [True, False])
def test_power_cut_before_any_operation_ends_with_the_update(fast: bool) -> None:
    for cut in range(1, 100):
        pair = make_pair(OLD, NEW)
        boot = loader(pair, fast=fast)
        boot.set_pending(0, permanent=False)
        pair.primary.meter.ops, pair.primary.meter.cut_before = 0, cut
        try:
            boot.boot()
        except PowerCut:
            pair.primary.meter.cut_before = None
            assert version(boot.boot()) == "2.0.0"
        else:
            assert cut > 15
            return


def test_empty_slot_that_is_marked_stays_marked() -> None:
    boot = loader(make_pair(OLD))
    boot.set_pending(0, permanent=False)
    result = boot.boot()
    assert (version(result), result.ops) == ("1.0.0", 0)
    assert "slot 1 is not fit to run: it is empty" in result.actions
    assert boot.swap_type(0) is SwapType.TEST


def test_slots_of_different_sizes_are_not_updated() -> None:
    pair = make_pair(OLD, NEW, more=(4096,) * 9)
    boot = loader(pair)
    boot.set_pending(0, permanent=False)
    assert boot.incompatible(0) == "slot 0 has 32768 bytes, slot 1 has 36864"
    assert version(boot.boot()) == "1.0.0"
    odd = make_pair(OLD, NEW, sectors=(4096,) * 6, more=(6144,) * 4)
    assert loader(odd).incompatible(0) == "the sectors of the slots do not fit each other"
    # MCUboot asks it of the whole slot here: each has sectors that lie within a larger one of the other.
    both = make_pair(OLD, NEW, sectors=(4096,) * 4 + (16384,), more=(16384,) + (4096,) * 4)
    assert loader(both).incompatible(0) == "the sectors of the slots do not fit each other"
    one = make_pair(OLD, NEW, sectors=(4096,) * 4 + (16384,), more=(16384,) * 2)
    assert loader(one).incompatible(0) == ""
    many = make_pair(OLD, NEW, more=(1024,) * 32)
    assert loader(many).incompatible(0) == "slot 1 has more sectors than 16"


@pytest.mark.parametrize(
    ("mode", "stays"),
    [(Mode.SWAP_USING_MOVE, True), (Mode.SWAP_USING_OFFSET, True), (Mode.OVERWRITE_ONLY, False)],
)
@pytest.mark.parametrize("broken", [b"", OLD[:50] + b"!" + OLD[51:]])
def test_bootstrap_fills_slot_0_from_slot_1(mode: Mode, stays: bool, broken: bytes) -> None:
    pair = make_pair(broken)
    base = 4096 if mode is Mode.SWAP_USING_OFFSET else 0
    pair.secondary.load(base, NEW)
    boot = loader(pair, mode=mode, bootstrap=True)
    result = boot.boot()
    assert (version(result), result.swap_type_done) == ("2.0.0", (SwapType.REVERT,))
    assert contents(pair)[1][base:].startswith(NEW) == stays
    assert boot.boot().ops == 0


def test_bootstrap_copies_from_the_second_sector_with_swap_using_offset_wherever_the_image_is() -> None:
    """The image in the first sector is found fit, and what lies behind it is copied; so it is in MCUboot."""
    pair = make_pair(b"", NEW)
    result = loader(pair, mode=Mode.SWAP_USING_OFFSET, bootstrap=True).boot()
    assert not result.ok
    assert contents(pair)[0].startswith(NEW[4096:8192])


def test_bootstrap_without_anything_to_fill_from_fails() -> None:
    assert loader(make_pair(), bootstrap=True).boot().ok is False
    assert loader(make_pair(OLD, NEW), bootstrap=True).boot().ops == 0
    swapped = loader(make_pair(OLD, NEW), mode=Mode.SWAP_USING_MOVE, bootstrap=True)
    swapped.set_pending(0, permanent=True)
    assert version(swapped.boot()) == "2.0.0"
    assert loader(make_pair(b"junk" * 9, NEW), mode=Mode.SWAP_USING_MOVE, bootstrap=True).boot().ok is False


def test_trailer_of_slot_0_is_what_an_interrupted_swap_would_be_told_by() -> None:
    """There is none in this mode; swap_info in slot 0 is not looked at."""
    boot = loader(make_pair(OLD, NEW))
    boot.set_next(0, 0, active=False, confirm=False)
    assert version(boot.boot()) == "1.0.0"

"""Decisions that all modes share that change slot 0; seen through swap-using-move."""

import pytest

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, BootResult
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import Flag, SwapType
from tests.mcuboot.images import contents, make_image, make_pair

OPTIONS = BootOptions(max_sectors=16)
OLD, NEW = make_image((1, 0, 0, 0)), make_image((2, 0, 0, 0))
BROKEN = NEW[:50] + b"!" + NEW[51:]
NONBOOTABLE = make_image((2, 0, 0, 0), flags=0x10)


def boot_of(pair: SlotPair, options: BootOptions = OPTIONS) -> Bootloader:
    return Bootloader(options, [pair])


def version(result: BootResult) -> str:
    return str(result.header.version) if result.header else ""


def test_nothing_asked_for_boots_slot_0_and_writes_nothing() -> None:
    result = boot_of(make_pair(OLD, NEW)).boot()
    assert (result.ok, version(result), result.ops, result.image_off) == (True, "1.0.0", 0, 0)
    assert (result.pre_swap_type, result.swap_type_done) == ((SwapType.NONE,), (SwapType.NONE,))
    assert (result.active_slots, result.nv) == ((0,), (0,))


def test_broken_update_is_erased_and_the_reason_told() -> None:
    pair = make_pair(OLD, BROKEN)
    boot = boot_of(pair)
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert (version(result), result.swap_type_done) == ("1.0.0", (SwapType.NONE,))
    assert contents(pair)[1] == b"\xff" * 0x8000
    assert "the image in slot 1 is not fit to run (SHA256 hash is" in result.actions[1]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "slot 1 is not fit to run: it is empty"), (NONBOOTABLE, "flagged as not bootable")]
)
def test_update_that_is_none_loses_its_mark_only(data: bytes, reason: str) -> None:
    pair = make_pair(OLD, data)
    boot = boot_of(pair)
    boot.set_pending(0, permanent=False)
    result = boot.boot()
    assert reason in result.actions[1]
    assert contents(pair)[1] == data.ljust(0x8000, b"\xff")
    assert boot.swap_type(0) is SwapType.NONE


def test_revert_without_a_backup_keeps_the_new_image_for_good() -> None:
    pair = make_pair(OLD, NEW)
    boot = boot_of(pair)
    boot.set_pending(0, permanent=False)
    boot.boot()
    pair.secondary.load(0, b"\xff" * 0x8000)
    result = boot.boot()
    assert "there is nothing to go back to" in result.actions[2]
    assert (version(result), boot.swap_type(0)) == ("2.0.0", SwapType.NONE)


def test_slot_0_without_an_image_never_gets_the_update() -> None:
    boot = boot_of(make_pair(b"", NEW))
    boot.set_pending(0, permanent=True)
    for _ in range(2):
        result = boot.boot()
        assert (result.ok, result.header, result.image_off, result.active_slots) == (False, None, None, (None,))
        assert result.actions == ("no image in slot 0, so nothing is swapped", "slot 0 does not boot: it is empty")


@pytest.mark.parametrize(("data", "reason"), [(BROKEN, "SHA256 hash is"), (NONBOOTABLE, "flagged as not bootable")])
def test_slot_0_that_is_not_valid_does_not_boot(data: bytes, reason: str) -> None:
    result = boot_of(make_pair(data)).boot()
    assert not result.ok
    assert reason in result.actions[0]


def test_without_a_check_of_slot_0_its_magic_is_enough() -> None:
    options = BootOptions(max_sectors=16, validate_primary=False)
    assert version(boot_of(make_pair(BROKEN), options).boot()) == "2.0.0"
    result = boot_of(make_pair(), options).boot()
    assert (result.ok, result.actions[-1]) == (False, "slot 0 does not boot: it has no image, the magic is 0xffffffff")


def test_swap_info_in_slot_0_alone_is_taken_for_a_swap_just_begun() -> None:
    """mcuboot-slots.md section 6, the trap: an unmarked image of slot 1 gets booted."""
    boot = boot_of(make_pair(OLD, NEW))
    boot.set_next(0, 0, active=False, confirm=False)
    assert boot.swap_type(0) is SwapType.NONE
    result = boot.boot()
    assert (version(result), result.swap_type_done) == ("2.0.0", (SwapType.TEST,))
    assert "slot 0 tells of a swap (test) that was cut at its start" in result.actions


def test_swap_info_in_slot_0_and_an_empty_slot_1_confirms_slot_0() -> None:
    boot = boot_of(make_pair(OLD))
    boot.set_next(0, 0, active=False, confirm=False)
    result = boot.boot()
    assert (version(result), result.swap_type_done) == ("1.0.0", (SwapType.FAIL,))
    assert boot.trailer(0, 0).state().image_ok is Flag.SET


@pytest.mark.parametrize("kind", [0, 6, 15])
def test_swap_info_of_no_known_kind_stops_the_boot_loader(kind: int) -> None:
    boot = boot_of(make_pair(OLD, NEW))
    boot.trailer(0, 0).write_swap_info(kind, 0)
    boot.trailer(0, 0).write_magic()
    result = boot.boot()
    assert result.stopped == "the trailer of slot 0 tells of a swap of a kind that does not exist"
    assert (result.ok, result.header) == (False, None)
    assert result.actions[-1].startswith("the boot loader hangs: ")


def test_image_without_tlvs_in_slot_0_stops_a_swap() -> None:
    boot = boot_of(make_pair(OLD[:40], NEW))
    boot.set_pending(0, permanent=True)
    result = boot.boot()
    assert result.stopped is not None
    assert "the size of the image in slot 0 cannot be told" in result.stopped


def test_empty_slot_1_does_not_count_for_the_size_of_a_swap() -> None:
    """Padded by a programmer and never marked: slot 0 boots as it is."""
    pair = make_pair(OLD)
    boot_of(pair).trailer(0, 0).write_magic()
    assert version(boot_of(pair).boot()) == "1.0.0"


def test_slot_0_with_too_many_sectors_is_not_looked_at() -> None:
    result = boot_of(make_pair(OLD, NEW, sectors=(1024,) * 32)).boot()
    assert not result.ok
    assert result.actions[0] == "slot 0 has 32 sectors, the boot loader knows 16"

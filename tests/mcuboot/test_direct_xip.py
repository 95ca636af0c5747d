import pytest

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, BootResult, Mode
from smp_dfu_host.mcuboot.options import RamRegion, SlotPair
from tests.mcuboot.images import contents, make_image, make_pair

OPTIONS = BootOptions(Mode.DIRECT_XIP, max_sectors=16)
OLD, NEW = make_image((1, 0, 0, 5)), make_image((2, 0, 0, 0))
ROM_FIXED = 0x100


def boot(first: bytes, second: bytes, options: BootOptions = OPTIONS) -> BootResult:
    return Bootloader(options, [make_pair(first, second)]).boot()


@pytest.mark.parametrize(
    ("first", "second", "slot"),
    [
        (OLD, NEW, 1),
        (NEW, OLD, 0),
        (NEW, NEW, 0),
        (OLD, b"", 0),
        (b"", OLD, 1),
        (make_image((1, 0, 0, 1)), OLD, 0),
        (make_image((3, 0, 0, 0), flags=0x10), OLD, 1),
    ],
)
def test_higher_version_runs_and_nothing_is_written(first: bytes, second: bytes, slot: int) -> None:
    result = boot(first, second)
    assert (result.ok, result.active_slots, result.image_off, result.ops) == (True, (slot,), slot * 0x8000, 0)
    assert (result.swap_type_done, result.stopped) == ((), None)
    assert result.actions[-1] == f"booting version {result.header and result.header.version} from slot {slot}"


def test_build_number_decides_where_it_was_asked_for() -> None:
    options = BootOptions(Mode.DIRECT_XIP, compare_build=True)
    assert boot(make_image((1, 0, 0, 1)), OLD, options).active_slots == (1,)


def test_invalid_image_is_erased_and_the_other_one_runs() -> None:
    pair = make_pair(OLD, NEW[:50] + b"!" + NEW[51:])
    result = Bootloader(OPTIONS, [pair]).boot()
    assert result.active_slots == (0,)
    assert contents(pair)[1] == b"\xff" * 0x8000
    assert "slot 1 is erased: its image is not valid: SHA256" in result.actions[0]


def test_image_for_another_address_is_passed_over_and_kept() -> None:
    fixed = make_image((9, 0, 0, 0), flags=ROM_FIXED, load_addr=0x1234)
    result = boot(fixed, OLD)
    assert (result.active_slots, result.ops) == ((1,), 0)
    assert result.actions[0] == "slot 0 is passed over: built for 0x1234, the slot is at 0x0"
    assert boot(OLD, make_image((9, 0, 0, 0), flags=ROM_FIXED, load_addr=0x8000)).active_slots == (1,)


def test_nothing_to_run_says_why() -> None:
    result = boot(b"garbage!" * 8, b"")
    assert (result.ok, result.active_slots, result.header) == (False, (None,), None)
    assert result.actions[0].startswith("slot 0 has no image: header magic is 0x")
    assert result.actions[1:] == ("slot 1 is empty", "no slot is fit to run")


def test_marks_are_those_of_direct_xip() -> None:
    loader = Bootloader(OPTIONS, [make_pair(OLD, NEW)])
    loader.set_next(0, 1, active=False, confirm=True)
    assert loader.trailer(0, 1).state().copy_done.value == "set"
    assert loader.boot().active_slots == (1,)
    assert (loader.max_image_size(0), loader.incompatible(0)) == (32728, "")


@pytest.mark.parametrize("mode", [Mode.DIRECT_XIP_WITH_REVERT, Mode.RAM_LOAD_WITH_REVERT])
def test_with_revert_an_image_runs_once_on_trust_and_then_only_if_confirmed(mode: Mode) -> None:
    ram = RamRegion(0x20000000, 0x10000)
    old, new = (make_image(version, flags=0x20, load_addr=ram.start) for version in ((1, 0, 0, 0), (2, 0, 0, 0)))
    pair = make_pair(old, new)
    loader = Bootloader(BootOptions(mode, max_sectors=16, ram=ram), [pair])
    loader.set_next(0, 0, active=False, confirm=True)
    loader.set_next(0, 1, active=False, confirm=False)
    first = loader.boot()
    assert (first.active_slots, first.ops) == ((1,), 1)
    assert "slot 1 is tried for the first time" in first.actions
    second = loader.boot()
    assert second.active_slots == (0,)
    assert "slot 1 is erased: it ran before and was not confirmed" in second.actions
    assert contents(pair)[1] == b"\xff" * 0x8000


def test_with_revert_an_unmarked_image_is_erased_even_if_it_is_the_only_one() -> None:
    pair = make_pair(OLD)
    result = Bootloader(BootOptions(Mode.DIRECT_XIP_WITH_REVERT), [pair]).boot()
    assert (result.ok, result.actions[-2:]) == (
        False,
        ("slot 0 is erased: it was not marked to run", "no slot is fit to run"),
    )
    assert contents(pair)[0] == b"\xff" * 0x8000


RAM = RamRegion(0x20000000, 0x4000)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (OLD, "not made to be loaded to RAM"),
        (make_image(flags=0x20, load_addr=RAM.start - 4), "it wants RAM 0x1ffffffc to"),
        (make_image(flags=0x20, load_addr=RAM.start + 0x3F00), "there is 0x20000000 and 0x4000 more"),
        (make_image(flags=0x20, load_addr=RAM.start)[:700], "no TLV area"),
    ],
)
def test_image_that_does_not_fit_the_ram_is_erased(data: bytes, reason: str) -> None:
    pair = make_pair(data)
    result = Bootloader(BootOptions(Mode.RAM_LOAD, ram=RAM), [pair]).boot()
    assert not result.ok
    assert any(reason in action for action in result.actions)
    assert contents(pair)[0] == b"\xff" * 0x8000


def test_ram_is_given_to_one_image_at_a_time() -> None:
    def pair(offset: int) -> SlotPair:
        return make_pair(make_image(flags=0x20, load_addr=RAM.start + offset))

    options = BootOptions(Mode.RAM_LOAD, ram=RAM)
    assert Bootloader(options, [pair(0), pair(0x2000)]).boot().ok
    result = Bootloader(options, [pair(0), pair(0x100)]).boot()
    assert any("where another image is" in action for action in result.actions)

"""Swap using move, against recordings of the real boot loader and in property tests."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions
from smp_dfu_host.mcuboot.flash import FlashMeter, PowerCut
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from tests.conformance.mcuboot import Build, Device, Replay, Report
from tests.mcuboot.images import contents, make_area, make_image, make_pair

VECTORS = Path(__file__).parents[1] / "vectors" / "mcuboot"
OPTIONS = BootOptions(max_sectors=16)
CUTS = json.loads((VECTORS / "cuts.json").read_text(encoding="utf-8"))
OLD, NEW = make_image((1, 0, 0, 0), b"old" * 900), make_image((2, 0, 0, 0), b"new" * 3000)


def recorded_cuts(kind: str) -> Any:
    return next(table for table in CUTS if table["exe"] == "move_a8_i1_s16" and table["kind"] == kind)


@pytest.mark.parametrize("kind", ["test", "revert", "perm"])
def test_power_cut_before_every_operation_ends_as_the_real_boot_loader_does(kind: str) -> None:
    """Each cut, the flash after it and the flash after the next boot: cuts.json."""
    table, report = recorded_cuts(kind), Report()
    replay = Replay(VECTORS / "cuts.json", report)
    replay.cuts([table])
    assert report.failures == []
    assert report.passed == table["ops"] + 1
    print(f"swap-using-move, {kind}: power cut before each of {table['ops']} operations, all ends as recorded")


def trace_of(device: Device) -> list[str]:
    lines: list[str] = []

    def note(kind: str, name: str, offset: int, size: int, data: bytes) -> None:
        text = f" {data.hex()}" if kind == "W" and size <= 64 else ""
        lines.append(f"{kind} {name} 0x{offset:x} {size}{text}")

    device.meter.trace = note
    device.bootloader.boot()
    return lines


@pytest.mark.parametrize("kind", ["test", "revert", "perm"])
def test_operations_are_those_of_the_real_boot_loader_in_the_same_order(kind: str) -> None:
    table = recorded_cuts(kind)
    device = Device(Build.parse(table["exe"]), table["cfg"], Replay(VECTORS / "cuts.json", Report()).contents)
    device.load(table["before"])
    assert trace_of(device) == (VECTORS / table["trace"]).read_text(encoding="utf-8").splitlines()


def test_test_then_revert_brings_back_the_old_image() -> None:
    pair = make_pair(OLD, NEW)
    boot = Bootloader(OPTIONS, [pair])
    boot.set_pending(0, permanent=False)
    assert boot.swap_type(0) is SwapType.TEST
    result = boot.boot()
    assert (result.ok, str(result.header and result.header.version)) == (True, "2.0.0")
    assert result.actions == (
        "slot 1 is marked for a test",
        "slot 1 holds a valid image, version 2.0.0",
        "swapping 3 sectors of slot 0 and slot 1",
        "booting version 2.0.0 from slot 0",
    )
    assert boot.swap_type(0) is SwapType.REVERT
    assert str(boot.boot().header.version) == "1.0.0"  # type: ignore[union-attr]
    assert boot.swap_type(0) is SwapType.NONE
    assert [data[: len(want)] for data, want in zip(contents(pair), (OLD, NEW), strict=True)] == [OLD, NEW]


def test_confirmed_test_stays() -> None:
    boot = Bootloader(OPTIONS, [make_pair(OLD, NEW)])
    boot.set_pending(0, permanent=False)
    boot.boot()
    boot.set_confirmed(0)
    result = boot.boot()
    assert (result.ops, result.swap_type_done, result.actions) == (
        0,
        (SwapType.NONE,),
        ("booting version 2.0.0 from slot 0",),
    )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 3]), st.booleans(), st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(0, 40)
)
def test_any_number_of_torn_cuts_ends_with_one_whole_image(
    kind: int, permanent: bool, cuts: list[int], tear: int
) -> None:
    """However often the power fails, the boot that is let through runs the old or the new image."""
    pair = make_pair(OLD, NEW)
    boot, meter = Bootloader(OPTIONS, [pair]), pair.primary.meter
    boot.set_pending(0, permanent=permanent)
    for _ in range(kind - 1):
        boot.boot()
    for cut in cuts:
        meter.ops, meter.cut_before, meter.tear = 0, cut, tear
        with suppress(PowerCut):
            boot.boot()
    meter.cut_before = None
    result = boot.boot()
    assert result.ok
    first, second = contents(pair)
    assert {first[: len(OLD)], second[: len(OLD)]} & {OLD}
    assert first.startswith((OLD, NEW))


@pytest.mark.parametrize(
    ("primary", "secondary", "reason"),
    [
        ((4096,) * 8, (4096,) * 9, "slot 0 has 8 sectors, slot 1 has 9"),
        ((4096,) * 10, (4096,) * 8, "slot 0 has 10 sectors, slot 1 has 8"),
        ((4096,) * 8, (4096,) * 7 + (8192,), "sectors of different sizes"),
        ((4096,) * 8 + (8192,), (4096,) * 8, "sectors of different sizes"),
        ((4096,) * 9, (4096,) * 8, ""),
    ],
)
def test_slots_must_have_the_same_sectors(primary: tuple[int, ...], secondary: tuple[int, ...], reason: str) -> None:
    pair = make_pair(OLD, NEW, sectors=primary, more=secondary)
    boot = Bootloader(OPTIONS, [pair])
    boot.set_pending(0, permanent=False)
    found = boot.incompatible(0)
    assert reason in found
    assert bool(found) == bool(reason)
    result = boot.boot()
    assert str(result.header and result.header.version) == ("1.0.0" if reason else "2.0.0")


def test_image_of_slot_0_that_leaves_no_free_sector_is_not_swapped() -> None:
    large = make_image((1, 0, 0, 0), bytes(26000))
    boot = Bootloader(BootOptions(max_sectors=16, validate_primary=False), [make_pair(large, NEW)])
    boot.set_pending(0, permanent=False)
    result = boot.boot()
    assert "nothing is swapped: 8 sectors are wanted, 7 are free" in result.actions
    assert (result.ok, result.ops) == (True, 1)


def test_interrupted_swap_says_where_it_goes_on() -> None:
    pair = make_pair(OLD, NEW)
    boot, meter = Bootloader(OPTIONS, [pair]), pair.primary.meter
    boot.set_pending(0, permanent=False)
    meter.ops, meter.cut_before = 0, 30
    with pytest.raises(PowerCut):
        boot.boot()
    meter.cut_before = None
    assert "finishing a swap (test) that was cut at step 1.2" in boot.boot().actions


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    align=st.sampled_from([1, 8, 32]),
    sectors=st.sampled_from([(4096,) * 9, (1024,) * 24, (2048,) * 4 + (4096,) * 5, (1000,) * 24]),
    fewer=st.integers(0, 1),
    limit=st.sampled_from([12, 16, 24]),
    permanent=st.booleans(),
    boots=st.integers(1, 2),
)
def test_a_swap_that_nobody_observes_ends_as_one_step_by_step(
    sizes: tuple[int, int],
    align: int,
    sectors: tuple[int, ...],
    fewer: int,
    limit: int,
    permanent: bool,
    boots: int,
) -> None:
    """Whoever traces the operations sees each of them; contents, counts and words are the same."""
    options = BootOptions(max_sectors=limit, max_align=max(8, align))
    assume(not any(sum(sectors[: len(sectors) - less]) % options.max_align for less in (0, fewer)))
    outcomes = []
    for traced in (False, True):
        meter = FlashMeter(trace=(lambda *_: None) if traced else None)
        primary = make_area("slot 0", sectors, align=align, meter=meter)
        secondary = make_area("slot 1", sectors[: len(sectors) - fewer], align=align, meter=meter)
        for number, (area, size) in enumerate(zip((primary, secondary), sizes, strict=True)):
            image = make_image((number, 0, 0, 0), bytes([number]) * size)
            area.load(0, image[: area.size])
        boot = Bootloader(options, [SlotPair(primary, secondary)])
        boot.set_pending(0, permanent=permanent)
        results = [boot.boot() for _ in range(boots)]
        counts = (meter.ops, meter.misaligned, meter.writes_to_nonerased)
        outcomes.append((contents(SlotPair(primary, secondary)), counts, results))
    assert outcomes[0] == outcomes[1]


def test_a_swap_is_done_at_once_where_its_steps_cannot_be_seen_and_only_there() -> None:
    """The count of what the storage is asked to write tells which way it went."""
    counts = []
    for cut in (None, 10_000, 70):
        pair = make_pair(OLD, NEW)
        boot = Bootloader(OPTIONS, [pair])
        boot.set_pending(0, permanent=True)
        pair.primary.meter.cut_before = cut
        before = pair.primary.generation
        with suppress(PowerCut):
            boot.boot()
        counts.append(pair.primary.generation - before)
    assert counts[0] == counts[1] < counts[2]


def test_swap_of_half_a_mebibyte_takes_less_than_a_second() -> None:
    meter = FlashMeter()
    areas = [make_area(name, (4096,) * 128, meter=meter) for name in ("slot 0", "slot 1")]
    pair = SlotPair(*areas)
    pair.primary.load(0, make_image((1, 0, 0, 0), bytes(400_000)))
    pair.secondary.load(0, make_image((2, 0, 0, 0), bytes(500_000)))
    boot = Bootloader(BootOptions(), [pair])
    boot.set_pending(0, permanent=True)
    start = time.process_time()
    assert boot.boot().ok
    assert time.process_time() - start < 1


def test_max_image_size_leaves_a_spare_sector_and_the_trailer() -> None:
    assert Bootloader(OPTIONS, [make_pair()]).max_image_size(0) == 24576
    assert Bootloader(BootOptions(max_align=32), [make_pair(sectors=(4096,) * 16)]).max_image_size(0) == 14 * 4096

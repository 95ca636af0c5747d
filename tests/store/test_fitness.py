"""Validation on arrival against the boot loader itself: what is refused would not have run, and the other way round."""

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.options import BootOptions, Downgrade, Mode, RamRegion
from smp_dfu_host.mcuboot.request import SetNextError
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.fitness import Fitness, image_base
from smp_dfu_host.store.layout import Areas
from tests.conformance.images import Keys, options_of
from tests.store.builders import tlv

CORPUS = Path(__file__).parents[1] / "vectors" / "images"
SECTORS = (4096,) * 8
SIZE = sum(SECTORS)
BUILDS = (
    "scratch_a8_i1_s16",
    "move_a8_i1_s16",
    "offset_a8_i1_s16",
    "overwrite_a8_i1_s16",
    "owfast_a8_i1_s16",
    "xip_a8_i1_s16",
    "xiprevert_a8_i1_s16",
    "ramload_a8_i1_s16",
    "ramloadrevert_a8_i1_s16",
    "hashonly_a8_i1_s16",
    "hashonly512_a8_i1_s16",
    "ed25519_a8_i1_s16",
    "move-enc_a8_i1_s16",
    "scratch-encraw_a8_i1_s16",
    "overwrite-enc_a8_i1_s16",
    "move-allow_a8_i1_s16",
    "move-hwrb_a8_i1_s16",
    "xip-hwrb_a8_i1_s16",
)
RUNNING = {"hashonly": "unsigned-sha256.bin", "hashonly512": "unsigned-sha512.bin", "ed25519": "signed-ed25519.bin"}
"""What is in slot 0, by build; elsewhere `tlv-all.bin`, which has a security counter."""


@cache
def keys() -> Keys:
    return Keys(CORPUS / "testkeys.json")


@cache
def corpus() -> dict[str, bytes]:
    listed = json.loads((CORPUS / "manifest.json").read_text())["images"]
    names = [each["name"] for each in listed if each.get("size") is not None and each["name"].endswith(".bin")]
    return {name: (CORPUS / "images" / name).read_bytes() for name in names}


@cache
def options_for(build: str) -> BootOptions:
    options = options_of(build, keys())
    assert options is not None
    return options


def flash(options: BootOptions, first: bytes, second: bytes) -> Areas | None:
    """Return two slots with those images; None if the second one does not fit."""
    base, meter = image_base(options, 1, SECTORS), FlashMeter()
    if base + len(second) > SIZE:
        return None
    contents = (first.ljust(SIZE, b"\xff"), (b"\xff" * base + second).ljust(SIZE, b"\xff"), b"\xff" * SECTORS[0])
    areas = [
        FlashArea(f"slot {number}", MemoryStorage(data), SECTORS, 8, address=number * SIZE, meter=meter)
        for number, data in enumerate(contents[:2])
    ]
    scratch = FlashArea("scratch", MemoryStorage(contents[2]), SECTORS[:1], 8, meter=meter)
    return Areas(tuple(areas), scratch if options.mode is Mode.SWAP_USING_SCRATCH else None)


def refusal(options: BootOptions, areas: Areas, counter: int = 0) -> Fault | None:
    try:
        Fitness(options, areas, 1, (counter,)).check()
    except SlotRefusal as exc:
        return exc.fault
    return None


def runs(options: BootOptions, areas: Areas, counter: int = 0) -> bool:
    """Tell whether the boot loader runs what is in slot 1, once it is marked to stay."""
    loader = make_bootloader(options, areas, [counter])
    if not options.mode.updates:
        areas[0].erase(0, SIZE)
    elif not areas[1].is_erased(SIZE - 16, 16):
        areas[1].erase(SIZE - SECTORS[-1], SECTORS[-1])  # a trailer that came with the image does not count
    try:
        loader.set_next(0, 1, active=False, confirm=True)
    except SetNextError:
        return False
    result = loader.boot()
    if options.mode.updates:
        return result.ok and result.swap_type_done == (SwapType.PERM,)
    return result.ok and result.active_slots == (1,)


def running_for(build: str) -> bytes:
    return corpus()[RUNNING.get(build.partition("_")[0], "tlv-all.bin")]


@pytest.mark.parametrize("build", BUILDS)
def test_verdict_is_the_boot_loaders_for_the_whole_corpus(build: str) -> None:
    options, accepted = options_for(build), 0
    for name, data in corpus().items():
        areas = flash(options, running_for(build), data)
        if areas is None:
            continue
        found = refusal(options, areas)
        truth = runs(options, areas)
        marked = name.startswith("bad-trailer") or "pad-align" in name or "confirm-align" in name
        if options.mode.picks_slot and marked and not truth:
            continue  # its trailer takes no mark
        assert (found is None) is truth, (name, found)
        accepted += truth
    assert accepted or "ramload" in build  # the corpus has no images for RAM


@pytest.mark.parametrize("kind", [Downgrade.BY_VERSION, Downgrade.BY_COUNTER])
@pytest.mark.parametrize("build", [build for build in BUILDS if "enc" not in build and "xip" not in build][:5])
@pytest.mark.parametrize("running", ["ver-build.bin", "tlv-all.bin", "ver-0.0.0.bin"])
def test_downgrade_is_refused_as_the_boot_loader_refuses_it(build: str, kind: Downgrade, running: str) -> None:
    options = replace(options_for(build), downgrade=kind)
    for name in ("ver-0.0.0.bin", "ver-build.bin", "signed-ecdsa-p256.bin", "tlv-all.bin"):
        areas = flash(options, corpus()[running], corpus()[name])
        assert areas is not None
        found = refusal(options, areas)
        assert (found is None) is runs(options, areas), name
        assert found in (None, Fault.NOT_NEWER)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(BUILDS),
    st.sampled_from(["signed-ecdsa-p256.bin", "tlv-all.bin", "unsigned-sha256.bin", "enc-ecdsa-p256-aes128.bin"]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
)
def test_what_would_run_is_never_refused(build: str, name: str, changes: list[tuple[int, int]]) -> None:
    """Whatever bytes of an image are changed, validation and boot loader agree."""
    data = bytearray(corpus()[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    options = options_for(build)
    areas = flash(options, running_for(build), bytes(data))
    assert areas is not None
    found = refusal(options, areas)
    assert (found is None) is runs(options, areas)


def made(
    version: tuple[int, ...] = (2, 0, 0), *, flags: int = 0, load: int = 0, protected: bytes = b"", size: int = 100
) -> bytes:
    area = pack("<HH", 0x6908, 4 + len(protected)) + protected if protected else b""
    header = ImageHeader(IMAGE_MAGIC, load, ImageHeader.SIZE, len(area), size, flags, ImageVersion(*version))
    hashed = header.pack() + bytes(size) + area
    entry = tlv(0x10, hashlib.sha256(hashed).digest())
    return hashed + pack("<HH", 0x6907, 4 + len(entry)) + entry


RAM = RamRegion(0x20000000, 0x1000)
RAM_LOAD, ROM_FIXED = 0x20, 0x100


@pytest.mark.parametrize(
    ("mode", "data", "fault"),
    [
        (Mode.RAM_LOAD, made(flags=RAM_LOAD, load=RAM.start), None),
        (Mode.RAM_LOAD, made(), Fault.BAD_HEADER),
        (Mode.RAM_LOAD, made(flags=RAM_LOAD, load=RAM.start - 4), Fault.BAD_ADDRESS),
        (Mode.RAM_LOAD, made(flags=RAM_LOAD, load=RAM.start, size=0x1000), Fault.BAD_ADDRESS),
        (Mode.DIRECT_XIP, made(flags=ROM_FIXED, load=SIZE), None),
        (Mode.DIRECT_XIP, made(flags=ROM_FIXED, load=0), Fault.BAD_ADDRESS),
        (Mode.SWAP_USING_MOVE, made(flags=ROM_FIXED, load=0), None),
        (Mode.SWAP_USING_MOVE, made()[:-1], Fault.INVALID_IMAGE),
        (Mode.SWAP_USING_MOVE, made()[:-40], Fault.NO_TLVS),
        (Mode.SWAP_USING_MOVE, made(size=24576), Fault.TOO_LARGE),
        (Mode.SWAP_USING_MOVE, made(flags=0x400), Fault.BAD_HEADER),
        (Mode.SWAP_USING_MOVE, b"no image at all, but bytes enough for a header", Fault.BAD_HEADER),
        (Mode.SINGLE_SLOT, made(flags=0x10), Fault.BAD_HEADER),
    ],
)
def test_faults_have_names_and_the_boot_loader_agrees(mode: Mode, data: bytes, fault: Fault | None) -> None:
    options = BootOptions(mode, max_sectors=16, ram=RAM)
    areas = flash(options, made((1, 0, 0), flags=RAM_LOAD if mode.loads else 0, load=RAM.start), data)
    assert areas is not None
    assert refusal(options, areas) is fault
    assert runs(options, areas) is (fault is None)


def test_broken_tlv_is_named() -> None:
    data = bytearray(made())
    data[138:140] = b"\xff\x7f"  # the hash's length
    areas = flash(BootOptions(max_sectors=16), made((1, 0, 0)), bytes(data))
    assert areas is not None
    assert refusal(BootOptions(max_sectors=16), areas) is Fault.INVALID_TLV


def wants(image: int, version: tuple[int, ...]) -> bytes:
    return tlv(0x40, pack("<B3x", image) + ImageVersion(*version).pack())


@pytest.mark.parametrize(
    ("protected", "fault"),
    [
        (wants(1, (9, 0, 0)), None),  # that one may yet come
        (wants(0, (2, 0, 0)), None),
        (wants(0, (2, 0, 1)), Fault.INVALID_TLV),
        (wants(2, (1, 0, 0)), Fault.INVALID_TLV),
        (tlv(0x40, bytes(11)), Fault.INVALID_TLV),
    ],
)
def test_only_dependencies_that_can_never_be_met_are_refused(protected: bytes, fault: Fault | None) -> None:
    options, data = BootOptions(max_sectors=16), made(protected=protected)
    first, second = (flash(options, made((1, 0, 0)), each) for each in (data, made((9, 0, 0))))
    assert first is not None
    assert second is not None
    assert refusal(options, Areas((*first, *second))) is fault
    assert refusal(options, first) is None  # alone, nobody looks at them
    for slot in (1, 3):
        make_bootloader(options, Areas((*first, *second))).set_next(slot // 2, 1, active=False, confirm=True)
    result = make_bootloader(options, Areas((*first, *second))).boot()
    assert (result.swap_type_done[0] is SwapType.PERM) is (fault is None)


def test_stored_counter_is_reached_or_the_image_is_refused() -> None:
    options = BootOptions(max_sectors=16, rollback=True)
    data = made(protected=tlv(0x50, pack("<I", 7)))
    for counter, fault in ((7, None), (8, Fault.INVALID_IMAGE)):
        areas = flash(options, made((1, 0, 0), protected=tlv(0x50, pack("<I", 9))), data)
        assert areas is not None
        assert refusal(options, areas, counter) is fault
        assert runs(options, areas, counter) is (fault is None)


def test_slot_0_is_trusted_where_the_boot_loader_does_not_check_it() -> None:
    broken = made()[:-1]
    for trusted in (False, True):
        options = BootOptions(Mode.FIRMWARE_LOADER, validate_primary=not trusted, max_sectors=16)
        areas = flash(options, broken, b"")
        assert areas is not None
        if trusted:
            Fitness(options, areas, 0, ()).check()
            continue
        with pytest.raises(SlotRefusal):
            Fitness(options, areas, 0, ()).check()


def test_bootstrap_lets_an_older_image_replace_a_broken_one() -> None:
    options = BootOptions(max_sectors=16, bootstrap=True, downgrade=Downgrade.BY_VERSION)
    areas = flash(options, made((3, 0, 0))[:-1], made((1, 0, 0)))
    assert areas is not None
    assert refusal(options, areas) is None

"""Validation on arrival against the boot loader, over the whole corpus: every image, recorded build and slot."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.options import BootOptions, Mode
from smp_dfu_host.mcuboot.swap_type import Magic
from smp_dfu_host.mcuboot.tlv import tlv_bounds
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.faults import SlotRefusal
from smp_dfu_host.store.fitness import Fitness
from smp_dfu_host.store.layout import Areas
from tests.conformance.images import ALIGN, SECTORS, Keys, options_of
from tests.conformance.mcuboot_device import VECTORS

CORPUS = VECTORS / "images"
SIZE = sum(SECTORS)


@cache
def entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CORPUS / "manifest.json").read_text(encoding="utf-8"))["images"]
    return found


@cache
def contents(name: str) -> bytes:
    return (CORPUS / "images" / name).read_bytes()


@cache
def build(name: str) -> BootOptions:
    options = options_of(name, Keys(CORPUS / "testkeys.json"))
    assert options is not None
    return options


def companion(place: str, data: bytes) -> bytes:
    """Return another image that a build runs from slot 0, beside which one arrives; nothing if there is none.

    Encrypting builds are not recorded with plain images; what runs without encryption runs there.
    """
    valid = _valid(f"{place}/slot0") or _valid("move_a8_i1_s16/slot0")
    others = [each for each in map(contents, valid) if each != data]
    return next((each for each in others if each[:32] != data[:32]), next(iter(others), b""))


def marks(data: bytes) -> bytes:
    """Return what tells an image from others wherever it runs: all of it, or its header if it is decrypted there."""
    start = data[:32].ljust(32, b"\xff")
    header = ImageHeader.parse(start)
    try:
        return start if header.encrypted else data[: tlv_bounds(MemoryStorage(data), header).end]
    except ImageInvalid:
        return start


@cache
def _valid(place: str) -> list[str]:
    return [each["name"] for each in entries() if (each.get("bootutil") or {}).get(place, {}).get("valid")]


@dataclass(frozen=True)
class Arrival:
    """An image in a slot, before anybody asks for it."""

    options: BootOptions
    slot: int
    data: bytes
    beside: bytes

    def flash(self) -> Areas:
        meter = FlashMeter()
        areas = [
            FlashArea(f"slot {slot}", MemoryStorage(b"\xff" * SIZE), SECTORS, ALIGN, address=slot * SIZE, meter=meter)
            for slot in range(2)
        ]
        base = SECTORS[0] if self.slot == 1 and self.options.mode is Mode.SWAP_USING_OFFSET else 0
        areas[self.slot].load(base, self.data[: SIZE - base])
        if self.slot == 1:
            areas[0].load(0, self.beside)
        scratch = FlashArea("scratch", MemoryStorage(b"\xff" * SECTORS[0]), SECTORS[:1], ALIGN, meter=meter)
        return Areas(tuple(areas), scratch if self.options.mode is Mode.SWAP_USING_SCRATCH else None)

    def refused(self) -> bool:
        try:
            Fitness(self.options, self.flash(), self.slot, (0, 0)).check()
        except SlotRefusal:
            return True
        return False

    def markable(self) -> bool:
        loader = make_bootloader(self.options, self.flash(), [0, 0])
        return loader.trailer(0, self.slot).state().magic is not Magic.BAD

    def runs(self) -> bool:
        """Tell whether a boot runs it, asked for if it can be."""
        areas = self.flash()
        loader = make_bootloader(self.options, areas, [0, 0])
        if self.options.mode.picks_slot:  # where the higher version runs: the other one may be gone by then
            areas[1 - self.slot].load(0, b"\xff" * SIZE)
        try:
            if self.slot == 1 or self.options.mode.forgets:
                loader.set_next(0, self.slot, active=False, confirm=True)
            result = loader.boot()
        except StoreError:
            return False
        wanted, running = marks(self.data), result.active_slots[0]
        return result.ok and running is not None and areas[running].read(0, len(wanted)) == wanted


def arrivals() -> Iterator[tuple[str, Arrival]]:
    for entry in entries():
        for place in entry.get("bootutil") or {}:
            name, _, slot = place.partition("/slot")
            options = build(name)
            if slot == "1" and not (options.mode.updates or options.mode.picks_slot):
                continue  # nothing ever runs from there
            data = contents(entry["name"])
            yield f"{entry['name']} {place}", Arrival(options, int(slot), data, companion(name, data))


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, bool, bool, bool]]:
    """Return of each arrival whether it is refused, whether it would run, whether it can be asked for at all."""
    return [(name, each.refused(), each.runs(), each.markable()) for name, each in arrivals()]


def test_nothing_is_refused_on_arrival_that_the_boot_loader_would_run(
    judged: list[tuple[str, bool, bool, bool]],
) -> None:
    assert len(judged) > 700
    assert sum(runs for _, _, runs, _ in judged) > 200
    assert [name for name, refused, runs, _ in judged if refused and runs] == []


def test_what_is_taken_on_arrival_runs_if_it_can_be_marked(judged: list[tuple[str, bool, bool, bool]]) -> None:
    """An image that was padded for another alignment brings a bad magic: it is valid, but no device can mark it."""
    assert sum(refused for _, refused, _, _ in judged) > 200
    assert [name for name, refused, runs, markable in judged if markable and not refused and not runs] == []
    assert 0 < sum(not markable for *_, markable in judged) < 60

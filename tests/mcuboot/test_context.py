import hashlib

import pytest

from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.context import BootContext, BootStatus, Phase
from smp_dfu_host.mcuboot.flash import FlashArea, MemoryStorage
from smp_dfu_host.mcuboot.options import BootOptions, Mode, SlotPair
from tests.mcuboot.images import make_area, make_image, make_pair


def test_status_is_fresh_until_a_step_was_done() -> None:
    assert BootStatus().fresh
    assert not BootStatus(index=2).fresh
    assert not BootStatus(state=2).fresh
    assert not BootStatus(phase=Phase.SWAP).fresh


def test_status_steps_are_as_wide_as_the_coarser_of_slot_and_scratch() -> None:
    pair = make_pair()
    alone = BootContext(BootOptions(), [pair], None, [0])
    with_scratch = BootContext(BootOptions(), [pair], make_area("scratch", (4096,), align=16), [0])
    assert [context.write_size(context.images[0]) for context in (alone, with_scratch)] == [8, 16]


def test_actions_name_the_image_only_if_there_are_several() -> None:
    one = BootContext(BootOptions(), [make_pair()], None, [0])
    two = BootContext(BootOptions(), [make_pair(), make_pair()], None, [0, 0])
    for context in (one, two):
        context.say(context.images[-1], "hello")
    assert (one.actions, two.actions) == (["hello"], ["image 1: hello"])


class Watched(MemoryStorage):
    """Knows the largest piece that was read."""

    largest = 0

    def read(self, offset: int, size: int) -> bytes:
        self.largest = max(self.largest, size)
        return super().read(offset, size)


def hashes_of(loader: Bootloader, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many images are hashed during a boot."""
    begun: list[str] = []
    new = hashlib.new

    def counted(name: str) -> object:
        begun.append(name)
        return new(name)

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "new", counted)
        assert loader.boot().ok
    return len(begun)


@pytest.mark.parametrize("mode", [Mode.SWAP_USING_MOVE, Mode.SWAP_USING_SCRATCH, Mode.OVERWRITE_ONLY])
def test_update_is_hashed_once_wherever_it_lies(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair(make_image(), make_image((2, 0, 0, 0)))
    loader = Bootloader(BootOptions(mode, max_sectors=16), [pair], make_area("scratch", (4096,)))
    assert hashes_of(loader, monkeypatch) == 1
    loader.set_pending(0, permanent=True)
    assert hashes_of(loader, monkeypatch) == 1


def test_bootstrap_hashes_each_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks about slot 0 before it decides and before it fills it, and again when it is filled."""
    broken = make_image()[:-1] + b"?"
    loader = Bootloader(BootOptions(bootstrap=True, max_sectors=16), [make_pair(broken, make_image((2, 0, 0, 0)))])
    assert hashes_of(loader, monkeypatch) == 2


@pytest.mark.parametrize("mode", [Mode.SWAP_USING_MOVE, Mode.SWAP_USING_OFFSET, Mode.OVERWRITE_ONLY])
def test_no_boot_reads_more_than_a_chunk_at_a_time(mode: Mode) -> None:
    storages = [Watched(b"\xff" * 80 * 4096) for _ in range(2)]
    primary, secondary = (FlashArea(f"slot {n}", storage, (4096,) * 80, 8) for n, storage in enumerate(storages))
    primary.load(0, make_image(payload=bytes(200_000)))
    secondary.load(4096 if mode is Mode.SWAP_USING_OFFSET else 0, make_image((2, 0, 0, 0), bytes(200_000)))
    loader = Bootloader(BootOptions(mode, max_sectors=80, overwrite_fast=False), [SlotPair(primary, secondary)])
    loader.set_pending(0, permanent=True)
    result = loader.boot()
    assert (result.ok, str(result.header and result.header.version)) == (True, "2.0.0")
    assert max(storage.largest for storage in storages) <= 64 * 1024

"""After a boot that the power cut, nothing may be changed before the next boot: no device could be asked then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.store.admission import Chunk
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.upload import Uploads
from tests.store.builders import hash_of, image, slot_bytes, store

OLD, NEW, OTHER = image((1, 0, 0), b"old" * 300), image((2, 0, 0), b"new" * 300), image((3, 0, 0), b"other" * 300)
WHY = "an interrupted swap: run `smp-dfu-host boot` first"
CHANGES: dict[str, Callable[[SlotStore], object]] = {
    "test": lambda slots: slots.set_state(hash_of(NEW), confirm=False),
    "confirm": lambda slots: slots.set_state(None, confirm=True),
    "confirm itself": lambda slots: slots.confirm_running(),
    "erase": lambda slots: slots.erase(1),
    "load": lambda slots: slots.load(1, OTHER),
    "load unchecked": lambda slots: slots.load(1, OTHER, check=False),
    "place an upload": lambda slots: Uploads(slots).inspect(Chunk(0, OTHER, len(OTHER)), 0),
    "make room for an upload": lambda slots: slots.writing(1).__enter__(),
    "upload what is there": lambda slots: slots.renew(1),
}


def marked(folder: Path, mode: str) -> SlotStore:
    (folder / "factory.bin").write_bytes(OLD)
    slots = store(folder, bootloader={"mode": mode}, image={"factory": "factory.bin"})
    slots.boot()
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    return slots


def cut(slots: SlotStore, before: int | None = None) -> None:
    with pytest.raises(PowerCut):
        slots.boot(before or slots.preview_boot().ops // 2)


@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-move", "swap-using-offset", "overwrite-only"])
@pytest.mark.parametrize("change", CHANGES)
def test_no_slot_is_changed_between_a_cut_boot_and_the_next(tmp_path: Path, mode: str, change: str) -> None:
    slots = marked(tmp_path, mode)
    cut(slots)
    before = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    with pytest.raises(StoreError, match=WHY):
        CHANGES[change](slots)
    assert [slot_bytes(tmp_path, slot) for slot in (0, 1)] == before
    assert slots.boot().ok
    slots.set_state(None, confirm=True)
    slots.erase(1)


@pytest.mark.parametrize("before", [1, 5, 6])
def test_mark_that_is_still_there_does_not_allow_an_upload_over_it(tmp_path: Path, before: int) -> None:
    """Until the mark of slot 1 is erased (operation 6 of a move) the swap starts over: with what is in slot 1 then."""
    slots = marked(tmp_path, "swap-using-move")
    cut(slots, before)
    with pytest.raises(StoreError, match=WHY):
        slots.load(1, OTHER)
    slots.boot()
    assert slot_bytes(tmp_path, 0).startswith(NEW)


def test_another_process_knows_of_the_cut(tmp_path: Path) -> None:
    slots = marked(tmp_path, "swap-using-move")
    cut(slots)
    again = store(tmp_path, bootloader={"mode": "swap-using-move"})
    with pytest.raises(StoreError, match=WHY):
        again.erase(1)
    cut(again)
    with pytest.raises(StoreError, match=WHY):
        again.erase(1)


def test_dump_of_a_slot_can_be_put_in_all_the_same(tmp_path: Path) -> None:
    slots = marked(tmp_path, "swap-using-move")
    before = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    cut(slots)
    for slot, contents in enumerate(before):
        slots.restore(slot, contents)
    assert slots.boot().ok
    assert slot_bytes(tmp_path, 0).startswith(NEW)


@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-move", "swap-using-offset"])
def test_dumps_with_an_interrupted_swap_are_known_as_such(tmp_path: Path, mode: str) -> None:
    slots = marked(tmp_path, mode)
    cut(slots)
    dumps = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    scratch = slots.layout.slot(2).read_bytes() if mode == "swap-using-scratch" else b""
    slots.boot()
    slots.set_state(None, confirm=True)
    for slot, contents in enumerate(dumps):
        slots.restore(slot, contents)
    if scratch:
        slots.layout.slot(2).write_bytes(scratch)
    with pytest.raises(StoreError, match=WHY):
        slots.erase(1)
    slots.boot()
    slots.confirm_running()


def test_when_nothing_boots_after_a_cut_any_slot_can_be_loaded(tmp_path: Path) -> None:
    slots = marked(tmp_path, "overwrite-only")
    cut(slots)
    slots.restore(1, slots.layout.blank(1))
    assert not slots.boot().ok
    slots.load(0, NEW)
    assert slots.boot().ok

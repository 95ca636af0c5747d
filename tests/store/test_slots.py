"""The life of images in the slots, as a client and the boot loader see it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.incoming import Incoming
from smp_dfu_host.store.listing import BootType, NextBoot
from smp_dfu_host.store.slots import SlotStore
from tests.store.builders import SECTOR, SLOT, flags, hash_of, image, slot_bytes, store
from tests.store.test_fitness import made, wants

OLD, NEW = image((1, 0, 0), b"old"), image((2, 0, 0), b"new")


def with_old(folder: Path, **sections: object) -> SlotStore:
    (folder / "old.bin").write_bytes(OLD)
    sections.setdefault("image", {"factory": "old.bin"})
    made = store(folder, **sections)
    made.boot()
    return made


def versions(of: SlotStore) -> dict[int, str]:
    return {view.slot: str(view.version) for view in of.slots()}


@contextmanager
def refused(fault: Fault) -> Iterator[None]:
    with pytest.raises(SlotRefusal) as refusal:
        yield
    assert refusal.value.fault is fault


def test_a_test_that_is_confirmed_stays(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    assert flags(slots) == {0: "active confirmed", 1: ""}
    assert slots.set_state(hash_of(NEW), confirm=False) is None
    assert flags(slots) == {0: "active confirmed", 1: "pending"}
    assert slots.boot().ok
    assert versions(slots) == {0: "2.0.0", 1: "1.0.0"}
    assert flags(slots) == {0: "active", 1: "confirmed"}
    assert slots.set_state(None, confirm=True) == 0
    slots.boot()
    assert versions(slots) == {0: "2.0.0", 1: "1.0.0"}
    assert flags(slots) == {0: "active confirmed", 1: ""}


def test_a_test_that_is_not_confirmed_is_rolled_back(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    slots.boot()
    assert versions(slots) == {0: "1.0.0", 1: "2.0.0"}
    assert flags(slots) == {0: "active confirmed", 1: ""}


def test_a_confirmed_image_is_swapped_for_good(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    assert slots.set_state(hash_of(NEW), confirm=True) is None
    assert flags(slots) == {0: "active confirmed", 1: "pending permanent"}
    assert slots.swap_type() is SwapType.PERM
    assert slots.next_boot() == NextBoot(BootType.NORMAL, 1)
    slots.boot()
    slots.boot()
    assert versions(slots) == {0: "2.0.0", 1: "1.0.0"}


def rolled_back(folder: Path, **sections: object) -> SlotStore:
    slots = with_old(folder, **sections)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    slots.boot()
    return slots


def test_a_rolled_back_image_is_not_confirmed_but_can_be_tested(tmp_path: Path) -> None:
    slots = rolled_back(tmp_path)
    with refused(Fault.ROLLED_BACK):
        slots.set_state(hash_of(NEW), confirm=True)
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    assert slots.set_state(hash_of(NEW), confirm=True) == 0


def test_another_process_knows_of_the_rollback(tmp_path: Path) -> None:
    rolled_back(tmp_path)
    with refused(Fault.ROLLED_BACK):
        store(tmp_path).set_state(hash_of(NEW), confirm=True)


def test_a_rollback_is_forgotten_when_the_image_is_loaded_again(tmp_path: Path) -> None:
    slots = rolled_back(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=True)
    assert flags(slots)[1] == "pending permanent"


def test_a_rollback_is_forgotten_when_another_boot_moved_the_image(tmp_path: Path) -> None:
    slots = rolled_back(tmp_path)
    slots.boot()
    assert slots.state().rolled_back == {1: hash_of(NEW).hex()}
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    assert slots.state().rolled_back == {}


def test_a_rollback_does_not_matter_if_configured_so(tmp_path: Path) -> None:
    slots = rolled_back(tmp_path, image={"factory": "old.bin", "confirm_rolled_back": True})
    slots.set_state(hash_of(NEW), confirm=True)
    assert flags(slots)[1] == "pending permanent"


def test_confirm_running_confirms_a_tested_image(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    assert slots.confirm_running()
    assert flags(slots) == {0: "active confirmed", 1: ""}
    before = slot_bytes(tmp_path, 0)
    assert not slots.confirm_running()
    assert slot_bytes(tmp_path, 0) == before


def test_confirm_running_without_a_running_image_is_refused(tmp_path: Path) -> None:
    slots = broken(tmp_path)
    with pytest.raises(StoreError, match="no image runs"):
        slots.confirm_running()


def broken(folder: Path) -> SlotStore:
    slots = with_old(folder)
    (folder / "store" / "slot0.bin").write_bytes(b"\xff" * SLOT)
    assert not slots.boot().ok
    return slots


def test_when_no_image_boots_the_state_says_why_and_any_slot_can_be_loaded(tmp_path: Path) -> None:
    slots = broken(tmp_path)
    assert slots.running_slot() is None
    assert slots.state().reason
    slots.load(0, NEW)
    assert "active" not in flags(slots)[0]
    assert slots.boot().ok
    assert (slots.running_slot(), flags(slots)) == (0, {0: "active confirmed"})


@pytest.mark.parametrize("change", ["erase", "load"])
def test_slots_in_use_are_not_changed(tmp_path: Path, change: str) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    slots.boot()
    for slot in (0, 1):
        with refused(Fault.IN_USE):
            slots.erase(slot) if change == "erase" else slots.load(slot, NEW)
    with refused(Fault.IN_USE):
        slots.upload_slot()


def test_erase_cancels_a_schedule(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=True)
    slots.erase(1)
    assert (flags(slots), slots.swap_type()) == ({0: "active confirmed"}, SwapType.NONE)
    assert slot_bytes(tmp_path, 1) == b"\xff" * SLOT


@pytest.mark.parametrize(("slot", "fault"), [(2, Fault.INVALID_SLOT), (3, Fault.INVALID_SLOT), (4, Fault.NO_AREA)])
def test_slots_that_are_not_there_are_refused(tmp_path: Path, slot: int, fault: Fault) -> None:
    slots = with_old(tmp_path)
    with refused(fault):
        slots.erase(slot)
    with refused(fault):
        slots.load(slot, NEW)


def test_load_refuses_what_the_boot_loader_would_refuse(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    before = slot_bytes(tmp_path, 1)
    with refused(Fault.TOO_LARGE):
        slots.load(1, bytes(SLOT + 1))
    for data, fault in (
        (b"no image", Fault.BAD_HEADER),
        (NEW[:-1] + b"\0", Fault.INVALID_IMAGE),
        (image(payload=bytes(SLOT - 200)), Fault.TOO_LARGE),
    ):
        with refused(fault):
            slots.load(1, data)
    assert slot_bytes(tmp_path, 1) == before
    slots.load(1, b"no image", check=False)
    assert slot_bytes(tmp_path, 1).startswith(b"no image\xff")


def test_a_dump_of_a_whole_slot_can_be_loaded(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=True)
    dump = slot_bytes(tmp_path, 1)
    slots.erase(1)
    slots.load(1, dump)
    assert flags(slots)[1] == "pending permanent"


def test_state_writes_by_a_hash_that_is_nowhere_are_refused(tmp_path: Path) -> None:
    with refused(Fault.HASH_NOT_FOUND):
        with_old(tmp_path).set_state(bytes(32), confirm=True)


def test_a_mark_without_effect_is_an_error(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    with slots.layout.slot(1).open("r+b") as file:  # a good magic, and an image_ok that is neither set nor erased
        file.seek(SLOT - 24)
        file.write(b"\x33".ljust(8, b"\xff") + bytes.fromhex("77c295f360d2ef7f3552500f2cb67980"))
    with pytest.raises(StoreError, match="takes no mark"):
        slots.set_state(hash_of(NEW), confirm=True)


def test_preview_says_what_a_boot_does_and_writes_nothing(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    before = [slot_bytes(tmp_path, slot) for slot in (0, 1)], slots.state()
    preview = slots.preview_boot()
    assert (preview.ok, preview.swap_type_done) == (True, (SwapType.TEST,))
    assert ([slot_bytes(tmp_path, slot) for slot in (0, 1)], slots.state()) == before
    assert slots.boot() == preview


def test_a_boot_cut_at_any_operation_is_finished_by_the_next(tmp_path: Path) -> None:
    """The interrupted flash is in the files, and the boot behind the cut ends where an uncut one does."""
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    start = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    operations = slots.boot().ops
    end = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    interrupted = 0
    for cut in range(1, operations + 1):
        for slot, data in enumerate(start):
            (tmp_path / "store" / f"slot{slot}.bin").write_bytes(data)
        with pytest.raises(PowerCut):
            slots.boot(cut_before=cut)
        interrupted += [slot_bytes(tmp_path, slot) for slot in (0, 1)] not in (start, end)
        slots.boot()
        assert [slot_bytes(tmp_path, slot) for slot in (0, 1)] == end
    assert interrupted > operations // 2


def test_a_boot_without_work_leaves_the_slot_files_alone(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    before = [(tmp_path / "store" / f"slot{slot}.bin").stat() for slot in (0, 1)]
    slots.boot()
    after = [(tmp_path / "store" / f"slot{slot}.bin").stat() for slot in (0, 1)]
    assert [(each.st_ino, each.st_mtime_ns) for each in before] == [(each.st_ino, each.st_mtime_ns) for each in after]
    assert slots.state().boots == 2


def xip(folder: Path) -> SlotStore:
    return with_old(folder, bootloader={"mode": "direct-xip"})


def test_direct_xip_boots_the_higher_version_where_it_is(tmp_path: Path) -> None:
    slots = xip(tmp_path)
    slots.load(1, NEW)
    assert flags(slots) == {0: "active confirmed", 1: "pending permanent"}
    assert slots.boot().ok
    assert (slots.running_slot(), slots.upload_slot()) == (1, 0)
    assert flags(slots) == {0: "", 1: "active confirmed"}
    assert store(tmp_path, bootloader={"mode": "direct-xip"}).running_slot() == 1


def test_direct_xip_does_not_boot_a_lower_version(tmp_path: Path) -> None:
    slots = xip(tmp_path)
    slots.load(1, image((0, 9, 0)))
    assert flags(slots) == {0: "active confirmed", 1: ""}
    slots.boot()
    assert slots.running_slot() == 0


def test_direct_xip_takes_no_marks(tmp_path: Path) -> None:
    slots = xip(tmp_path)
    with refused(Fault.NOT_SUPPORTED):
        slots.set_state(None, confirm=True)


def test_sizes_and_trailers_are_told_for_pictures(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    assert slots.max_image_size() == SLOT - 2 * SECTOR
    assert slots.trailer_offset(1) == SLOT - 432
    slots.load(1, NEW)
    slots.set_state(hash_of(NEW), confirm=False)
    assert [field.name for field in slots.trailer_fields(1) if field.written] == ["swap_info", "magic"]
    assert slots.listed(1) is not None


def test_a_slot_that_disappears_is_named(tmp_path: Path) -> None:
    slots = with_old(tmp_path)
    (tmp_path / "store" / "slot1.bin").unlink()
    with pytest.raises(StoreError, match=r"slot1\.bin: No such file"):
        slots.slots()


def test_readers_beside_boots_see_one_moment(tmp_path: Path) -> None:
    """While slots are swapped over and over, another process lists the old pair or the new one, never a mixture."""
    slots = with_old(tmp_path)
    slots.load(1, NEW)
    seen: set[tuple[str, ...]] = set()
    done = threading.Event()

    def read() -> None:
        reader = store(tmp_path)
        while not done.is_set():
            seen.add(tuple(versions(reader).values()))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(20):
        slots.set_state(hash_of(NEW), confirm=False)
        slots.boot()
        slots.boot()
    done.set()
    thread.join()
    assert seen <= {("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")}
    assert seen


def test_images_that_want_each_other_are_loaded_together_or_not_at_all(tmp_path: Path) -> None:
    slots = store(tmp_path, bootloader={"images": 2})
    app, net = (made((2, 0, 0), protected=wants(other, (2, 0, 0))) for other in (1, 0))
    broken = net[:-1] + bytes([net[-1] ^ 1])
    before = [slot_bytes(tmp_path, slot) for slot in slots.layout.slots]
    with pytest.raises(SlotRefusal, match=r"^net\.bin: ") as refusal:
        slots.load_all([Incoming(1, app, "app.bin"), Incoming(3, broken, "net.bin")])
    assert refusal.value.fault is Fault.INVALID_IMAGE
    with refused(Fault.IN_USE):
        slots.load_all([Incoming(1, app), Incoming(2, net)])
    assert [slot_bytes(tmp_path, slot) for slot in slots.layout.slots] == before
    slots.load_all([Incoming(1, app), Incoming(3, net)])
    for slot in (1, 3):
        listed = slots.listed(slot)
        assert listed is not None
        slots.set_state(listed.hash, confirm=False, slot=slot)
    slots.boot()
    assert versions(slots)[0] == versions(slots)[2] == "2.0.0"

"""What clients see and can do in each mode of the boot loader: list, test, confirm, upload slot, erase, reset."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.config import MODES
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.store.admission import Chunk
from smp_dfu_host.store.factory import make_image
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.upload import Uploads
from tests.store.builders import SECTOR, SLOT, flags, hash_of, image, slot_bytes, store

UPDATING = ("swap-using-scratch", "overwrite-only", "swap-using-move", "swap-using-offset")
SWAPPING = ("swap-using-scratch", "swap-using-move")
PICKING = ("direct-xip", "direct-xip-with-revert", "ram-load", "ram-load-with-revert")
REVERTING = ("direct-xip-with-revert", "ram-load-with-revert")
ONE_SLOT = ("single-slot", "firmware-loader", "single-slot-ram-load")
OLD, NEW = (1, 0, 0), (2, 0, 0)


def made(folder: Path, mode: str, **sections: Any) -> SlotStore:
    """Return a store that has booted version 1.0.0."""
    (folder / "factory.bin").write_bytes(version(OLD, mode))
    build = {"mode": mode, **sections.pop("bootloader", {})}
    slots = store(folder, bootloader=build, image={"factory": "factory.bin", **sections.pop("image", {})}, **sections)
    assert slots.boot().ok
    return slots


def version(number: tuple[int, ...], mode: str, payload: bytes = b"payload") -> bytes:
    loads = "ram-load" in mode
    return image(number, payload, flags=0x20 if loads else 0, load_addr=0x20000000 if loads else 0)


def upload(slots: SlotStore, data: bytes, number: int = 0, **options: Any) -> None:
    """Upload in two chunks, or in one if that is enough."""
    uploads = Uploads(slots, **options)
    step = uploads.inspect(Chunk(0, data[:100], len(data), image=number), 0)
    uploads.begin(step, "me", 0)
    uploads.write(data[:100])
    if len(data) > 100:
        uploads.inspect(Chunk(100, data[100:]), 0)
        uploads.write(data[100:])
    uploads.finish()


def refusal_of(slots: SlotStore, digest: bytes | None, *, confirm: bool) -> Fault:
    with pytest.raises(SlotRefusal) as refusal:
        slots.set_state(digest, confirm=confirm)
    return refusal.value.fault


def running(slots: SlotStore) -> str:
    return next(str(view.version) for view in slots.slots() if view.active)


@pytest.mark.parametrize("mode", MODES)
def test_a_new_store_boots_in_every_mode_and_goes_on_booting(tmp_path: Path, mode: str) -> None:
    slots = store(tmp_path, bootloader={"mode": mode})
    assert [slots.boot().ok for _ in range(3)] == [True] * 3
    assert flags(slots)[0] == "active confirmed"


@pytest.mark.parametrize("mode", UPDATING)
def test_update_modes_take_an_upload_and_run_it_when_it_is_confirmed(tmp_path: Path, mode: str) -> None:
    slots, data = made(tmp_path, mode), version(NEW, mode)
    upload(slots, data)
    assert flags(slots) == {0: "active confirmed", 1: ""}
    slots.boot()
    assert running(slots) == "1.0.0"
    assert slots.set_state(hash_of(data), confirm=True) is None
    assert flags(slots)[1] == "pending permanent"
    slots.boot()
    assert (running(slots), flags(slots)[0]) == ("2.0.0", "active confirmed")
    slots.boot()
    assert running(slots) == "2.0.0"


@pytest.mark.parametrize("mode", SWAPPING)
def test_swaps_go_back_from_a_test_that_is_not_confirmed(tmp_path: Path, mode: str) -> None:
    slots, data = made(tmp_path, mode), version(NEW, mode)
    upload(slots, data)
    slots.set_state(hash_of(data), confirm=False)
    slots.boot()
    assert (running(slots), flags(slots)) == ("2.0.0", {0: "active", 1: "confirmed"})
    with pytest.raises(SlotRefusal) as refusal:
        slots.upload_slot()
    assert refusal.value.fault is Fault.IN_USE
    slots.boot()
    assert running(slots) == "1.0.0"
    assert refusal_of(slots, hash_of(data), confirm=True) is Fault.ROLLED_BACK


def test_swap_using_offset_uploads_to_the_second_sector_and_lists_what_is_there(tmp_path: Path) -> None:
    slots, data = made(tmp_path, "swap-using-offset"), version(NEW, "", bytes(700))
    upload(slots, data)
    assert slot_bytes(tmp_path, 1)[: SECTOR + len(data)] == b"\xff" * SECTOR + data
    slots.set_state(hash_of(data), confirm=False)
    slots.boot()
    assert (running(slots), flags(slots)) == ("2.0.0", {0: "active"})  # the old image lies in the first sector
    slots.boot()
    assert (running(slots), flags(slots)) == ("1.0.0", {0: "active confirmed", 1: ""})
    assert refusal_of(slots, hash_of(data), confirm=True) is Fault.ROLLED_BACK


def test_swap_using_offset_leaves_a_sector_less_for_an_upload(tmp_path: Path) -> None:
    slots = made(tmp_path, "swap-using-offset")
    data = version(NEW, "")
    uploads = Uploads(slots, validate=False)
    assert uploads.inspect(Chunk(0, data, SLOT - SECTOR), 0).proceed
    with pytest.raises(SlotRefusal, match=f"slot 1 has {SLOT - SECTOR}"):
        uploads.inspect(Chunk(0, data, SLOT - SECTOR + 1), 0)
    with pytest.raises(SlotRefusal, match=f"slot 1 has {SLOT - SECTOR}"):
        slots.load(1, bytes(SLOT - SECTOR + 1))
    slots.load(1, data)
    assert slots.upload_slot() == 1
    assert Uploads(slots).holds(uploads.inspect(Chunk(0, data, len(data), _sha(data)), 0), data)
    assert flags(slots)[1] == ""


def test_swap_using_scratch_keeps_its_scratch_area_in_a_file(tmp_path: Path) -> None:
    slots, data = made(tmp_path, "swap-using-scratch"), version(NEW, "", bytes(2000))
    file = tmp_path / "store" / "scratch.bin"
    assert file.read_bytes() == b"\xff" * SECTOR
    upload(slots, data)
    slots.set_state(hash_of(data), confirm=True)
    slots.boot()
    assert file.read_bytes() != b"\xff" * SECTOR


@pytest.mark.parametrize("mode", ["direct-xip", "ram-load"])
def test_the_higher_version_runs_where_marks_do_not_count(tmp_path: Path, mode: str) -> None:
    slots, data = made(tmp_path, mode), version(NEW, mode)
    upload(slots, data)
    assert flags(slots) == {0: "active confirmed", 1: "pending permanent"}
    assert refusal_of(slots, hash_of(data), confirm=True) is Fault.NOT_SUPPORTED
    assert refusal_of(slots, None, confirm=True) is Fault.NOT_SUPPORTED
    slots.boot()
    assert flags(slots) == {0: "", 1: "active confirmed"}
    assert (slots.running_slot(), slots.upload_slot()) == (1, 0)
    with pytest.raises(SlotRefusal):
        slots.erase(1)
    slots.erase(0)
    slots.boot()
    assert flags(slots) == {1: "active confirmed"}


def test_each_slot_of_direct_xip_has_its_own_room(tmp_path: Path) -> None:
    slots = store(tmp_path, bootloader={"mode": "direct-xip"}, flash={"slots": ["512x16", "512x32"], "max_sectors": 32})
    slots.boot()
    upload(slots, version(NEW, "", bytes(12_000)))
    slots.boot()
    assert running(slots) == "2.0.0"
    with pytest.raises(SlotRefusal) as refusal:
        upload(slots, version((3, 0, 0), "", bytes(SLOT - 100)))
    assert refusal.value.fault is Fault.TOO_LARGE


@pytest.mark.parametrize("mode", REVERTING)
def test_with_revert_an_unmarked_image_is_erased_and_a_tested_one_runs_once(tmp_path: Path, mode: str) -> None:
    slots, data = made(tmp_path, mode), version(NEW, mode)
    upload(slots, data)
    assert flags(slots) == {0: "active confirmed", 1: ""}
    slots.boot()
    assert flags(slots) == {0: "active confirmed"}
    upload(slots, data)
    assert slots.set_state(hash_of(data), confirm=False) is None
    assert flags(slots) == {0: "active confirmed", 1: "pending"}
    slots.boot()
    assert flags(slots) == {0: "confirmed", 1: "active"}
    with pytest.raises(SlotRefusal) as refusal:
        slots.upload_slot()
    assert refusal.value.fault is Fault.IN_USE
    slots.boot()
    assert flags(slots) == {0: "active confirmed"}


@pytest.mark.parametrize("mode", REVERTING)
def test_with_revert_a_confirmed_image_stays(tmp_path: Path, mode: str) -> None:
    slots, data = made(tmp_path, mode), version(NEW, mode)
    upload(slots, data)
    slots.set_state(hash_of(data), confirm=False)
    assert refusal_of(slots, hash_of(version(OLD, mode)), confirm=False) is Fault.TEST_OF_RUNNING
    slots.boot()
    assert slots.set_state(None, confirm=True) == 1
    assert flags(slots) == {0: "", 1: "active confirmed"}
    slots.boot()
    assert (running(slots), slots.upload_slot()) == ("2.0.0", 0)


@pytest.mark.parametrize("mode", REVERTING)
def test_with_revert_the_mark_of_a_lower_version_changes_nothing(tmp_path: Path, mode: str) -> None:
    slots, data = made(tmp_path, mode), version((0, 9, 0), mode)
    upload(slots, data)
    slots.set_state(hash_of(data), confirm=True)
    assert flags(slots) == {0: "active confirmed", 1: ""}
    slots.boot()
    assert running(slots) == "1.0.0"


@pytest.mark.parametrize("mode", ONE_SLOT)
def test_where_nothing_changes_places_there_is_no_upload_and_no_mark(tmp_path: Path, mode: str) -> None:
    slots = made(tmp_path, mode)
    with pytest.raises(SlotRefusal) as refusal:
        slots.upload_slot()
    assert refusal.value.fault is Fault.NO_SLOT
    assert refusal_of(slots, None, confirm=True) is Fault.NOT_SUPPORTED
    slots.confirm_running()
    slots.erase(1)
    assert flags(slots) == {0: "active confirmed"}


def test_the_firmware_loader_updates_slot_0(tmp_path: Path) -> None:
    slots, data = made(tmp_path, "firmware-loader"), version(NEW, "")
    slots.load(1, version((9, 0, 0), "", b"loader"))
    slots.boot(loader=True)
    assert (running(slots), slots.upload_slot()) == ("9.0.0", 0)
    upload(slots, data)
    slots.boot()
    assert running(slots) == "2.0.0"


def test_stored_counters_rise_with_what_is_confirmed_and_keep_older_images_out(tmp_path: Path) -> None:
    def counted(number: tuple[int, ...], counter: int) -> bytes:
        return make_image(ImageVersion(*number), counter=counter)

    (tmp_path / "factory.bin").write_bytes(counted(OLD, 3))
    sections = {"bootloader": {"rollback_counter": True}, "image": {"factory": "factory.bin"}}
    slots = store(tmp_path, **sections)
    slots.boot()
    assert slots.state().counters == (3,)
    with pytest.raises(SlotRefusal, match="security counter 2 is below the stored one, 3"):
        upload(slots, counted(NEW, 2))
    upload(slots, counted(NEW, 5))
    slots.set_state(hash_of_counted(slots), confirm=True)
    assert slots.preview_boot().nv == (5,)
    assert slots.state().counters == (3,)
    slots.boot()
    assert store(tmp_path, **sections).state().counters == (5,)
    with pytest.raises(SlotRefusal, match="is below the stored one, 5"):
        upload(slots, counted((3, 0, 0), 4))


def hash_of_counted(slots: SlotStore) -> bytes:
    listed = slots.listed(1)
    assert listed is not None
    return listed.hash


def test_a_bootstrap_is_no_revert(tmp_path: Path) -> None:
    slots = store(tmp_path, bootloader={"bootstrap": True})
    slots.load(1, version(NEW, ""))
    slots.layout.slot(0).write_bytes(slots.layout.blank(0))
    slots.boot()
    assert running(slots) == "2.0.0"
    assert slots.state().rolled_back == {}


def test_images_of_a_sha512_build_are_known_by_that_hash(tmp_path: Path) -> None:
    slots = store(tmp_path, bootloader={"hash": "sha512"})
    slots.load(1, make_image(ImageVersion(*NEW), hash_kind=HashKind.SHA512))
    digest = slots.slots()[1].hash
    assert len(digest) == 64
    assert refusal_of(slots, digest[:32], confirm=False) is Fault.INVALID_HASH
    slots.set_state(digest, confirm=True)
    slots.boot()
    assert running(slots) == "2.0.0"


def test_a_mode_can_be_changed_on_the_same_store(tmp_path: Path) -> None:
    made(tmp_path, "direct-xip")
    slots = store(tmp_path, bootloader={"mode": "swap-using-scratch", "images": 2})
    assert slots.boot().ok
    assert sorted(path.name for path in (tmp_path / "store").glob("*.bin")) == [
        "scratch.bin",
        "slot0.bin",
        "slot1.bin",
        "slot2.bin",
        "slot3.bin",
    ]
    assert len({view.hash for view in slots.slots()}) == 2


def test_a_store_whose_scratch_area_has_another_size_says_so(tmp_path: Path) -> None:
    made(tmp_path, "swap-using-scratch")
    (tmp_path / "store" / "scratch.bin").write_bytes(b"")
    with pytest.raises(Exception, match=r"scratch\.bin: 0 bytes, \[flash\] makes a scratch area of 512"):
        made(tmp_path, "swap-using-scratch")


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def swapped_out(folder: Path) -> tuple[SlotStore, bytes]:
    """Return a store in swap-using-offset mode, and a dump of slot 1 with what was swapped out to its first sector."""
    slots, data = made(folder, "swap-using-offset"), version(NEW, "", bytes(700))
    upload(slots, data)
    slots.set_state(hash_of(data), confirm=True)
    slots.boot()
    dump = slot_bytes(folder, 1)
    assert dump.startswith(version(OLD, ""))
    slots.erase(1)
    return slots, dump


def test_offset_checks_the_dump_of_a_slot_where_its_image_is(tmp_path: Path) -> None:
    """What was swapped out lies in the first sector of slot 1, an update in the second."""
    slots, dump = swapped_out(tmp_path)
    slots.load(1, dump)
    assert slot_bytes(tmp_path, 1) == dump
    broken = dump[:33] + b"\x55" + dump[34:]
    with pytest.raises(SlotRefusal) as refusal:
        slots.load(1, broken)
    assert refusal.value.fault is Fault.INVALID_IMAGE
    data = version((3, 0, 0), "", bytes(900))
    slots.load(1, data)
    slots.set_state(hash_of(data), confirm=False)
    update = slot_bytes(tmp_path, 1)
    slots.erase(1)
    slots.load(1, update)
    slots.boot()
    assert running(slots) == "3.0.0"


def test_offset_refuses_the_dump_of_a_marked_image_in_the_first_sector(tmp_path: Path) -> None:
    """The boot loader would erase it, as `imgtool sign --pad` makes it: an update belongs into the second sector."""
    slots, dump = swapped_out(tmp_path)
    padded = dump[:-16] + bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
    with pytest.raises(SlotRefusal, match="lies in the first sector, an update belongs into the second"):
        slots.load(1, padded)
    slots.load(1, padded, check=False)
    slots.boot()
    assert slot_bytes(tmp_path, 1) == slots.layout.blank(1)

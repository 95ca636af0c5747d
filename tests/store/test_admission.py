from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smp_dfu_host.store.admission import Admission, Chunk, Step
from smp_dfu_host.store.faults import Fault, SlotRefusal
from tests.store.builders import SECTOR, SLOT, image, store

NEW = image((2, 0, 0))
LIMIT = SLOT - 2 * SECTOR
"""What swap-using-move leaves of a slot: a trailer's sector and a spare one."""


@contextmanager
def refused(fault: Fault) -> Iterator[None]:
    with pytest.raises(SlotRefusal) as refusal:
        yield
    assert refusal.value.fault is fault


def admit(folder: Path, chunk: Chunk, *, validate: bool = False, **sections: object) -> Step:
    admission = Admission(store(folder, **sections), validate=validate)
    admission.check(chunk)
    return admission.place(chunk)


def test_a_good_first_chunk_goes_to_the_slot_that_does_not_run(tmp_path: Path) -> None:
    step = admit(tmp_path, Chunk(0, NEW, len(NEW), b"sha"))
    assert (step, step.first) == (Step(proceed=True, off=0, slot=1, size=len(NEW), sha=b"sha"), True)


@pytest.mark.parametrize(
    ("chunk", "fault"),
    [
        (Chunk(0, NEW[:31], len(NEW)), Fault.SHORT_HEADER),
        (Chunk(0, b"", len(NEW)), Fault.SHORT_HEADER),
        (Chunk(0, NEW[:31]), Fault.SHORT_HEADER),
        (Chunk(0, NEW), Fault.NO_LENGTH),
        (Chunk(0, bytes(32)), Fault.NO_LENGTH),
        (Chunk(0, bytes(32), 32), Fault.BAD_MAGIC),
        (Chunk(0, bytes(32), 32, bytes(33)), Fault.BAD_MAGIC),
        (Chunk(0, NEW, len(NEW), bytes(33)), Fault.INVALID_HASH),
        (Chunk(0, NEW, SLOT + 1), Fault.TOO_LARGE),
        (Chunk(0, NEW, len(NEW) - 1), Fault.OVERRUN),
        (Chunk(0, NEW, 0), Fault.OVERRUN),
        (Chunk(0, image((0, 0, 0)), 32, upgrade=True), Fault.NOT_NEWER),
    ],
)
def test_checks_come_in_zephyrs_order(tmp_path: Path, chunk: Chunk, fault: Fault) -> None:
    with refused(fault):
        admit(tmp_path, chunk)


def test_an_upload_as_large_as_the_slot_is_taken(tmp_path: Path) -> None:
    assert admit(tmp_path, Chunk(0, NEW, SLOT), validate=True).size == SLOT


def test_no_slot_is_free_while_a_test_runs(tmp_path: Path) -> None:
    slots = store(tmp_path)
    slots.load(1, NEW)
    slots.set_state(slots.slots()[1].hash, confirm=False)
    slots.boot()
    with refused(Fault.IN_USE):
        Admission(slots, validate=False).place(Chunk(0, NEW, len(NEW)))


@pytest.mark.parametrize(("version", "newer"), [((2, 0, 1), True), ((2, 0, 0, 9), False), ((1, 9, 9), False)])
def test_upgrade_wants_a_higher_version(tmp_path: Path, version: tuple[int, ...], newer: bool) -> None:
    (tmp_path / "factory.bin").write_bytes(NEW)
    data = image(version)
    chunk = Chunk(0, data, len(data), upgrade=True)
    if newer:
        assert admit(tmp_path, chunk, image={"factory": "factory.bin"}).proceed
        return
    with refused(Fault.NOT_NEWER):
        admit(tmp_path, chunk, image={"factory": "factory.bin"})


def test_upgrade_over_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    slots = store(tmp_path)
    (tmp_path / "store" / "slot0.bin").write_bytes(bytes(SLOT))
    with refused(Fault.VERSION_UNKNOWN):
        Admission(slots, validate=False).place(Chunk(0, NEW, len(NEW), upgrade=True))
    slots.boot()
    with refused(Fault.VERSION_UNKNOWN):
        Admission(slots, validate=False).place(Chunk(0, NEW, len(NEW), upgrade=True))


@pytest.mark.parametrize(("address", "fits"), [(0xC000 + SLOT, True), (0xC000, False)])
def test_direct_xip_wants_images_for_their_slot(tmp_path: Path, address: int, fits: bool) -> None:
    data = image((2, 0, 0), flags=0x100, load_addr=address)
    xip = {"mode": "direct-xip"}
    if fits:
        assert admit(tmp_path, Chunk(0, data, len(data)), bootloader=xip).proceed
        return
    with refused(Fault.BAD_ADDRESS):
        admit(tmp_path, Chunk(0, data, len(data)), bootloader=xip)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (image(payload=bytes(LIMIT)), Fault.TOO_LARGE),
        (image(flags=0x4), Fault.BAD_HEADER),
        (image(flags=0x10), Fault.BAD_HEADER),
    ],
    ids=["too large for the boot loader", "encrypted", "not bootable"],
)
def test_validation_refuses_headers_that_the_boot_loader_refuses(tmp_path: Path, data: bytes, fault: Fault) -> None:
    chunk = Chunk(0, data[:100], len(data))
    assert admit(tmp_path, chunk).proceed
    with refused(fault):
        admit(tmp_path, chunk, validate=True)

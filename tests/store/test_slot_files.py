import threading
from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import locked
from smp_dfu_host.store.layout import Layout
from smp_dfu_host.store.slot_files import SlotFiles
from tests.store.builders import SLOT, config, slot_bytes, store


def files(folder: Path) -> SlotFiles:
    store(folder)
    return SlotFiles(Layout.from_config(config(folder)))


def test_areas_write_through_and_staged_ones_do_not(tmp_path: Path) -> None:
    slots = files(tmp_path)
    with slots.areas(writable=True) as (areas, _):
        areas[1].write(0, b"written.")
    with slots.staged() as overlays:
        overlays[1].write(0, b"staged!!")
        assert slot_bytes(tmp_path, 1).startswith(b"written.")
        slots.replace({slots.layout.slot(1): overlays[1], slots.layout.state: b"state"})
    assert slot_bytes(tmp_path, 1).startswith(b"staged!!\xff")
    assert slots.layout.state.read_bytes() == b"state"


def test_a_reader_waits_for_a_commit_and_finishes_it_if_nobody_does(tmp_path: Path) -> None:
    slots = files(tmp_path)
    folder = slots.layout.folder
    (folder / "slot1.bin.5f3a.staged").write_bytes(b"\x5a" * SLOT)
    seen = []

    def read() -> None:
        with slots.areas(writable=False) as (areas, _):
            seen.append(areas[1].read(0, 1))

    with locked(slots.layout.guard):  # somebody commits ...
        (folder / "commit").write_text('{"slot1.bin.5f3a.staged": "slot1.bin"}')
        reader = threading.Thread(target=read)
        reader.start()
        assert not seen
    reader.join()  # ... and dies before his renames
    assert seen == [b"\x5a"]


def test_a_slot_of_another_size_is_refused(tmp_path: Path) -> None:
    slots = files(tmp_path)
    slots.layout.slot(0).write_bytes(b"")
    with pytest.raises(StoreError, match=r"slot0\.bin: 0 bytes"), slots.areas(writable=False):
        pass

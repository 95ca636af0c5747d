"""What the boot loader did at each boot."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.store import history
from smp_dfu_host.store.history import ENTRIES, SIZE_LIMIT, BootEntry
from tests.store.builders import hash_of, image, store

PATH = Path("/a/history.jsonl")
TEXTS = st.lists(st.text(max_size=20), max_size=3).map(tuple)
ANY_ENTRY = st.builds(
    BootEntry,
    number=st.integers(0, 1 << 40),
    time=st.text(max_size=25),
    ok=st.booleans(),
    asked=TEXTS,
    done=TEXTS,
    slots=st.lists(st.none() | st.integers(0, 5), max_size=3).map(tuple),
    version=st.text(max_size=10),
    operations=st.integers(0, 1 << 20),
    actions=TEXTS,
)


@given(st.lists(ANY_ENTRY, max_size=5))
def test_what_is_appended_is_loaded(entries: list[BootEntry]) -> None:
    """Entries come back as they went in, in their order."""
    data = None
    for entry in entries:
        data = history.append(data, entry)
    assert history.load(data, PATH) == tuple(entries)


def test_oldest_are_dropped_by_count_and_by_size() -> None:
    data = b""
    for number in range(ENTRIES + 3):
        data = history.append(data, BootEntry(number, "", ok=True))
    assert [entry.number for entry in history.load(data, PATH)] == list(range(3, ENTRIES + 3))
    for number in range(4):
        data = history.append(data, BootEntry(number, "", ok=True, actions=("x" * (SIZE_LIMIT // 3),)))
    assert len(data) <= SIZE_LIMIT
    assert [entry.number for entry in history.load(data, PATH)] == [2, 3]


def test_one_entry_is_kept_whatever_its_size() -> None:
    data = history.append(b"", BootEntry(1, "", ok=True, actions=("x" * SIZE_LIMIT,)))
    assert len(history.load(data, PATH)) == 1


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"nonsense", b"\xff" * 100_000, b'{"number": null}', b'{"number": 1e999}']
)
def test_damaged_file_is_named_and_keeps_nobody_from_booting(line: bytes) -> None:
    with pytest.raises(StoreError, match=r"^/a/history\.jsonl: line 1 ") as refusal:
        history.load(line, PATH)
    assert len(str(refusal.value)) < 150
    assert "Error" not in str(refusal.value)
    assert history.append(line, BootEntry(1, "", ok=True)).startswith(line)


def test_store_tells_of_each_boot(tmp_path: Path) -> None:
    slots = store(tmp_path)
    assert slots.history() == ()
    update = image((2, 0, 0))
    slots.load(1, update)
    slots.set_state(hash_of(update), confirm=False)
    slots.boot()
    slots.boot()
    first, second = slots.history()
    assert (first.number, first.ok, first.asked, first.done, first.version) == (1, True, ("test",), ("test",), "2.0.0")
    assert (second.number, second.done, second.version, second.slots) == (2, ("revert",), "0.0.0", (0,))
    assert first.time
    assert first.operations > 10
    assert any("swapping" in action for action in first.actions)


def test_cut_is_told_with_its_torn_bytes_and_counted_as_a_boot(tmp_path: Path) -> None:
    slots = store(tmp_path)
    update = image((2, 0, 0))
    slots.load(1, update)
    slots.set_state(hash_of(update), confirm=False)
    with pytest.raises(PowerCut):
        slots.boot(cut_before=4, tear=3)
    slots.boot()
    cut, after = slots.history()
    assert (cut.number, cut.ok, cut.operations) == (1, False, 3)
    assert "before flash operation 4, after 3 of its bytes" in cut.actions[0]
    assert (after.number, after.version) == (2, "2.0.0")


def test_history_is_part_of_the_commit(tmp_path: Path) -> None:
    slots = store(tmp_path)
    slots.boot()
    assert not list(slots.layout.folder.glob("*.new"))
    lines = slots.layout.history.read_bytes().splitlines()
    assert json.loads(lines[0])["version"] == "0.0.0"

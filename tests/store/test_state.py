import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.state import BootState, load

PATH = Path("/a/state.json")

states = st.builds(
    BootState,
    boots=st.integers(0),
    time=st.text(),
    ok=st.booleans(),
    reason=st.text(),
    actions=st.tuples(st.text()),
    running=st.tuples(st.integers(0, 3)),
    rolled_back=st.dictionaries(st.integers(0, 3), st.text()),
    counters=st.tuples(st.integers(0)),
    unfinished=st.booleans(),
)


@given(states)
def test_load_returns_what_was_dumped(state: BootState) -> None:
    """A state survives its file."""
    assert load(state.dump(), PATH) == state


def test_a_store_without_a_file_has_never_booted() -> None:
    assert load(None, PATH) == BootState(boots=0, ok=True, running=(0,))


def test_running_slot_is_none_if_nothing_booted() -> None:
    assert (BootState(running=(1,)).slot(0), BootState(ok=False).slot(0)) == (1, None)


def test_without_rollback_forgets_one_slot() -> None:
    state = BootState(boots=7, rolled_back={1: "aa", 3: "bb"})
    assert state.without_rollback(1) == BootState(boots=7, rolled_back={3: "bb"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff" * 100_000,
        BootState().dump().replace(b'"boots": 0', b'"boots": 1e999'),
        b"[" * 100_000,
        json.dumps({"format": 1, "boots": "x"}).encode(),
        b'{"format": 2}',
        b'{"format": "%s"}' % bytes(100_000).hex().encode(),
    ],
)
def test_another_file_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"^/a/state\.json: ") as refusal:
        load(data, PATH)
    assert len(str(refusal.value)) < 150
    assert "Error" not in str(refusal.value)


def test_changes_are_refused_while_a_boot_is_unfinished() -> None:
    BootState().check_finished()
    with pytest.raises(StoreError, match="run `smp-dfu-host boot` first"):
        BootState(unfinished=True).check_finished()


def test_state_of_an_earlier_version_is_finished() -> None:
    table = json.loads(BootState(unfinished=True).dump())
    del table["unfinished"], table["counters"]
    assert load(json.dumps(table).encode(), PATH) == BootState()

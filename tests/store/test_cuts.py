"""Every cut of a boot."""

from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.cuts import CutTrial
from smp_dfu_host.store.slots import SlotStore
from tests.store.builders import SECTOR, hash_of, image, slot_bytes, store


def marked(folder: Path, *, confirm: bool = False) -> SlotStore:
    slots = store(folder)
    update = image((2, 0, 0), bytes(1500))
    slots.load(1, update)
    slots.set_state(hash_of(update), confirm=confirm)
    return slots


def test_every_cut_of_a_swap_ends_alike_and_leaves_the_store_alone(tmp_path: Path) -> None:
    slots = marked(tmp_path)
    before = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    trial = CutTrial.of(slots)
    outcomes = list(trial.run())
    assert [each.number for each in outcomes] == list(range(1, trial.operations + 1))
    assert trial.operations == slots.preview_boot().ops > 20
    assert not [each for each in outcomes if each.differs or not each.result.ok or not each.same_image]
    assert [slot_bytes(tmp_path, slot) for slot in (0, 1)] == before
    assert slots.history() == ()


def test_size_of_an_operation_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    slots = marked(tmp_path)
    before = [slot_bytes(tmp_path, slot) for slot in (0, 1)]
    outcomes = list(CutTrial.of(slots).run())
    assert [each.size for each in outcomes] == [slots.operation_size(each.number) for each in outcomes]
    assert {8, SECTOR} <= {each.size for each in outcomes}
    with pytest.raises(StoreError, match=f"no flash operation {len(outcomes) + 1}"):
        slots.operation_size(len(outcomes) + 1)
    assert [slot_bytes(tmp_path, slot) for slot in (0, 1)] == before
    assert slots.history() == ()


@pytest.mark.parametrize("tear", [1, 8, 100])
def test_torn_last_write_of_a_test_reverts(tmp_path: Path, tear: int) -> None:
    """The last write sets copy_done; once its first byte is there, the swap counts as done and is not confirmed."""
    trial = CutTrial.of(marked(tmp_path), tear)
    outcomes = list(trial.run())
    assert [each.number for each in outcomes if each.differs] == [trial.operations]
    last = outcomes[-1]
    assert (last.same_image, last.result.ok, last.differs) == (False, True, ("slot 0", "slot 1"))
    assert last.bytes > 0


def test_boot_that_changes_nothing_has_no_cuts(tmp_path: Path) -> None:
    trial = CutTrial.of(store(tmp_path))
    assert trial.operations == 0
    assert list(trial.run()) == []

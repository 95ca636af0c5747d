"""The slots against a model in words: what runs, what lies beside it, what the next boot does."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.slots import SlotStore
from tests.store.builders import flags, hash_of, image, store

FLAGS = {
    "none": ("active confirmed", ""),
    "test": ("active confirmed", "pending"),
    "perm": ("active confirmed", "pending permanent"),
    "revert": ("active", "confirmed"),
}


class SlotsMachine(RuleBasedStateMachine):
    """Whatever is asked in whatever order, there is one running image, and what is listed is what happens."""

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        (Path(self.folder.name) / "factory.bin").write_bytes(image((0, 0, 1)))
        self.number = 1
        self.running, self.other = image((0, 0, 1)), b""
        self.plan = "none"
        self.rolled_back = False
        self.slots = self.open()
        self.slots.boot()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def open(self) -> SlotStore:
        return store(Path(self.folder.name), image={"factory": "factory.bin"})

    def refused(self, fault: Fault, digest: bytes | None, *, confirm: bool) -> None:
        with pytest.raises(SlotRefusal) as refusal:
            self.slots.set_state(digest, confirm=confirm)
        assert refusal.value.fault is fault

    @precondition(lambda self: self.plan != "revert")
    @rule(empty=st.booleans())
    def change_the_other_slot(self, empty: bool) -> None:
        self.number += 1
        self.other = b"" if empty else image((0, 0, self.number), bytes([self.number % 256]) * 200)
        self.slots.erase(1) if empty else self.slots.load(1, self.other)
        self.plan, self.rolled_back = "none", False

    @precondition(lambda self: self.other)
    @rule()
    def test_the_other(self) -> None:
        if self.plan in ("perm", "revert"):
            self.refused(Fault.ALREADY_PENDING, hash_of(self.other), confirm=False)
            return
        assert self.slots.set_state(hash_of(self.other), confirm=False) is None
        self.plan = "test"

    @precondition(lambda self: self.other)
    @rule()
    def confirm_the_other(self) -> None:
        if self.rolled_back:
            self.refused(Fault.ROLLED_BACK, hash_of(self.other), confirm=True)
        elif self.plan == "test":
            self.refused(Fault.ALREADY_PENDING, hash_of(self.other), confirm=True)
        else:
            assert self.slots.set_state(hash_of(self.other), confirm=True) is None
            self.plan = "perm" if self.plan == "none" else self.plan

    @rule(by_hash=st.booleans())
    def confirm_the_running(self, by_hash: bool) -> None:
        digest = hash_of(self.running) if by_hash else None
        if self.plan in ("test", "perm"):
            self.refused(Fault.ALREADY_PENDING, digest, confirm=True)
            return
        assert self.slots.set_state(digest, confirm=True) == (0 if self.plan == "revert" else None)
        self.plan = "none"

    @rule()
    def test_the_running(self) -> None:
        self.refused(Fault.TEST_OF_RUNNING, hash_of(self.running), confirm=False)

    @rule()
    def reset(self) -> None:
        assert self.slots.boot().ok
        if self.plan != "none":
            self.running, self.other = self.other, self.running
            self.rolled_back = self.plan == "revert"
        self.plan = "revert" if self.plan == "test" else "none"

    @rule()
    def start_another_process(self) -> None:
        self.slots = self.open()

    @invariant()
    def the_list_tells(self) -> None:
        expected = dict(enumerate(FLAGS[self.plan] if self.other else FLAGS[self.plan][:1]))
        assert flags(self.slots) == expected
        hashes = [hash_of(data) for data in (self.running, self.other) if data]
        assert [view.hash for view in self.slots.slots()] == hashes


SlotsMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestSlotsMachine = SlotsMachine.TestCase

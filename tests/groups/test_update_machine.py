"""Updates through SMP in every mode, against a model in words (update_model.py).

Upload, test, confirm, erase, reset and power cuts, in any order.

In swap-using-scratch and swap-using-move a bootable image always remains, and a confirmed one is kept until another is
confirmed. In the other modes what is listed and what runs is what the model says. Where modes have ways of their own,
each has a test with a name, here or in:

    test_update_exceptions  what only clients can bring about, or see
    tests/mcuboot           traps of the boot loader that clients cannot bring about: marks and slots of every kind
    tests/store/test_modes  what the modes do with marks, versions and an upload
    tests/store/test_cuts   the torn last write of a test
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from smp_dfu_host.config import MODES
from smp_dfu_host.mcuboot.flash import PowerCut
from tests.groups.update_model import SECTOR, Made, Model, Refused, Reply, Slot, UpdateModel, model_of
from tests.groups.update_target import ERASE, FLASH, IMAGE, STATE, UPLOAD, WRITE, Target, entries, made

KEEPING = ("swap-using-scratch", "swap-using-move")
"""Modes in which nothing confirmed is ever lost."""
PART = 3000
"""Bytes of a part of an upload."""
MEMORY = "/dev/shm"
"""Where stores are made if there is such a place: every step syncs files, which takes a disk most of the time."""


class UpdateMachine(RuleBasedStateMachine):
    """Whatever a client asks and whenever the power fails, the device is as the model says."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.folder = TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None)
        self.target: Target | None = None

    @initialize(validate=st.booleans(), fast=st.booleans())
    def start(self, validate: bool, fast: bool) -> None:
        factory = made(self.mode, 1, b"factory")
        (Path(self.folder.name) / "factory.bin").write_bytes(factory.data)
        build = {"mode": self.mode} | ({"overwrite_fast": fast} if self.mode == "overwrite-only" else {})
        upload = {"factory": "factory.bin", "validate_upload": validate}
        self.target = Target(Path(self.folder.name), flash=FLASH, bootloader=build, image=upload)
        self.device = self.target
        self.model: Model = model_of(self.mode, validate=validate, slots=[_confirmed(factory), Slot()])
        self.made, self.kept, self.number = [factory], factory, 0
        if self.mode == "firmware-loader":
            self.model.slots[1] = Slot(made(self.mode, 9, b"loader"))
            self.device.store.load(1, made(self.mode, 9, b"loader").data)
        assert self.device.store.boot().ok

    def teardown(self) -> None:
        if self.target:
            self.target.close()
        self.folder.cleanup()

    # Uploads

    @rule(
        version=st.integers(1, 4),
        size=st.sampled_from([200, SECTOR - 200, SECTOR + 300, 2 * SECTOR + 500]),
        good=st.sampled_from([True, True, True, False]),
        sha=st.sampled_from(["right", "right", "none", "wrong"]),
        upgrade=st.sampled_from([False, False, False, True]),
        whole=st.booleans(),
    )
    def upload(self, version: int, size: int, good: bool, sha: str, upgrade: bool, whole: bool) -> None:
        """Upload an image that was never there, or begin to."""
        self.number += 1
        if self.mode == "swap-using-offset":
            size = max(size, SECTOR + 300)  # a swap of one sector does not survive every cut: see the exceptions
        new = made(self.mode, version, self.number.to_bytes(2) * (size // 2), good=good)
        self.made.append(new)
        given = {"right": new.sha, "none": b"", "wrong": self.number.to_bytes(32)}[sha]
        self.send(new, given, upgrade=upgrade, whole=whole)

    @rule(size=st.sampled_from([200, SECTOR + 300]), confirm=st.booleans())
    def upload_and_mark(self, size: int, confirm: bool) -> None:
        """Do what clients mostly do, so that many a run gets far."""
        self.upload(self.running.version + 1, size, good=True, sha="right", upgrade=True, whole=True)
        self.set_state("other", confirm=confirm)

    @rule(cuts=st.lists(st.integers(0, 10_000), max_size=2), again=st.booleans(), on_trial=st.booleans())
    def try_an_update(self, cuts: list[int], again: bool, on_trial: bool) -> None:
        """Test an update, perhaps have it rolled back, cut or not; then ask for the other image for good."""
        self.upload_and_mark(SECTOR + 300, confirm=False)
        self.reset()
        if not on_trial:
            self.power_cuts(cuts)
        if again:
            self.send(self.made[-1], self.made[-1].sha, upgrade=False, whole=True)
        self.confirm("other")

    @rule(which=st.integers(0, 3), whole=st.booleans())
    def upload_again(self, which: int, whole: bool) -> None:
        """Upload one of the last images once more: it may be there, run, or be half uploaded."""
        self.send(old := self.made[-1 - which % len(self.made)], old.sha, upgrade=False, whole=whole)

    @precondition(lambda self: self.model.session)
    @rule(whole=st.booleans())
    def go_on(self, whole: bool) -> None:
        """Send what comes next of the upload under way."""
        session = self.model.session
        assert session
        self.send_part(session.off, session.image.data[session.off : session.off + 50])
        if whole:
            self.send_rest()

    def send(self, new: Made, sha: bytes, *, upgrade: bool, whole: bool) -> None:
        """Send the first part, and the others if all is to come."""
        data = new.data[: PART if whole else min(PART, len(new.data) // 2)]
        body = {"off": 0, "len": len(new.data), "data": data, "sha": sha, "upgrade": upgrade}
        expected = self.model.first(new, sha, data, upgrade=upgrade)
        assert self.device.ask(WRITE, IMAGE, UPLOAD, body) == expected
        if whole:
            self.send_rest()

    def send_rest(self) -> None:
        while session := self.model.session:
            self.send_part(session.off, session.image.data[session.off : session.off + PART])

    def send_part(self, off: int, data: bytes) -> None:
        expected = self.model.next(off, data)
        assert self.device.ask(WRITE, IMAGE, UPLOAD, {"off": off, "data": data}) == expected

    # Marks

    @rule(which=st.sampled_from(["other", "other", "other", "running", "none", "unknown"]))
    def test(self, which: str) -> None:
        self.set_state(which, confirm=False)

    @rule(which=st.sampled_from(["other", "other", "running", "none", "unknown"]))
    def confirm(self, which: str) -> None:
        on_trial = isinstance(self.model, UpdateModel) and self.model.plan == "revert"
        if self.set_state(which, confirm=True) and on_trial and which in ("running", "none"):
            self.kept = self.running

    def set_state(self, which: str, *, confirm: bool) -> bool:
        """Ask for an image to be tested or confirmed; return whether that was done."""
        slots, active = self.model.slots, self.model.active
        known = {"running": slots[active].listed, "other": slots[1 - active].listed}
        chosen = known.get(which)
        digest = chosen.hash if chosen else b"" if which == "none" else bytes(range(32))
        reply = self.device.ask(WRITE, IMAGE, STATE, {"hash": digest, "confirm": confirm})
        refusal = self.refusal(digest, confirm=confirm)
        assert reply == refusal if refusal else entries(reply) == self.model.entries()
        return refusal is None

    def refusal(self, digest: bytes, *, confirm: bool) -> Reply | None:
        """Let the model test or confirm; return its reply if it refuses."""
        try:
            self.model.set_state(digest, confirm=confirm)
        except Refused as refused:
            return refused.reply
        return None

    @rule(slot=st.sampled_from([None, None, 0, 1, 2, 4]))
    def erase(self, slot: int | None) -> None:
        body = {} if slot is None else {"slot": slot}
        assert self.device.ask(WRITE, IMAGE, ERASE, body) == self.model.erase(slot)

    # Boots

    @rule()
    def reset(self) -> None:
        self.device.reset()
        self.boot()
        self.device.store.close_uploads()  # as the server's modules do
        self.model.session = None

    @rule()
    def power_off_and_on(self) -> None:
        """Begin a new process and boot: an upload goes on where it was."""
        self.device.restart()
        self.boot()

    @rule(cuts=st.lists(st.integers(0, 10_000), min_size=1, max_size=3))
    def power_cuts(self, cuts: list[int]) -> None:
        """Cut the power before an operation of the boot, then in the boots that follow."""
        for cut in cuts:
            if operations := self.device.store.preview_boot().ops:
                self.cut(1 + cut % operations, operations)
        self.boot()

    @precondition(lambda self: self.mode in KEEPING)
    @rule(cut=st.integers(0, 10_000), tear=st.sampled_from([1, 8, 100]))
    def torn_operation(self, cut: int, tear: int) -> None:
        """Cut the power in an operation; a test whose last write is torn is complete, and goes back."""
        operations = self.device.store.preview_boot().ops
        if operations and self.cut(1 + cut % operations, operations, tear):
            self.boot_model()
        self.boot()

    def cut(self, number: int, operations: int, tear: int = 0) -> bool:
        """Boot up to an operation; return whether it was the last one."""
        with pytest.raises(PowerCut):
            self.device.store.boot(number, tear)
        self.device.restart()
        if isinstance(self.model, UpdateModel) and self.mode == "overwrite-only" and number == operations:
            self.model.stale = True
            self.boot_model()
            self.model.stale = False
        return number == operations

    @precondition(lambda self: self.mode == "firmware-loader")
    @rule()
    def boot_the_loader(self) -> None:
        self.boot(loader=True)

    def boot(self, *, loader: bool = False) -> None:
        self.boot_model(loader=loader)
        result = self.device.store.boot(loader=loader)
        assert (result.ok, result.stopped) == (True, None)
        assert self.device.store.running_slot() == self.model.active

    def boot_model(self, *, loader: bool = False) -> None:
        for_good = isinstance(self.model, UpdateModel) and self.model.plan == "perm"
        self.model.boot(loader=loader)
        if for_good:
            self.kept = self.running

    # What must be so

    @property
    def running(self) -> Made:
        """The image that runs."""
        found = self.model.slots[self.model.active].image
        assert found
        return found

    @invariant()
    def the_list_is_the_models(self) -> None:
        assert self.device.entries() == self.model.entries()
        assert self.device.slot(self.model.active).startswith(self.running.data)

    @invariant()
    def the_upload_is_where_the_model_has_it(self) -> None:
        """A part from far behind changes nothing and is told where to go on."""
        self.send_part(1 << 30, b"stray")

    @invariant()
    def a_bootable_image_remains(self) -> None:
        assert self.device.store.preview_boot().ok

    @invariant()
    def a_confirmed_image_is_kept(self) -> None:
        if self.mode in KEEPING:
            assert any(self.device.slot(number).startswith(self.kept.data) for number in (0, 1))


def _confirmed(factory: Made) -> Slot:
    return Slot(factory, marked=True, ran=True, confirmed=True)


@pytest.mark.parametrize("mode", MODES)
def test_updates_in_any_order_are_as_the_model_says(mode: str) -> None:
    """The more there is to keep, the more is tried."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call,unused-ignore]
        cast("type[RuleBasedStateMachine]", partial(UpdateMachine, mode)),
        settings=settings(max_examples=18 if mode in KEEPING else 8, stateful_step_count=25),
    )

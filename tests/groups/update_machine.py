"""The state machine of updates through SMP: a device and its model, asked the same things in any order."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smp_dfu_host.mcuboot.flash import PowerCut
from tests.groups.update_builds import BUILDS, FAULTS, builds_of, make, write_keys
from tests.groups.update_device import DeviceModel, model_of
from tests.groups.update_model import SECTOR, Made, Model, Refused, Reply, Slot
from tests.groups.update_modes import UpdateModel
from tests.groups.update_target import ERASE, FLASH, IMAGE, STATE, UPLOAD, WRITE, Target, entries

KEEPING = ("swap-using-scratch", "swap-using-move")
"""Modes in which nothing confirmed is ever lost."""
PART = 3000
"""Bytes of a part of an upload."""
MEMORY = "/dev/shm"
"""Where stores are made if there is such a place: every step syncs files, which takes a disk most of the time."""
COUNTERS = st.sampled_from([None, 1, 1, 2, 3])
"""Security counters of updates, and that of one that has none."""
NEEDS = st.sampled_from([0, 0, 1, 2, 3])
"""The version that an image wants of the others; 0: any."""
TEARS = st.sampled_from([0, 0, 0, 1, 8, 100])
"""Bytes of an operation that are done when the power fails."""
WHICH = st.integers(0, 2)
"""Which image, modulo how many there are."""


class UpdateMachine(RuleBasedStateMachine):
    """Whatever a client asks and whenever the power fails, the device is as the model says."""

    def __init__(self, mode: str, images: int) -> None:
        super().__init__()
        self.mode, self.images = mode, images
        self.folder = TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None)
        self.target: Target | None = None

    @initialize(data=st.data(), validate=st.booleans(), fast=st.booleans())
    def start(self, data: st.DataObject, validate: bool, fast: bool) -> None:
        self.build = data.draw(st.sampled_from(builds_of(self.mode, self.images)))
        others = data.draw(st.sampled_from(["secondary", "any", "none"])) if self.images > 1 else "secondary"
        build = {"mode": self.mode, "images": self.images, **BUILDS[self.build]}
        if self.mode == "overwrite-only":
            build["overwrite_fast"] = fast
        payloads = [b"factory %d" % number for number in range(self.images)]
        factories = [make(self.mode, 1, payload, build=self.build, counter=1) for payload in payloads]
        names = [f"factory{number}.bin" for number in range(self.images)]
        for name, made in zip(names, factories, strict=True):
            (Path(self.folder.name) / name).write_bytes(made.plain)
        write_keys(Path(self.folder.name))
        image = {"factory": names[0], "more_factories": names[1:], "validate_upload": validate}
        image["confirm_others"] = others
        self.device = self.target = Target(Path(self.folder.name), flash=FLASH, bootloader=build, image=image)
        self.model = DeviceModel(
            [model_of(self.mode, self.build, made, validate=validate) for made in factories], others
        )
        self.made, self.kept, self.number = list(factories), list(factories), 0
        if self.mode == "firmware-loader":
            loader = make(self.mode, 9, b"loader", build=self.build)
            self.model.parts[0].slots[1] = Slot(loader)
            self.device.store.load(1, loader.data)
        assert self.device.store.boot().ok

    def teardown(self) -> None:
        if self.target:
            self.target.close()
        self.folder.cleanup()

    # Uploads

    @rule(
        image=WHICH,
        version=st.integers(1, 4),
        size=st.sampled_from([200, SECTOR - 200, SECTOR + 300, 2 * SECTOR + 500]),
        fault=st.sampled_from(["", "", "", "", *FAULTS]),
        sha=st.sampled_from(["right", "right", "none", "wrong"]),
        upgrade=st.sampled_from([False, False, False, True]),
        whole=st.booleans(),
        counter=COUNTERS,
        needs=NEEDS,
    )
    def upload(
        self,
        image: int,
        version: int,
        size: int,
        fault: str,
        sha: str,
        upgrade: bool,
        whole: bool,
        counter: int | None,
        needs: int,
    ) -> None:
        """Upload an image that was never there, or begin to."""
        self.number += 1
        if self.mode == "swap-using-offset":
            size = max(size, SECTOR + 300)  # a swap of one sector does not survive every cut: see the exceptions
        wants = {other: needs for other in range(self.images) if needs and other != image % self.images}
        payload = self.number.to_bytes(2) * (size // 2)
        new = make(self.mode, version, payload, build=self.build, fault=fault, counter=counter, needs=wants)
        self.made.append(new)
        given = {"right": new.sha, "none": b"", "wrong": self.number.to_bytes(32)}[sha]
        self.send(image, new, given, upgrade=upgrade, whole=whole)

    @rule(image=WHICH, size=st.sampled_from([200, SECTOR + 300]), confirm=st.booleans(), counter=COUNTERS)
    def upload_and_mark(self, image: int, size: int, confirm: bool, counter: int | None, needs: int = 0) -> None:
        """Do what clients mostly do, so that many a run gets far."""
        version = self.part_of(image).running.version + 1
        self.upload(image, version, size, "", "right", True, True, counter, needs)
        self.set_state(image, "other", confirm=confirm)

    @precondition(lambda self: self.images > 1)
    @rule(data=st.data(), cuts=st.lists(st.integers(0, 10_000), max_size=3), tear=TEARS)
    def update_all(self, data: st.DataObject, cuts: list[int], tear: int) -> None:
        """Mark an update of every image, then boot, cut or not."""
        for image in range(self.images):
            confirm, needs = data.draw(st.booleans()), data.draw(NEEDS)
            self.upload_and_mark(image, SECTOR + 300, confirm=confirm, counter=1, needs=needs)
        self.power_cuts(cuts, tear)

    @rule(image=WHICH, cuts=st.lists(st.integers(0, 10_000), max_size=2), again=st.booleans(), on_trial=st.booleans())
    def try_an_update(self, image: int, cuts: list[int], again: bool, on_trial: bool) -> None:
        """Test an update, perhaps have it rolled back, cut or not; then ask for the other image for good."""
        self.upload_and_mark(image, SECTOR + 300, confirm=False, counter=3)
        self.reset()
        if not on_trial:
            self.power_cuts(cuts)
        if again:
            self.send(image, self.made[-1], self.made[-1].sha, upgrade=False, whole=True)
        self.confirm(image, "other")

    @rule(image=WHICH, which=st.integers(0, 3), whole=st.booleans())
    def upload_again(self, image: int, which: int, whole: bool) -> None:
        """Upload one of the last images once more: it may be there, run, be half uploaded, or be another one's."""
        old = self.made[-1 - which % len(self.made)]
        if image % self.images in old.needs:
            return  # an image that wants itself in a version can be refused on arrival
        self.send(image, old, old.sha, upgrade=False, whole=whole)

    @precondition(lambda self: self.model.session)
    @rule(whole=st.booleans())
    def go_on(self, whole: bool) -> None:
        """Send what comes next of the upload under way."""
        session = self.model.session
        assert session
        self.send_part(session.off, session.image.data[session.off : session.off + 50])
        if whole:
            self.send_rest()

    def send(self, image: int, new: Made, sha: bytes, *, upgrade: bool, whole: bool) -> None:
        """Send the first part, and the others if all is to come."""
        number = image % self.images
        data = new.data[: PART if whole else min(PART, len(new.data) // 2)]
        body = {"image": number, "off": 0, "len": len(new.data), "data": data, "sha": sha, "upgrade": upgrade}
        expected = self.model.first(number, new, sha, data, upgrade=upgrade)
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

    @rule(image=WHICH, which=st.sampled_from(["other", "other", "other", "running", "none", "unknown"]))
    def test(self, image: int, which: str) -> None:
        self.set_state(image, which, confirm=False)

    @rule(image=WHICH, which=st.sampled_from(["other", "other", "running", "none", "unknown"]))
    def confirm(self, image: int, which: str) -> None:
        self.set_state(image, which, confirm=True)

    def set_state(self, image: int, which: str, *, confirm: bool) -> None:
        """Ask for an image to be tested or confirmed."""
        part = self.part_of(image)
        known = {"running": part.slots[part.active], "other": part.slots[1 - part.active]}
        chosen = known.get(which)
        digest = chosen.hash if chosen and chosen.listed else b"" if which == "none" else bytes(range(32))
        reply = self.device.ask(WRITE, IMAGE, STATE, {"hash": digest, "confirm": confirm})
        refusal = self.refusal(digest, confirm=confirm)
        assert reply == refusal if refusal else entries(reply) == self.model.entries()

    def refusal(self, digest: bytes, *, confirm: bool) -> Reply | None:
        """Let the model test or confirm; return its reply if it refuses."""
        try:
            self.model.set_state(digest, confirm=confirm)
        except Refused as refused:
            return refused.reply
        return None

    @rule(slot=st.sampled_from([None, None, 0, 1, 2, 3, 4, 8]))
    def erase(self, slot: int | None) -> None:
        body = {} if slot is None else {"slot": slot}
        assert self.device.ask(WRITE, IMAGE, ERASE, body) == self.model.erase(slot)

    # Boots

    @rule()
    def reset(self) -> None:
        self.device.reset()
        self.boot()
        self.device.store.close_uploads()  # as the server's modules do
        self.model.drop_session()

    @rule()
    def power_off_and_on(self) -> None:
        """Begin a new process and boot: an upload goes on where it was."""
        self.device.restart()
        self.boot()

    @rule(cuts=st.lists(st.integers(0, 10_000), min_size=1, max_size=3), tear=TEARS)
    def power_cuts(self, cuts: list[int], tear: int = 0) -> None:
        """Cut the power before an operation of the boot, or in it, then in the boots that follow."""
        if self.mode == "overwrite-only" and self.build.startswith("by-"):
            tear = 0  # a torn header has the highest version of all: see the exceptions
        for cut in cuts[: self.cuts_in_a_row]:
            if operations := self.device.store.preview_boot().ops:
                self.cut(1 + cut % operations, operations, tear)
        self.boot()

    @property
    def cuts_in_a_row(self) -> int:
        """How many cuts, one after another, the model knows the end of: see the exceptions."""
        if not self.can_be_cut:
            return 0
        if self.mode in ("swap-using-scratch", "swap-using-offset"):
            return 1
        # With several images a swap that is marked and not begun yet is marked anew (loader.c, context_boot_go, resets
        # the boot status before its last loop); a second cut there forgets the update.
        return 1 if self.images > 1 else 3

    @property
    def can_be_cut(self) -> bool:
        """Whether the model knows what becomes of a cut: see the exceptions."""
        parts = [part for part in self.model.parts if isinstance(part, UpdateModel)]
        plans = [part.plan for part in parts]
        for number, plan in enumerate(plans):
            # Once this one is done, a boot that finds a revert behind it does not know that those before are to stay.
            before = plans[: number + 1] if plan == "test" else plans[:number]
            if plan in ("test", "perm") and "revert" in plans[number:] and {"test", "revert"} & set(before):
                return False
        if "revert" in plans and self.build.startswith("by-") and self.mode == "swap-using-move":
            return False
        return bool(parts) and (len(parts) == 1 or self.mode != "overwrite-only")

    def cut(self, number: int, operations: int, tear: int = 0) -> None:
        """Boot up to an operation."""
        with pytest.raises(PowerCut):
            self.device.store.boot(number, tear)
        self.device.restart()
        part = self.model.parts[0]
        assert isinstance(part, UpdateModel)
        if part.cut(number, operations, tear):
            self.model.boot()
        part.stale = False

    @precondition(lambda self: self.mode == "firmware-loader")
    @rule()
    def boot_the_loader(self) -> None:
        self.boot(loader=True)

    @precondition(lambda self: self.build == "bootstrap" and self.model.parts[0].plan == "none")
    @rule(cuts=st.lists(st.integers(0, 10_000), max_size=2))
    def lose_slot_0(self, cuts: list[int]) -> None:
        """Boot with slot 0 erased: slot 1 is copied. If that is to erase slot 1, it is not cut: see the exceptions."""
        part = self.model.parts[0]
        if not isinstance(part, UpdateModel) or not part.slots[1].fit:
            return
        layout = self.device.store.layout
        layout.slot(0).write_bytes(layout.blank(0))
        part.fill()
        self.power_cuts(cuts if part.slots[1].image else [])

    def boot(self, *, loader: bool = False) -> None:
        self.model.boot(loader=loader)
        result = self.device.store.boot(loader=loader)
        assert (result.ok, result.stopped) == (True, None)
        running = [self.device.store.running_slot(number) for number in range(self.images)]
        assert running == [2 * number + part.active for number, part in enumerate(self.model.parts)]
        assert self.device.upload_slots() == self.model.upload_slots()

    def part_of(self, image: int) -> Model:
        return self.model.parts[image % self.images]

    # What must be so

    @invariant()
    def the_list_is_the_models(self) -> None:
        assert self.device.entries() == self.model.entries()

    @invariant()
    def what_runs_is_the_models(self) -> None:
        for number, part in enumerate(self.model.parts):
            assert self.device.slot(2 * number + part.active).startswith(part.running.plain)

    @invariant()
    def the_upload_is_where_the_model_has_it(self) -> None:
        """A part from far behind changes nothing and is told where to go on."""
        self.send_part(1 << 30, b"stray")

    @invariant()
    def a_bootable_image_remains(self) -> None:
        assert self.device.store.preview_boot().ok

    @invariant()
    def a_confirmed_image_is_kept(self) -> None:
        """What runs and is not on trial is confirmed; it is kept until another is."""
        for number, part in enumerate(self.model.parts):
            if isinstance(part, UpdateModel) and self.mode in KEEPING:
                self.kept[number] = kept = self.kept[number] if part.plan == "revert" else part.running
                assert self.device.slot(2 * number).startswith(kept.plain) or self.device.slot(
                    2 * number + 1
                ).startswith(kept.data)

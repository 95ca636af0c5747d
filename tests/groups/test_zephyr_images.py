"""The image group beside a model of Zephyr's: whatever is asked, both answer the same and leave the same in flash."""

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smp_dfu_host.groups.img_mgmt import ImageGroup
from tests.groups.bench import WRITE, GroupBench
from tests.groups.zephyr_images import UNSET, ZephyrImages, info
from tests.store.builders import SECTOR, SLOT, image, slot_bytes

STATE, UPLOAD, ERASE = 0, 1, 5
READ = 0
LIKE_ZEPHYR = {"validate_upload": False, "check_upload": False, "confirm_rolled_back": True}

GOOD = [image((0, 0, 0), b"small"), image((1, 2, 3, 4), bytes(300)), image((1, 2, 4), bytes(range(256)) * 6)]
IMAGES = [*GOOD, image((255, 255, 65535, 4294967295), bytes(700)), image((3, 0, 0), flags=0x10), GOOD[1][:-40]]
PLANS = {"NONE": "none", "TEST": "test", "PERM": "perm", "REVERT": "revert"}

shas = st.sampled_from(["whole", "whole", "whole", b"", b"b", b"a" * 16, b"a" * 32, b"a" * 33])
lengths = st.sampled_from([None, None, None, SLOT, SLOT + 1, UNSET, 40, 0])
sizes = st.sampled_from([0, 1, 31, 32, 64, 200, 512, SLOT])
versions = st.sampled_from([0, 1])


class ImageMachine(RuleBasedStateMachine):
    """Any requests, good and bad, and boots in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.bench = GroupBench(ImageGroup, self.folder, image=LIKE_ZEPHYR, bootloader={"validate_primary": False})
        self.store = self.bench.store
        self.store.boot()
        self.model = ZephyrImages(self.flash(), SECTOR, self.store.trailer_offset(1))
        self.data = GOOD[0]

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder)

    def flash(self) -> list[bytes]:
        return [slot_bytes(self.folder, slot) for slot in (0, 1)]

    def ask(self, command: int, body: object, version: int, *, op: int = WRITE) -> dict[str, Any]:
        return self.runner.run(self.bench.ask(op, command, body, version=version))

    @rule(
        data=st.sampled_from(IMAGES),
        count=sizes,
        length=lengths,
        sha=shas,
        extra=st.sampled_from([{}, {}, {"upgrade": True}, {"upgrade": False}, {"image": 99}]),
        missing=st.sampled_from(["", "", "", "len", "data", "off"]),
        version=versions,
    )
    def begin(
        self, data: bytes, count: int, length: int | None, sha: Any, extra: Any, missing: str, version: int
    ) -> None:
        request = {"off": 0, "len": len(data) if length is None else length, "data": data[:count], **extra}
        if sha:
            request["sha"] = hashlib.sha256(data).digest() if sha == "whole" else sha
        request.pop(missing, None)
        self.data = data
        assert self.ask(UPLOAD, request, version) == self.model.upload(request, version)

    @rule(count=sizes, version=versions, noise=st.sampled_from([{}, {}, {"len": 5, "sha": b"s", "upgrade": True}]))
    def go_on(self, count: int, version: int, noise: dict[str, Any]) -> None:
        off = self.model.off
        request = {"off": off, "data": self.data[off : off + count], **noise}
        assert self.ask(UPLOAD, request, version) == self.model.upload(request, version)

    @rule(off=st.sampled_from([1, 32, 63, 4000, UNSET]), count=sizes, version=versions)
    def send_anything(self, off: int, count: int, version: int) -> None:
        request = {"off": off, "data": bytes(count)}
        assert self.ask(UPLOAD, request, version) == self.model.upload(request, version)

    @precondition(lambda self: info(self.model.slots[0]) is not None)
    @rule(slot=st.sampled_from([None, None, 0, 1, 9, 255]), version=versions)
    def erase(self, slot: int | None, version: int) -> None:
        body = {} if slot is None else {"slot": slot}
        assert self.ask(ERASE, body, version) == self.model.erase(slot, version)

    @rule(which=st.sampled_from([0, 1, 1, 1, None, 31, 32]), confirm=st.booleans(), version=versions)
    def mark(self, which: int | None, confirm: bool, version: int) -> None:
        found = info(self.model.slots[which]) if which in (0, 1) else None
        digest = found.hash if found else bytes(which or 0)
        body = {"hash": digest, "confirm": confirm}
        assert self.ask(STATE, body, version) == self.model.mark(digest, confirm=confirm, version=version)

    @rule(command=st.sampled_from([STATE, UPLOAD, ERASE]), version=versions)
    def send_no_map(self, command: int, version: int) -> None:
        assert self.ask(command, b"\x80", version) == {"rc": 3}

    @rule()
    def boot(self) -> None:
        self.store.boot()
        self.store.close_uploads()
        self.model.booted(self.flash(), PLANS.get(self.store.swap_type().name, "none"))

    @invariant()
    def lists_and_flash_agree(self) -> None:
        """The list is the model's, and so is flash, up to the trailer."""
        assert self.ask(STATE, b"", 1, op=READ) == self.model.list()
        trailer = self.store.trailer_offset(1)
        assert self.flash()[1][:trailer] == self.model.slots[1][:trailer]


TestImageMachine = ImageMachine.TestCase
TestImageMachine.settings = settings(max_examples=40, stateful_step_count=40)

"""A device with a client, for tests of updates: requests go in process to the groups, in front of a real store."""

import asyncio
from pathlib import Path
from typing import Any, cast

import cbor2

from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.groups.img_mgmt import ImageGroup
from smp_dfu_host.groups.os_mgmt import OsGroup
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.wire.header import Header
from tests.fakes import Bench, FakeLink, FakeStore, answers
from tests.groups.update_model import SECTOR, Entry, Reply
from tests.store.builders import config

READ, WRITE = 0, 2
OS, IMAGE = 0, 1
STATE, UPLOAD, ERASE, SLOT_INFO, RESET = 0, 1, 5, 6, 5
FLASH = {"sector_size": SECTOR, "sectors": 8, "max_sectors": 16}
FLAGS = ("active", "confirmed", "pending", "permanent")


class Target:
    """A device with a client: a store on a folder, and requests to the groups in front of it.

    Args:
        folder: Where the store lies.
        sections: The configuration.
    """

    def __init__(self, folder: Path, **sections: Any) -> None:
        self._folder, self._sections = folder, sections
        self._runner = asyncio.Runner()
        self.restart()

    def restart(self) -> None:
        """Begin a new process."""
        settled = config(self._folder, **self._sections)
        self.store = SlotStore(settled)
        self._parts = Bench(config=settled, store=cast("FakeStore", self.store))
        groups = [ImageGroup(self._parts.services), OsGroup(self._parts.services)]
        self._router = Router(groups, self._parts.hooks, self._parts.stats)
        self._link = FakeLink()

    def close(self) -> None:
        """End the client."""
        self._runner.close()

    def ask(self, op: int, group: int, command: int, body: object = None) -> dict[str, Any]:
        """Return the body of the reply."""
        return self._runner.run(self._ask(op, group, command, {} if body is None else body))

    async def _ask(self, op: int, group: int, command: int, body: object) -> dict[str, Any]:
        payload = cbor2.dumps(body)
        header = Header(op, 1, 0, len(payload), group, 7, command)
        (reply,) = await answers(self._router, self._link, header.pack() + payload)
        return dict(cbor2.loads(reply[Header.SIZE :]))

    def reset(self) -> None:
        """Ask for a reset; what follows is the caller's."""
        assert self.ask(WRITE, OS, RESET) == {}
        assert len(self._parts.resets) == 1
        self._parts.resets.clear()

    def slot(self, number: int) -> bytes:
        """Return the contents of a slot."""
        return self.store.layout.slot(number).read_bytes()

    def entries(self) -> list[Entry]:
        """Return the image list."""
        return entries(self.ask(READ, IMAGE, STATE))

    def upload_slots(self) -> list[int]:
        """Return the slots that slot info calls places for uploads."""
        images = self.ask(READ, IMAGE, SLOT_INFO)["images"]
        slots = [(2 * each["image"] + slot["slot"], slot) for each in images for slot in each["slots"]]
        return [number for number, slot in slots if slot.get("upload_image_id") == number // 2]


def entries(reply: Reply) -> list[Entry]:
    """Return the image list in a reply, slots counted through all images."""
    return [
        (2 * each.get("image", 0) + each["slot"], each["hash"], " ".join(flag for flag in FLAGS if each[flag]))
        for each in reply["images"]
    ]

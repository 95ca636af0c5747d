"""What the last run of the boot loader did, kept so that other processes know it too.

A slot does not say that it runs: in direct-xip the boot loader chose it. Nor does it say that its image was tried and
rolled back. Both are here, in JSON, written in the same commit as the slots that they speak of.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.store import history
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import Listed
from smp_dfu_host.store.reasons import UNUSABLE, reason, shown

FORMAT = 1


@dataclass(frozen=True, slots=True)
class BootState:
    """What the store remembers beside the slots."""

    boots: int = 0
    """Runs of the boot loader since the store was made."""
    time: str = ""
    """When the last one ended, UTC, ISO 8601; empty before the first."""
    ok: bool = True
    """Whether it found an image to run."""
    reason: str = ""
    """Why not, in words."""
    actions: tuple[str, ...] = ()
    """What it did, in words."""
    running: tuple[int, ...] = (0,)
    """Slot that runs, for each image; meaningless unless `ok`."""
    rolled_back: Mapping[int, str] = field(default_factory=dict)
    """By slot: the hash (hexadecimal) of the image in it that ran, was not confirmed and was swapped out again."""

    counters: tuple[int, ...] = ()
    """The stored security counters, image by image; none yet: all 0. They only ever rise."""
    unfinished: bool = False
    """Whether the next boot goes on with one that was cut, so that no device could be asked for anything now."""

    def slot(self, image: int) -> int | None:
        """Return the slot of an image that runs, or None if none booted; slot 0 of one that has not booted yet."""
        known = self.running[image] if image < len(self.running) else image * SLOTS_OF_IMAGE
        return known if self.ok else None

    def check_finished(self) -> None:
        """Refuse changes of the slots until an interrupted boot was finished: a mark made meanwhile can brick them.

        Raises:
            StoreError: If it was not.
        """
        if self.unfinished:
            raise StoreError("the slots hold an interrupted swap: run `smp-dfu-host boot` first")

    def counters_of(self, images: int) -> list[int]:
        """Return the stored security counters of that many images."""
        return [*self.counters, *[0] * images][:images]

    def without_rollback(self, slot: int) -> "BootState":
        """Return the same, with nothing known against the image of a slot."""
        left = {number: digest for number, digest in self.rolled_back.items() if number != slot}
        return replace(self, rolled_back=left)

    def dump(self) -> bytes:
        """Return the file's contents."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode() + b"\n"


def load(data: bytes | None, path: Path) -> BootState:
    """Return what a file says; None (no file): a store that has never booted. `path` is named in errors.

    Raises:
        StoreError: If it is not such a file.
    """
    if data is None:
        return BootState()
    try:
        table = json.loads(data)
        if table["format"] != FORMAT:
            raise StoreError(f"{path}: format {shown(table['format'])}, this program knows {FORMAT}")
        return BootState(
            int(table["boots"]),
            str(table["time"]),
            bool(table["ok"]),
            str(table["reason"]),
            tuple(str(action) for action in table["actions"]),
            tuple(int(slot) for slot in table["running"]),
            {int(slot): str(digest) for slot, digest in table["rolled_back"].items()},
            tuple(int(counter) for counter in table.get("counters", ())),
            bool(table.get("unfinished", False)),
        )
    except UNUSABLE as exc:
        raise StoreError(f"{path}: not what this program wrote ({reason(exc)}); remove it to forget it") from exc


def booted(before: BootState, result: BootResult, listed: Sequence[Listed | None]) -> BootState:
    """Return the state after a boot; `listed` is the image of each slot, None where there is none."""
    digests = {slot: image.hash.hex() for slot, image in enumerate(listed) if image}
    rolled_back = {slot: known for slot, known in before.rolled_back.items() if digests.get(slot) == known}
    for image, done in enumerate(result.swap_type_done):
        slot = image * SLOTS_OF_IMAGE + 1
        # Bootstrap calls its copy a revert too; the same image is in both slots then.
        if done is SwapType.REVERT and slot in digests and digests[slot] != digests.get(slot - 1):
            rolled_back[slot] = digests[slot]
    return BootState(
        boots=before.boots + 1,
        time=history.now(),
        ok=result.ok,
        reason="" if result.ok else result.stopped or "; ".join(result.actions) or "no image boots",
        actions=result.actions,
        running=tuple(image * SLOTS_OF_IMAGE + (slot or 0) for image, slot in enumerate(result.active_slots)) or (0,),
        rolled_back=rolled_back,
        counters=result.nv,
    )

"""What the last run of the boot loader did, kept so that other processes know it too.

A slot does not say that it runs: in direct-xip the boot loader chose it. Nor does it say that its image was tried and
rolled back. Both are here, in JSON, written in the same commit as the slots that they speak of.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE

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

    def slot(self, image: int) -> int | None:
        """Return the slot of an image that runs, or None if none booted; slot 0 of one that has not booted yet."""
        known = self.running[image] if image < len(self.running) else image * SLOTS_OF_IMAGE
        return known if self.ok else None

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


def load(data: bytes | None) -> BootState:
    """Return what a file says; None (no file): a store that has never booted.

    Raises:
        StoreError: If it is not such a file.
    """
    if data is None:
        return BootState()
    try:
        table = json.loads(data)
        if table["format"] != FORMAT:
            raise StoreError(f"state.json: format {table['format']}, this program knows {FORMAT}")
        return BootState(
            int(table["boots"]),
            str(table["time"]),
            bool(table["ok"]),
            str(table["reason"]),
            tuple(str(action) for action in table["actions"]),
            tuple(int(slot) for slot in table["running"]),
            {int(slot): str(digest) for slot, digest in table["rolled_back"].items()},
            tuple(int(counter) for counter in table.get("counters", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StoreError(f"state.json: not what this program wrote ({exc!r}); remove it to forget it") from exc

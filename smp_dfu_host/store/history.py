"""What the boot loader did at each boot: one line of JSON a boot, the oldest dropped as new ones come.

    {"number": 12, "time": "2025-01-31T12:00:00+00:00", "ok": true, "asked": ["test"], "done": ["test"], ...}

Written in the same commit as the slots that it speaks of (store/commit.py), so that it never tells of a boot that was
taken back. Appending looks at nothing but line ends: a file that somebody damaged keeps no device from booting.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.store.reasons import UNUSABLE, reason

ENTRIES = 200
"""Boots that are kept."""
SIZE_LIMIT = 128 << 10
"""Bytes that are kept at most; a boot takes 200 to 600."""


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One run of the boot loader."""

    number: int
    """Counted from 1, since the store was made."""
    time: str
    """When it ended, UTC, ISO 8601."""
    ok: bool
    """Whether an image ran then."""
    asked: tuple[str, ...] = ()
    """Per image, what the trailers asked for."""
    done: tuple[str, ...] = ()
    """Per image, what was done."""
    slots: tuple[int | None, ...] = ()
    """Per image, the slot that ran, counted through all images."""
    version: str = ""
    """Of the image that ran; empty if none did."""
    operations: int = 0
    """Flash writes and erases."""
    actions: tuple[str, ...] = ()
    """What was done and why, in words."""


def booted(number: int, result: BootResult) -> BootEntry:
    """Return the entry of a boot that came to its end."""
    return BootEntry(
        number=number,
        time=now(),
        ok=result.ok,
        asked=tuple(each.name.lower() for each in result.pre_swap_type),
        done=tuple(each.name.lower() for each in result.swap_type_done),
        slots=result.running,
        version=str(result.header.version) if result.header else "",
        operations=result.ops,
        actions=result.actions,
    )


def cut(number: int, operations: int, reason: str) -> BootEntry:
    """Return the entry of a boot whose power was cut."""
    return BootEntry(number, now(), ok=False, operations=operations, actions=(reason,))


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(data: bytes | None, entry: BootEntry) -> bytes:
    """Return a file's contents with an entry more, and the oldest ones dropped where there is no room."""
    lines = [*(data or b"").splitlines(), json.dumps(asdict(entry)).encode()][-ENTRIES:]
    while len(lines) > 1 and sum(map(len, lines)) + len(lines) > SIZE_LIMIT:
        lines.pop(0)
    return b"".join(line + b"\n" for line in lines)


def load(data: bytes | None, path: Path) -> tuple[BootEntry, ...]:
    """Return what a file says, the oldest boot first; None (no file): nothing. `path` is named in errors.

    Raises:
        StoreError: If it is not such a file.
    """
    return tuple(_parse(path, number, line) for number, line in enumerate((data or b"").splitlines(), 1))


def _parse(path: Path, number: int, line: bytes) -> BootEntry:
    try:
        table = json.loads(line)
        return BootEntry(
            number=int(table["number"]),
            time=str(table["time"]),
            ok=bool(table["ok"]),
            asked=tuple(str(each) for each in table["asked"]),
            done=tuple(str(each) for each in table["done"]),
            slots=tuple(None if each is None else int(each) for each in table["slots"]),
            version=str(table["version"]),
            operations=int(table["operations"]),
            actions=tuple(str(each) for each in table["actions"]),
        )
    except UNUSABLE as exc:
        what = f"line {number} is not what this program wrote ({reason(exc)})"
        raise StoreError(f"{path}: {what}; remove the file to forget it") from exc

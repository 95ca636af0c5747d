"""Several files replaced as one: all of them, or none, whenever the process or the power goes.

    1  slot0.bin.new, slot1.bin.new, ...   written and synced
    2  commit.new                          the list of their names, written and synced; folder synced
    3  commit.new -> commit                the rename is THE commit point; folder synced
    4  slot0.bin.new -> slot0.bin, ...     renames, redone at the next start if cut short; folder synced
    5  commit removed                      folder synced

Before 3 the leftovers are removed, from 3 on the renames are finished: by whoever next takes the store's lock. A rename
that was done already has no source any more and is passed over, so that finishing can be repeated.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import read_file, sync_folder, write_synced

MARKER = "commit"


def pending(folder: Path) -> bool:
    """Tell whether a commit was begun and its renames are not all done."""
    return (folder / MARKER).exists()


def commit(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Replace the files of those names; the caller holds the store's lock.

    Args:
        folder: Where they are.
        writers: By file name, what writes and syncs the new contents to the path that it is given.

    Raises:
        StoreError: If a new file cannot be written; nothing has changed then.
    """
    try:
        for name, write in writers.items():
            write(folder / f"{name}.new")
        write_synced(folder / f"{MARKER}.new", json.dumps(sorted(writers)).encode())
    except StoreError:
        finish(folder)
        raise
    sync_folder(folder)
    (folder / f"{MARKER}.new").replace(folder / MARKER)
    sync_folder(folder)
    finish(folder)


def finish(folder: Path) -> None:
    """Finish a commit that was cut short after its commit point, or remove what is left of one before it.

    Raises:
        StoreError: If the marker makes no sense; nothing is touched then.
    """
    marker = folder / MARKER
    if (listed := read_file(marker)) is not None:
        for name in _names(marker, listed):
            if (staged := folder / f"{name}.new").exists():
                staged.replace(folder / name)
        sync_folder(folder)
        marker.unlink()
        sync_folder(folder)
    for leftover in folder.glob("*.new"):
        leftover.unlink()


def _names(marker: Path, listed: bytes) -> list[str]:
    try:
        names = json.loads(listed)
    except ValueError as exc:
        raise StoreError(f"{marker}: not a list of names; remove it if the slots are as they should be") from exc
    if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
        raise StoreError(f"{marker}: {names!r}: not a list of file names")
    return names

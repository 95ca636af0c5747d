"""Several files replaced as one: all of them, or none, whenever the process or the power goes.

    0                                          folder synced
    1  slot0.bin.staged, slot1.bin.staged ...  written and synced
       commit.staged                           the list of their names, likewise; folder synced
    2  commit.staged -> commit                 the rename is THE commit point; folder synced
    3  slot0.bin.staged -> slot0.bin, ...      renames, redone at the next start if cut short; folder synced
    4  commit removed

Before 2 the leftovers are removed, from 2 on the renames are finished: by whoever next takes the store's lock. A rename
that was done already has no source any more and is passed over, so that finishing can be repeated.

Each sync of the folder has its reason, and none relies on a journal that keeps the order. Of 1: the commit point is not
on the disk before all that it speaks of. Of 2: the caller may answer. Of 3: the marker is not missed. Of 0: a marker
that was removed in 4 and comes back finds nothing to rename, but must not find the half-written files of this commit.
What needs no order is done at once, which is all of 1, and nobody waits until the replaced files are freed.
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import create, freed_later, read_file, sync_folder, write_synced

MARKER = "commit"
STAGED = ".staged"
"""Suffix of files that nobody else writes: a leftover is removed, whoever made it."""


def pending(folder: Path) -> bool:
    """Tell whether a commit was begun and its renames are not all done."""
    return (folder / MARKER).exists()


def commit(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Replace the files of those names; the caller holds the store's lock.

    Args:
        folder: Where they are.
        writers: By file name, what writes and syncs the new contents to the path that it is given; in a thread.

    Raises:
        StoreError: If a new file cannot be written; nothing has changed then.
    """
    names = json.dumps(sorted(writers)).encode()
    sync_folder(folder)
    try:
        _stage(folder, {**writers, MARKER: lambda path: write_synced(path, names)})
    except StoreError:
        finish(folder)
        raise
    (folder / f"{MARKER}{STAGED}").replace(folder / MARKER)
    sync_folder(folder)
    finish(folder)


def _stage(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Write all new files and sync them and their names, waiting for the disk once and not for one after the other."""
    staged = {folder / f"{name}{STAGED}": write for name, write in writers.items()}
    for path in staged:
        create(path)
    with ThreadPoolExecutor(len(staged) + 1) as pool:
        synced = [pool.submit(write, path) for path, write in staged.items()]
        synced.append(pool.submit(sync_folder, folder))
        for each in synced:
            each.result()


def finish(folder: Path) -> None:
    """Finish a commit that was cut short after its commit point, or remove what is left of one before it.

    Raises:
        StoreError: If the marker makes no sense; nothing is touched then.
    """
    marker = folder / MARKER
    if (listed := read_file(marker)) is not None:
        names = _names(marker, listed)
        with freed_later([marker, *(folder / name for name in names)]):
            for name in names:
                if (staged := folder / f"{name}{STAGED}").exists():
                    staged.replace(folder / name)
            sync_folder(folder)
            marker.unlink()
    for name in os.listdir(folder):
        if name.endswith(STAGED):
            (folder / name).unlink()


def _names(marker: Path, listed: bytes) -> list[str]:
    try:
        names = json.loads(listed)
    except ValueError as exc:
        raise StoreError(f"{marker}: not a list of names; remove it if the slots are as they should be") from exc
    if not isinstance(names, list) or not all(isinstance(name, str) and "/" not in name for name in names):
        raise StoreError(f"{marker}: {names!r}: not a list of file names")
    return names

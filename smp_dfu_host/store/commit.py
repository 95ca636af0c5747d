"""Several files replaced as one: all of them, or none, whenever the process or the power goes.

    1  slot0.bin.5f3a.staged ...               written and synced
       commit.5f3a.staged                      the list of their names, likewise; folder synced
    2  commit.5f3a.staged -> commit            the rename is THE commit point; folder synced
    3  slot0.bin.5f3a.staged -> slot0.bin ...  renames, redone at the next start if cut short

Before 2 the leftovers are removed, from 2 on the renames are finished: by whoever next takes the store's lock. A rename
that was done already has no source any more and is passed over, so that finishing can be repeated. The list stays: it
is of no consequence once all that it names is renamed.

Each sync of the folder has its reason, and none relies on a journal that keeps the order. Of 1: the commit point is not
on the disk before all that it speaks of, nor before the renames of the last commit, whose list it replaces. Of 2: the
caller may answer. After 3 there is none: what the power takes back of the renames is done again, and as no two commits
share a name (the number is random), an old list that comes back does not find the half-written files of a new one.
What needs no order, which is all of 1, is begun at once and waited for together (measured: a thread for each file takes
twice as long), and nobody waits until the replaced files are freed.
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import begin_writing, freed_later, naming, read_file, sync_folder
from smp_dfu_host.store.reasons import shown

MARKER = "commit"
STAGED = ".staged"
"""Suffix of files that nobody else writes: a leftover is removed, whoever made it."""


def pending(folder: Path) -> bool:
    """Tell whether a commit has come to its commit point and its renames are not all done.

    Raises:
        StoreError: If the marker makes no sense.
    """
    return bool(_to_rename(folder, _staged(folder)))


def commit(folder: Path, writers: Mapping[str, Callable[[BinaryIO], object]]) -> None:
    """Replace the files of those names; the caller holds the store's lock and has called `finish`.

    Args:
        folder: Where they are.
        writers: By file name, what writes the new contents to the file that it is given.

    Raises:
        StoreError: If a new file cannot be written; nothing has changed then.
    """
    suffix = f".{secrets.token_hex(4)}{STAGED}"
    renames = {f"{name}{suffix}": name for name in sorted(writers)}
    listed = json.dumps(renames).encode()
    try:
        _stage(folder, suffix, {**writers, MARKER: lambda file: file.write(listed)})
    except StoreError:
        finish(folder)
        raise
    (folder / f"{MARKER}{suffix}").replace(folder / MARKER)
    sync_folder(folder)
    _rename(folder, renames)


def _stage(folder: Path, suffix: str, writers: Mapping[str, Callable[[BinaryIO], object]]) -> None:
    """Write all new files, then wait until they and their names are on the disk."""
    with ExitStack() as stack:
        files = []
        for name, write in writers.items():
            path = folder / f"{name}{suffix}"
            stack.enter_context(naming(path))  # around the file, which tries once more to write when it is closed
            file = stack.enter_context(path.open("wb"))
            write(file)
            begin_writing(file)
            files.append((path, file))
        for path, file in files:
            with naming(path):
                os.fsync(file.fileno())
    sync_folder(folder)


def finish(folder: Path) -> None:
    """Finish a commit that was cut short after its commit point, or remove what is left of one before it.

    Raises:
        StoreError: If the marker makes no sense; nothing is touched then.
    """
    if not (staged := _staged(folder)):
        return
    renames = _to_rename(folder, staged)
    _rename(folder, renames)
    for left in staged - renames.keys():
        (folder / left).unlink()


def _rename(folder: Path, renames: Mapping[str, str]) -> None:
    """Give the new files their names, and free the old ones later."""
    with freed_later(folder / name for name in renames.values()):
        for source, name in renames.items():
            (folder / source).replace(folder / name)


def _staged(folder: Path) -> set[str]:
    """Return the names of all staged files."""
    return {name for name in os.listdir(folder) if name.endswith(STAGED)}


def _to_rename(folder: Path, staged: set[str]) -> dict[str, str]:
    """Return what the last commit has still to rename, from and to."""
    marker = folder / MARKER
    if not staged or (listed := read_file(marker)) is None:
        return {}
    return {source: name for source, name in _names(marker, listed).items() if source in staged}


def _names(marker: Path, listed: bytes) -> dict[str, str]:
    try:
        names = json.loads(listed)
    except ValueError as exc:
        raise StoreError(f"{marker}: not a list of names; remove it if the slots are as they should be") from exc
    if not isinstance(names, dict) or not all(isinstance(name, str) and "/" not in name for name in names.values()):
        raise StoreError(f"{marker}: {shown(names)}: not a list of file names")
    return names

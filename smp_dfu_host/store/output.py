"""A file that somebody asked for, anywhere: one that it replaces stays until the new one is whole."""

import os
import secrets
import stat
from pathlib import Path

from smp_dfu_host.store.files import naming, sync_folder


def write_output(path: Path, data: bytes) -> None:
    """Write a file, and replace an older one, whose access mode is kept, when all of it is on the disk.

    Links are followed. Written in place are devices and pipes (/dev/stdout), and files of somebody else or in a folder
    that takes no new ones.

    Raises:
        StoreError: If it cannot be written; an older one is as it was, unless it is written in place.
    """
    with naming(path):
        target = Path(os.path.realpath(path))
        status = _status(path)
        if status and not _replaceable(target, status):
            path.write_bytes(data)
        else:
            _replace(target, data, stat.S_IMODE(status.st_mode) if status else None)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _replaceable(target: Path, status: os.stat_result) -> bool:
    """Tell whether a new file may take the place of what is there."""
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return False
    found = _status(target)  # what /proc/self/fd links to may have lost its name
    named = found is not None and os.path.samestat(found, status)
    return named and os.access(target, os.W_OK) and os.access(target.parent, os.R_OK | os.W_OK | os.X_OK)


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    staged = target.with_name(f".{secrets.token_hex(8)}.new")
    try:
        with staged.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # before anything is in it that not everybody may read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(target)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)

"""One server a store: a lock file that a running server holds, and the kernel frees when it dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smp_dfu_host.errors import StoreError

NAME = "server.lock"


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Be the one server of the store in that folder, which is made if it is missing.

    Raises:
        StoreError: If a server runs on it already, or the folder cannot be used.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise StoreError(f"{exc.filename or path}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StoreError(f"{folder}: a server runs on this store already{_by(path)}") from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unoccupied(folder: Path) -> Iterator[None]:
    """Keep servers off the store for a moment; a store that does not exist has none.

    Raises:
        StoreError: If a server runs on it.
    """
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StoreError(
                f"{folder}: a server runs on this store{_by(path)}; reset it by a client, or end it"
            ) from exc
        yield
    finally:
        os.close(descriptor)


def _by(path: Path) -> str:
    try:
        pid = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {pid})" if pid else ""

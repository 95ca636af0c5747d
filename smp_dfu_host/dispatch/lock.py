"""The DFU lock: one updater at a time, across tasks and across processes (nrf-desktop-dfu.md section 3).

The lock file holds who owned the lock last, and how often it has gone to a different owner:

    {"owner": "ble:AA:BB:CC:DD:EE:FF", "counter": 7}

padded with spaces to a fixed size, so that a new record is one write over the old one. The file is locked by `flock` as
long as an owner of this process holds the DFU lock; the kernel unlocks it when the process dies, however it dies. Who
finds a counter that is not the one he knows has lost what he had begun. Nothing here ever waits.

After sdk-nrf applications/nrf_desktop/src/util/dfu_lock.h, with owners that live in several processes.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import StoreError

log = logging.getLogger(__name__)

_RECORD_SIZE = 512
"""Bytes of the record; not more than a disk's sector, which is written whole or not at all."""

_NAME_LIMIT = 400
"""Bytes of an owner's name in JSON; a longer one is kept as its hash, so that the record keeps its size."""


class LockError(StoreError):
    """The lock is not this owner's to release, or its file cannot be used."""


class LockHeld(LockError):  # noqa: N818  (says what is, like BrokenPipe)
    """Another owner holds the lock."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"the DFU lock is held by {holder}")
        self.holder = holder
        """Who holds it, as far as is known."""


def _ignore(_new_owner: "LockOwner") -> None:
    """Do nothing; the callback of an owner that has nothing to lose."""


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Someone who updates firmware; two of the same name are the same owner."""

    name: str
    """A peer's stable identity, see `Peer.owner`."""
    owner_changed: Callable[["LockOwner"], None] = field(default=_ignore, compare=False, repr=False)
    """Called with the new owner when, after this one, a different owner claims the lock; runs inside the claim, so it
    must be short and must not use the lock."""


@dataclass(frozen=True, slots=True)
class LockRecord:
    """What the lock file says."""

    owner: str | None
    """The last owner; None: nobody yet, or not known."""
    counter: int
    """Rises whenever the lock goes to a different owner."""


class DfuLock:
    """The lock of one device.

    Args:
        path: The lock file, made on the first claim; None: within this process only.
        enabled: False: every claim and release succeeds and nobody is told (`[dfu] lock = false`).
        stats: Gets a group `lock` of counters.
    """

    def __init__(self, path: Path | None = None, *, enabled: bool = True, stats: Statistics | None = None) -> None:
        self._counters = (stats or Statistics()).group("lock", "claims", "owners", "refused", "released")
        self._file: int | None = None
        self._path = path
        self._enabled = enabled
        self._owner: LockOwner | None = None
        self._last: LockOwner | None = None
        self._record = LockRecord(None, 0)
        if enabled and path is not None:
            self._record = self._peek(path)

    def __del__(self) -> None:
        self._close()  # a lock that nobody has any more is free

    @property
    def owner(self) -> LockOwner | None:
        """The owner in this process that holds the lock."""
        return self._owner

    @property
    def counter(self) -> int:
        """How often the lock has gone to a different owner; as of the last claim, which is exact while it is held."""
        return self._record.counter

    def claim(self, owner: LockOwner) -> None:
        """Take the lock for the owner; nothing changes if he has it already.

        Raises:
            LockHeld: If another owner holds it, here or in another process.
            LockError: If the lock file cannot be used.
        """
        if not self._enabled:
            self._owner = owner
            return
        if self._owner == owner:
            return
        try:
            self._take(owner)
        except LockHeld:
            self._counters["refused"] += 1
            raise
        self._counters["claims"] += 1

    def _take(self, owner: LockOwner) -> None:
        if self._owner is not None:
            raise LockHeld(self._owner.name)
        if self._path is not None:
            self._open(self._path)
        try:
            self._change_owner(owner)
        except BaseException:
            self._owner = None
            self._close()
            raise

    def release(self, owner: LockOwner) -> None:
        """Give the lock back; who had it is remembered.

        Raises:
            LockError: If this owner does not hold the lock.
        """
        if self._owner != owner:
            if not self._enabled:
                return
            raise LockError(f"{owner.name} does not hold the DFU lock")
        self._owner = None
        self._close()
        self._counters["released"] += 1

    def _change_owner(self, owner: LockOwner) -> None:
        """Make him the owner; count and tell if he is not the one who was it last."""
        known = self._record
        found = self._read() if self._file is not None else known
        if found.owner != _key(owner.name):
            self._record = LockRecord(_key(owner.name), max(found.counter, known.counter) + 1)
            self._write()
            self._counters["owners"] += 1
        else:
            self._record = found
        previous, self._owner, self._last = self._last, owner, owner
        if previous is None:
            return
        if previous != owner:
            previous.owner_changed(owner)
        elif found != known:  # other processes had the lock in between, and what was begun is no more
            previous.owner_changed(LockOwner(found.owner or "another process"))

    def _peek(self, path: Path) -> LockRecord:
        try:
            return _parse(path.read_bytes()[:_RECORD_SIZE], 0)
        except FileNotFoundError:
            return self._record
        except OSError as exc:
            raise LockError(f"{path}: {exc.strerror}") from exc

    def _open(self, path: Path) -> None:
        """Open and lock the file that the path names at this moment."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._file = _locked(file, path)
        except BlockingIOError:
            raise LockHeld(self._peek(path).owner or "another process") from None
        except OSError as exc:
            raise LockError(f"{path}: {exc.strerror}") from exc

    def _read(self) -> LockRecord:
        assert self._file is not None  # noqa: S101  (for the type checker)
        return _parse(os.pread(self._file, _RECORD_SIZE, 0), self._record.counter)

    def _write(self) -> None:
        if self._file is None:
            return
        text = json.dumps({"owner": self._record.owner, "counter": self._record.counter})
        try:
            os.pwrite(self._file, text.encode().ljust(_RECORD_SIZE - 1) + b"\n", 0)
            os.fsync(self._file)
        except OSError as exc:
            raise LockError(f"{self._path}: {exc.strerror}") from exc

    def _close(self) -> None:
        if self._file is not None:
            # Closing alone does not unlock it while a child process is on its way from fork to exec.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None


def _key(name: str) -> str:
    """Return how the record names that owner."""
    if len(json.dumps(name)) <= _NAME_LIMIT:
        return name
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


def _locked(file: int, path: Path) -> int | None:
    """Lock the open file and return it, or close it and return None if the path names another one by now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), path.stat()):
            return file
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _parse(data: bytes, known: int) -> LockRecord:
    """Return what the record says; a damaged one counts as a change of owner after `known`, the last counter seen."""
    if not data:
        return LockRecord(None, 0)
    try:
        table = json.loads(data)
        owner, counter = table["owner"], table["counter"]
        if type(owner) is str and type(counter) is int and counter >= 0:
            return LockRecord(owner, counter)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    log.warning("the record of the DFU lock is damaged; uploads begin anew")
    digits = re.search(rb'"counter":\s*([0-9]{1,15})', data)
    # Without a counter to go on from, one that was never there before; nobody is the last owner, so a claim counts.
    return LockRecord(None, max(known, int(digits[1]) if digits else int(time.time())))

"""The slots' files as flash: opened as a set, changed by one process at a time, replaced as a set."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FileStorage, FlashArea, Storage
from smp_dfu_host.store.commit import commit, finish, pending
from smp_dfu_host.store.files import LOCK_TIMEOUT_S, Overlay, locked, write_synced
from smp_dfu_host.store.layout import Layout


class _File(Storage, Protocol):
    def close(self) -> None: ...


F = TypeVar("F", bound=_File)
Areas = tuple[FlashArea, ...]


class SlotFiles:
    """The files of all slots."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep everybody else from changing the store; finish what somebody left unfinished.

        Raises:
            StoreError: If another process does not stop changing it.
        """
        with locked(self.layout.guard):
            finish(self.layout.folder)
            yield

    @contextmanager
    def areas(self) -> Iterator[tuple[Areas, tuple[FileStorage, ...]]]:
        """Give all slots as flash, as they are at one moment, and the files behind them.

        Raises:
            StoreError: If a file is missing or of the wrong size; the message names it.
        """
        with ExitStack() as stack:
            files = self._open(stack, FileStorage)
            yield self.layout.areas(lambda slot: files[slot]), files

    @contextmanager
    def staged(self) -> Iterator[tuple[Overlay, ...]]:
        """Give all slots as memory over the files.

        Raises:
            StoreError: As for `areas`.
        """
        with ExitStack() as stack:
            yield self._open(stack, lambda path: Overlay(path, self.layout.sector_size))

    def replace(self, contents: Mapping[Path, bytes | Overlay]) -> None:
        """Replace files of the store as one; the caller has it exclusively.

        Raises:
            StoreError: If it cannot be written; nothing has changed then.
        """
        commit(self.layout.folder, {path.name: _writer(data) for path, data in contents.items()})

    def check(self) -> list[int]:
        """Return each slot file's inode.

        Raises:
            StoreError: If one is missing or of the wrong size; the message names it.
        """
        return [self._inode(self.layout.slot(slot)) for slot in self.layout.slots]

    def _inode(self, path: Path) -> int:
        try:
            status = path.stat()
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}; wanted is a slot of {self.layout.slot_size} bytes") from exc
        if status.st_size != self.layout.slot_size:
            raise StoreError(f"{path}: {status.st_size} bytes, [flash] makes a slot of {self.layout.slot_size}")
        return status.st_ino

    def _open(self, stack: ExitStack, opener: Callable[[Path], F]) -> tuple[F, ...]:
        """Open all slots as one commit left them; try again if one was going on."""
        deadline = monotonic() + LOCK_TIMEOUT_S
        while monotonic() < deadline:
            if pending(self.layout.folder):
                with self.exclusive():  # waits for whoever commits, or does what he could not finish
                    continue
            if files := self._attempt(stack, opener):
                return files
        raise StoreError(f"{self.layout.folder}: the slots are being replaced all the time")

    def _attempt(self, stack: ExitStack, opener: Callable[[Path], F]) -> tuple[F, ...]:
        """Open all slots; give none if they were replaced meanwhile."""
        before = self.check()
        with ExitStack() as attempt:
            files = []
            for slot in self.layout.slots:
                files.append(opener(self.layout.slot(slot)))
                attempt.callback(files[-1].close)
            if before == self.check() and not pending(self.layout.folder):
                stack.push(attempt.pop_all())
                return tuple(files)
        return ()


def _writer(data: bytes | Overlay) -> Callable[[Path], None]:
    return data.save if isinstance(data, Overlay) else lambda path: write_synced(path, data)

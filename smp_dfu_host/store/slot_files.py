"""The slots' files as flash: opened as a set, changed by one process at a time, replaced as a set."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Protocol, TypeVar

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FileStorage, Storage
from smp_dfu_host.store.commit import commit, finish, pending
from smp_dfu_host.store.files import LOCK_TIMEOUT_S, Overlay, locked
from smp_dfu_host.store.layout import Areas, Layout


class _File(Storage, Protocol):
    def close(self) -> None: ...


F = TypeVar("F", bound=_File)


class SlotFiles:
    """The files of all slots, and of the scratch area."""

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
    def areas(self, *, writable: bool) -> Iterator[tuple[Areas, tuple[FileStorage, ...]]]:
        """Give all areas as flash, as they are at one moment, and the files behind them.

        Args:
            writable: False: to look at; the files may be somebody else's.

        Raises:
            StoreError: If a file is missing or of the wrong size; the message names it.
        """
        with ExitStack() as stack:
            files = self._open(stack, lambda number: FileStorage(self.layout.slot(number), writable=writable))
            yield self.layout.areas(lambda slot: files[slot]), files

    @contextmanager
    def staged(self) -> Iterator[tuple[Overlay, ...]]:
        """Give all areas as memory over the files.

        Raises:
            StoreError: As for `areas`.
        """
        with ExitStack() as stack:
            yield self._open(stack, lambda number: Overlay(self.layout.slot(number), min(self.layout.sectors(number))))

    def replace(self, contents: Mapping[Path, bytes | Overlay]) -> None:
        """Replace files of the store as one; the caller has it exclusively.

        Raises:
            StoreError: If it cannot be written; nothing has changed then.
        """
        commit(self.layout.folder, {path.name: _writer(data) for path, data in contents.items()})

    def check(self) -> list[int]:
        """Return each file's inode.

        Raises:
            StoreError: If one is missing or of the wrong size; the message names it.
        """
        return [self._inode(number) for number in self.layout.numbers]

    def _inode(self, number: int) -> int:
        path, size = self.layout.slot(number), self.layout.size(number)
        try:
            status = path.stat()
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}; wanted is a {_kind(path)} of {size} bytes") from exc
        if status.st_size != size:
            raise StoreError(f"{path}: {status.st_size} bytes, [flash] makes a {_kind(path)} of {size}")
        return status.st_ino

    def _open(self, stack: ExitStack, opener: Callable[[int], F]) -> tuple[F, ...]:
        """Open all files as one commit left them; try again if one was going on."""
        deadline = monotonic() + LOCK_TIMEOUT_S
        while monotonic() < deadline:
            if pending(self.layout.folder):
                with self.exclusive():  # waits for whoever commits, or does what he could not finish
                    continue
            if files := self._attempt(stack, opener):
                return files
        raise StoreError(f"{self.layout.folder}: the slots are being replaced all the time")

    def _attempt(self, stack: ExitStack, opener: Callable[[int], F]) -> tuple[F, ...]:
        """Open all files; give none if they were replaced meanwhile."""
        before = self.check()
        with ExitStack() as attempt:
            files = []
            for number in self.layout.numbers:
                files.append(opener(number))
                attempt.callback(files[-1].close)
            # In this order: whoever has come to his commit point since has renamed nothing that was looked at before.
            if not pending(self.layout.folder) and before == self.check():
                stack.push(attempt.pop_all())
                return tuple(files)
        return ()


def _kind(path: Path) -> str:
    return "slot" if path.name.startswith("slot") else "scratch area"


def _writer(data: bytes | Overlay) -> Callable[[BinaryIO], object]:
    return data.save if isinstance(data, Overlay) else lambda file: file.write(data)

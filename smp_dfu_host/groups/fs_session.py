"""The one file that the file system group keeps open: a download or an upload under way.

Another file, another peer, an error, a reset or some seconds without a request close it. Its size is told as it was
when it was opened, until it is closed: a device's file system knows no other. What was written stays either way, and
an upload goes on at the file's end.
"""

from dataclasses import dataclass

from smp_dfu_host.dispatch.clock import Clock, Timer
from smp_dfu_host.store.mount import MountedFile


@dataclass(slots=True)
class Transfer:
    """A transfer under way."""

    key: tuple[str, str, bool]
    """The peer's identity, the path as the client says it, and whether it is an upload."""
    file: MountedFile
    kept: int
    """The size that the file falls back to when a write fails, in bytes: none of these were overwritten."""
    told: int
    """The size that is told, in bytes."""
    off: int = 0
    """Where it is, in bytes."""
    length: int | None = None
    """Of the whole file, in bytes; None: not known, and the transfer ends by itself only after some time."""
    room: int = 0
    """How large the file may get, in bytes."""

    @property
    def complete(self) -> bool:
        """Whether there is no more to come; that of an empty file is not told from one that has not begun."""
        return bool(self.length) and self.off >= (self.length or 0)


class OpenFile:
    """The place for one transfer.

    Args:
        clock: Counts the seconds without a request.
        idle_s: After so many the file is closed.
    """

    def __init__(self, clock: Clock, idle_s: float) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._timer: Timer | None = None
        self._transfer: Transfer | None = None

    def resume(self, key: tuple[str, str, bool]) -> Transfer | None:
        """Return the transfer under way if it is that one; its file stays open until `rest` or `close`."""
        if self._transfer is None or self._transfer.key != key:
            return None
        self._hold()
        return self._transfer

    def begin(self, transfer: Transfer) -> Transfer:
        """Put another transfer in the place."""
        self.close()
        self._transfer = transfer
        return transfer

    def rest(self) -> None:
        """Count from now on, until the next request."""
        self._hold()
        if self._transfer is not None:
            self._timer = self._clock.call_later(self._idle_s, self.close)

    def close(self) -> None:
        """Close the file, if one is open."""
        self._hold()
        if self._transfer is not None:
            self._transfer.file.close()
            self._transfer = None

    def uploaded(self, name: str) -> Transfer | None:
        """Return the upload to that path, if one is under way."""
        transfer = self._transfer
        return transfer if transfer is not None and transfer.key[1:] == (name, True) else None

    def _hold(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""The Android app's upload of images and files with several chunks in flight.

Source: mcumgr-core/src/main/java/no/nordicsemi/android/mcumgr/transfer/Uploader.kt.
"""

import asyncio
from collections import Counter
from typing import Any, Protocol

from tests.apps.phone import UpgradeFailed

FIRST_S, CHUNK_S, LAST_S = 40.0, 2.5, 20.0
"""Limits for the reply to the first chunk, to those between and to the last one."""
FAILURES = 5
"""A chunk that failed so often ends the upload."""


class Sender(Protocol):
    """What sends chunks."""

    async def send_chunk(self, image: bytes, off: int, limit_s: float) -> int:
        """Send the chunk at that offset; return the offset that comes back."""
        ...

    def size_at(self, image: bytes, off: int) -> int:
        """Return how much goes out at that offset."""
        ...


class WindowUploader:
    """Chunks in flight; what got lost is sent again, one at a time.

    Args:
        app: Sends the chunks.
        image: The file.
        window: Chunks in flight at most.
    """

    def __init__(self, app: Sender, image: bytes, window: int) -> None:
        self._app = app
        self._image = image
        self._permits = asyncio.Semaphore(window)
        self._failures: Counter[int] = Counter()
        self._again: int | None = None
        """Where to send again; only the latest counts."""
        self._next: int | None = 0
        """Where to go on; None: everything is on its way."""
        self._acknowledged = 0
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Upload all of it.

        Raises:
            Refused: At once, if the device refuses a chunk.
            UpgradeFailed: If one failed too often.
        """
        try:
            while self._acknowledged < len(self._image):
                await self._permits.acquire()
                if (chosen := await self._choose()) is not None:
                    await self._send(*chosen)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _choose(self) -> tuple[int, bool] | None:
        """Return the next chunk and whether it failed before; None: all is acknowledged."""
        while True:
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            if self._acknowledged >= len(self._image):
                return None
            if self._again is not None:
                chosen, self._again = self._again, None
                return chosen, True
            if self._next is not None:
                chosen, self._next = self._next, None
                return chosen, False
            self._moved.clear()
            await self._moved.wait()

    async def _send(self, off: int, again: bool) -> None:
        end = off + self._app.size_at(self._image, off)
        self._go_on(end)
        if off and not again:
            task = asyncio.create_task(self._chunk(off, end, again))
            task.add_done_callback(lambda _task: self._moved.set())
            self._tasks.add(task)
        elif (reached := await self._chunk(off, end, again)) is not None:
            self._go_on(reached)

    def _go_on(self, off: int) -> None:
        self._next = off if off < len(self._image) else None

    async def _chunk(self, off: int, end: int, again: bool) -> int | None:
        """Send one chunk and see what becomes of it; return the offset that came back."""
        limit_s = FIRST_S if off == 0 else LAST_S if end >= len(self._image) else CHUNK_S
        try:
            reached = await self._app.send_chunk(self._image, off, limit_s)
        except TimeoutError:
            if self._acknowledged <= off:
                self._failed(off, off)
            return None
        else:
            if not again and reached < end and off:
                self._failed(off, reached)
            else:
                self._acknowledged = max(self._acknowledged, reached)
            return reached
        finally:
            self._permits.release()
            self._moved.set()

    def _failed(self, off: int, resume: int) -> None:
        self._failures[off] += 1
        if self._failures[off] >= FAILURES:
            raise UpgradeFailed(f"chunk at {off} has not been acknowledged too many times")
        self._again = resume

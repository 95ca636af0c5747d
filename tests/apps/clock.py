"""An event loop that skips the time in which nothing happens."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits for a timer: if only time is left to wait for, the clock is put forward.

    Computing, threads and files take as long as they take, by the same clock, so that limits on them mean something.
    """

    def __init__(self) -> None:
        self._skipped_s = 0.0
        self._threads = 0
        super().__init__(_Selector(self))

    @property
    def busy(self) -> bool:
        """Whether a thread is at work whose end would wake the loop."""
        return self._threads > 0

    def time(self) -> float:
        """Return seconds, those included that were skipped."""
        return super().time() + self._skipped_s

    def skip(self, seconds: float) -> None:
        """Put the clock forward."""
        self._skipped_s += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override,unused-ignore]
        """Run a function in a thread."""
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """Wait for the threads, however long by the clock of this loop."""
        self._threads += 1
        await super().shutdown_default_executor(*arguments)
        self._threads -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._threads -= 1


class _Selector(selectors.DefaultSelector):
    """Looks at the descriptors; instead of waiting for a time it skips it."""

    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self._loop.busy:
            return super().select(timeout)
        if events := super().select(0):
            return events
        self._loop.skip(timeout)
        return []


def play(scene: Coroutine[Any, Any, T]) -> T:
    """Run a scene to its end, at most ten skipped minutes."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(_bounded(scene))


async def _bounded(scene: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(600):
        return await scene

"""Work of a task that begins at once, before the task has its turn.

What a packet asks for is mostly done without waiting for anything. To wake a task for that takes longer than to do it,
so it is done where the packet comes in, as the task; only what has to wait is left for the task to go on with.
"""

import asyncio
from asyncio import CancelledError, Future, Task
from asyncio.tasks import _enter_task, _leave_task  # for whoever runs tasks: Python's documentation, "Extending"
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any


class Begun:
    """A coroutine that has begun and waits for something; its task awaits this, once."""

    __slots__ = ("_cancelled", "_context", "_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: "Future[Any] | None", context: Context) -> None:
        self._work = work
        self._context = context
        if waits_for is not None:
            # Whoever awaits it before the task does so by itself: the mark is of one `await` (asyncio.Future).
            waits_for._asyncio_future_blocking = False  # noqa: SLF001
        self._waits_for = waits_for
        self._cancelled = False

    def cancel(self) -> None:
        """Cancel it where it waits: for a task that is cancelled before it goes on with this."""
        self._cancelled = self._waits_for is None or not self._waits_for.cancel()

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for, run = self._waits_for, self._context.run
        if waits_for is not None:
            waits_for._asyncio_future_blocking = True  # noqa: SLF001
        while True:
            try:
                if self._cancelled:
                    self._cancelled = False
                    raise CancelledError  # noqa: TRY301  (caught below, as what is thrown in is)
                yield waits_for
            except BaseException as exc:
                resume: Callable[[], Any] = partial(run, self._work.throw, exc)
            else:
                resume = partial(run, self._work.send, None)
            try:
                waits_for = resume()
            except StopIteration:
                return


def begin(work: Coroutine[Any, Any, None], task: "Task[Any]") -> Begun | None:
    """Run a task's work until it has to wait; None: it did not have to and is done.

    Args:
        work: What is to be run.
        task: What it sees as its task; must not run, and has to go on with what is returned. No other task may run.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    _enter_task(loop, task)
    try:
        waits_for = context.run(work.send, None)
    except StopIteration:
        return None
    finally:
        _leave_task(loop, task)
    return Begun(work, waits_for, context)

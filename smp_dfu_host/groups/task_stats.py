"""Task statistics: the event loop's tasks and the process's threads, in the shape of Zephyr's threads.

A task has no priority, and no stack of its own: 0. A thread's stack sizes are in 4-byte words, as Zephyr counts them.
States are Zephyr's thread states: 0x80 queued (what runs), 0x02 pending (what waits).
"""

import asyncio
import os
import resource
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smp_dfu_host.wire.body import Body

NAME_LIMIT = 18
"""Characters of a name that are sent (CONFIG_MCUMGR_GRP_OS_TASKSTAT_THREAD_NAME_LEN)."""
QUEUED, PENDING = 0x80, 0x02
_WORD = 4


@dataclass(frozen=True, slots=True)
class Task(Body):
    """One entry."""

    prio: int
    """A thread's nice value; 0 for tasks."""
    tid: int
    """Counted from 0."""
    state: int
    stksiz: int | None = None
    """In words of 4 bytes."""
    stkuse: int | None = None
    """In words of 4 bytes."""
    runtime: int | None = None
    """CPU time in microseconds; threads only."""


def tasks() -> dict[str, Task]:
    """Return all tasks, then all threads, by name; names that come again get a number."""
    named: dict[str, Task] = {}
    for name, make in (*_tasks(), *_threads()):
        named[_unique(name, named)] = Task(make.prio, len(named), make.state, make.stksiz, make.stkuse, make.runtime)
    return named


def frugal(table: dict[str, Task]) -> dict[str, Task]:
    """Return the same without stacks and times, as small builds have it."""
    return {name: Task(task.prio, task.tid, task.state) for name, task in table.items()}


def _unique(name: str, taken: dict[str, Task]) -> str:
    short = name[:NAME_LIMIT]
    number = 2
    while short in taken:
        ending = f"#{number}"
        short = name[: NAME_LIMIT - len(ending)] + ending
        number += 1
    return short


def _tasks() -> Iterator[tuple[str, Task]]:
    current = asyncio.current_task()
    for task in sorted(asyncio.all_tasks(), key=lambda each: each.get_name()):
        yield task.get_name(), Task(0, 0, QUEUED if task is current else PENDING, 0, 0)


def _threads() -> Iterator[tuple[str, Task]]:
    size = _stack_size() // _WORD
    for thread in threading.enumerate():
        state = QUEUED if thread is threading.current_thread() else PENDING
        used = _stack_used() // _WORD if thread is threading.main_thread() else 0
        yield thread.name, Task(_nice(thread.native_id), 0, state, size, used, _runtime_us(thread.native_id))


def _stack_size() -> int:
    """Return the stack that the system gives a thread, in bytes."""
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return threading.stack_size() or max(limit, 0)


def _stack_used() -> int:
    """Return the main thread's stack, in bytes; 0 where the kernel does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmStk:"):
            return int(line.split()[1]) * 1024
    return 0


def _nice(native_id: int | None) -> int:
    try:
        return os.getpriority(os.PRIO_PROCESS, native_id or 0)
    except OSError:  # the thread has just ended
        return 0


def _runtime_us(native_id: int | None) -> int:
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0]) // 1000
    except (OSError, ValueError, IndexError):  # ended, or a kernel without these statistics
        return 0

"""What a process holds, to be compared before and after: descriptors by what they are, tasks by name, memory."""

import asyncio
import gc
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OWN = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Held:
    """Descriptors and tasks; an assertion shows which are too many."""

    descriptors: Counter[str]
    tasks: Counter[str]

    def beyond(self, before: "Held") -> Counter[str]:
        """What is held and was not before."""
        return (self.descriptors - before.descriptors) + (self.tasks - before.tasks)


def descriptors(process: Path = OWN) -> Counter[str]:
    """The open descriptors of a process, by kind or path."""
    found: Counter[str] = Counter()
    for entry in (process / "fd").iterdir():
        try:
            found[re.sub(r":\[\d+\]$", "", os.readlink(entry))] += 1
        except FileNotFoundError:
            continue  # the one by which the folder is read
    found.pop(f"{process.resolve()}/fd", None)
    return found


def held() -> Held:
    """What this process holds now."""
    gc.collect()
    return Held(descriptors(), Counter(_what(task) for task in asyncio.all_tasks()))


def _what(task: "asyncio.Task[object]") -> str:
    code = task.get_coro()
    return getattr(code, "__qualname__", repr(code))


async def released(before: Held, timeout_s: float = 5) -> None:
    """Return when no more is held than before; the assertion says what is too much."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while held().beyond(before):  # noqa: ASYNC110  (nobody tells)
                await asyncio.sleep(0.02)
    assert not (more := held().beyond(before)), more


def resident(process: Path = OWN) -> int:
    """Memory of a process, in bytes."""
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""Turns a hang, growing memory and open descriptors into findings."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

HANG_S = 1.0
"""CPU time that one input may take."""
GROWTH = 96 << 20
"""Bytes by which the process may grow after it has warmed up; the fuzzer's own tables grow, too."""
DESCRIPTORS = 64
"""More descriptors than this are a leak."""
WARM_UP = 20_000
"""Inputs before memory is measured."""
EVERY = 2_000
"""Inputs between two looks."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Finding(Exception):  # noqa: N818  (it says what it is)
    """An input that no assertion would tell of."""


class Guard:
    """Runs a check on inputs, and watches.

    Args:
        check: Raises if an input is a finding.
        clock: Returns CPU time in seconds.
        memory: Returns the process's resident memory in bytes.
        descriptors: Returns how many descriptors are open.
        warm_up: Inputs before memory is measured.
        every: Inputs between two looks at memory and descriptors.
    """

    def __init__(
        self,
        check: Callable[[bytes], None],
        *,
        clock: Callable[[], float] = time.process_time,
        memory: Callable[[], int] = lambda: resident(),
        descriptors: Callable[[], int] = lambda: len(os.listdir("/proc/self/fd")),
        warm_up: int = WARM_UP,
        every: int = EVERY,
    ) -> None:
        self._check = check
        self._clock = clock
        self._memory = memory
        self._descriptors = descriptors
        self._warm_up = warm_up
        self._every = every
        self._first = 0
        self.count = 0
        """How many inputs there were."""

    def __call__(self, data: bytes) -> None:
        """Check one input.

        Raises:
            Finding: If it took too long, or the process has grown.
            Exception: Whatever the check raises.
        """
        before = self._clock()
        self._check(data)
        if (took := self._clock() - before) > HANG_S:
            raise Finding(f"{took:.2f} s for an input of {len(data)} bytes, limit is {HANG_S:g} s")
        self.count += 1
        if self.count % self._every == 0:
            self._look()

    def _look(self) -> None:
        if (opened := self._descriptors()) > DESCRIPTORS:
            raise Finding(f"{opened} descriptors are open after {self.count} inputs, limit is {DESCRIPTORS}")
        if self.count < self._warm_up:
            return
        if (now := self._memory()) - (self._first or now) > GROWTH:
            gc.collect()
            now = self._memory()
        self._first = self._first or now
        if (grown := now - self._first) > GROWTH:
            raise Finding(f"{grown} bytes more than after {self._warm_up} inputs, now {self.count}; limit is {GROWTH}")


def resident() -> int:
    """Return the resident memory of this process in bytes (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE

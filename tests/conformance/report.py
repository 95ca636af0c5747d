"""What came out of comparing our boot loader with the recorded one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Report:
    """What came out of a replay."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    ops_same: int = 0
    ops_all: int = 0
    failures: list[str] = field(default_factory=list)
    allowed: Counter[str] = field(default_factory=Counter)
    """How many boots a rule let differ, by its reason."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many cases were skipped, by why."""

    @property
    def cases(self) -> int:
        """All of them."""
        return self.passed + self.failed + self.skipped

    def skip(self, count: int, reason: str) -> None:
        """Count cases that are not compared."""
        self.skipped += count
        self.reasons[reason] += count

    def add(self, name: str, differences: Iterable[str]) -> None:
        """Count one case; it passed if there are no differences and nothing broke while they were looked for."""
        found: list[str] = []
        try:
            found.extend(differences)
        except Exception as exc:  # the product's fault or the file's: it costs this case, not the others
            found.append(f"stopped by {exc!r}")
        self.passed += not found
        self.failed += bool(found)
        self.failures += [f"{name}: {difference}" for difference in found]

    def ops(self, ours: int, recorded: int | None) -> None:
        """Count whether the number of flash operations is the recorded one; it need not be."""
        if recorded is not None:
            self.ops_all += 1
            self.ops_same += ours == recorded

    def lines(self) -> Iterator[str]:
        """Yield what to print; the last line is the count."""
        yield from self.failures
        yield from (f"{count} skipped: {reason}" for reason, count in self.reasons.items())
        yield from (f"{count} boots differ by a rule: {reason}" for reason, count in self.allowed.items())
        if self.ops_all:
            yield f"flash operations: {self.ops_same} of {self.ops_all} counts agree"
        yield f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

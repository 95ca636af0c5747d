"""What differs between two slots, sector by sector: the runs of a picture that is true to scale.

0                                              size of the larger
| same | differs | same ............. | only b |
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from smp_dfu_host.store.survey import Part, Segment


class Match(Enum):
    """How a stretch compares; the value is its name in JSON."""

    SAME = "same"
    DIFFERS = "differs"
    ONLY_A = "only a"
    """The other one is shorter."""
    ONLY_B = "only b"


@dataclass(frozen=True, slots=True)
class Run:
    """Sectors that compare alike."""

    match: Match
    offset: int
    """In bytes, from the start."""
    size: int
    """In bytes."""
    bytes: int
    """How many of them differ."""
    sectors: int

    @property
    def end(self) -> int:
        """Where the next run starts."""
        return self.offset + self.size


def compare(a: bytes, b: bytes, sectors: Sequence[int]) -> tuple[Run, ...]:
    """Return the runs of sectors that are the same, or are not, in order and without gaps.

    Args:
        a: One slot's contents.
        b: The other's.
        sectors: Sector sizes from the start; the last one repeats for what lies behind.
    """
    runs: list[Run] = []
    for each in _sectors(a, b, sectors):
        if runs and runs[-1].match is each.match:
            last = runs.pop()
            each = Run(last.match, last.offset, last.size + each.size, last.bytes + each.bytes, last.sectors + 1)
        runs.append(each)
    return tuple(runs)


def _sectors(a: bytes, b: bytes, sectors: Sequence[int]) -> Iterator[Run]:
    offset, total = 0, max(len(a), len(b))
    shared, longer = min(len(a), len(b)), Match.ONLY_A if len(a) > len(b) else Match.ONLY_B
    number = 0
    while offset < total:
        end = min(offset + sectors[min(number, len(sectors) - 1)], total)
        if offset < shared < end:
            end = shared  # a shorter one ends in the middle of a sector
        else:
            number += 1
        if offset >= shared:
            yield Run(longer, offset, end - offset, end - offset, 1)
        else:
            count = _difference(a[offset:end], b[offset:end])
            yield Run(Match.DIFFERS if count else Match.SAME, offset, end - offset, count, 1)
        offset = end


def _difference(a: bytes, b: bytes) -> int:
    if a == b:
        return 0
    other = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
    return len(a) - other.to_bytes(len(a), "little").count(0)


def parts_in(segments: Sequence[Segment], offset: int, size: int) -> tuple[Part, ...]:
    """Return which parts of a slot lie in a stretch of it, in order, each once."""
    found = [each.part for each in segments if each.offset < offset + size and each.end > offset]
    return tuple(dict.fromkeys(found))

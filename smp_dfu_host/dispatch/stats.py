"""Counters, in named groups: what the statistics group lists and what the live display shows.

counters = statistics.group("smp", "requests", "replies")
counters["requests"] += 1
"""

from collections.abc import Mapping


class Counters(dict[str, int]):
    """One group's counters by name, in the order in which they were declared; counting is one dictionary operation."""

    __slots__ = ()


class Statistics:
    """All groups of counters, in the order in which they were made."""

    def __init__(self) -> None:
        self._groups: dict[str, Counters] = {}

    def group(self, name: str, *fields: str) -> Counters:
        """Return the group of that name, made if need be; fields that it lacks begin at 0."""
        counters = self._groups.setdefault(name, Counters())
        for field in fields:
            counters.setdefault(field, 0)
        return counters

    @property
    def groups(self) -> Mapping[str, Mapping[str, int]]:
        """Every group by name."""
        return self._groups

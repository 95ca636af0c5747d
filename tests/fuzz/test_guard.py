"""The guard finds what no assertion finds."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from tests.fuzz.guard import DESCRIPTORS, GROWTH, Finding, Guard, resident


def fine(_data: bytes) -> None:
    """Accept every input."""


def after(*values: int) -> Callable[[], int]:
    """Return a reading that gives those values, the last one for ever."""
    readings: Iterator[int] = chain(values, repeat(values[-1]))
    return lambda: next(readings)


def guard(check: Callable[[bytes], None] = fine, **readings: Callable[[], int]) -> Guard:
    return Guard(check, **{"memory": after(1), "descriptors": after(3), **readings}, warm_up=1, every=1)


def test_inputs_that_are_fine_are_counted() -> None:
    guarded = guard()
    for _ in range(3):
        guarded(b"x")
    assert guarded.count == 3


def test_exception_of_the_check_is_let_through() -> None:
    def broken(data: bytes) -> None:
        raise ZeroDivisionError(data)

    with pytest.raises(ZeroDivisionError):
        guard(broken)(b"x")


def test_hang_is_a_finding() -> None:
    time = iter((0.0, 1.0, 10.0, 11.1))
    guarded = Guard(fine, clock=lambda: next(time))
    guarded(b"x")
    with pytest.raises(Finding, match=r"1\.10 s for an input of 1 bytes, limit is 1 s"):
        guarded(b"x")


def test_growing_memory_is_a_finding() -> None:
    guarded = guard(memory=after(1000, GROWTH + 1000, GROWTH + 1001))
    guarded(b"x")
    guarded(b"x")
    with pytest.raises(Finding, match=f"{GROWTH + 1} bytes more than after 1 inputs, now 3"):
        guarded(b"x")


def test_memory_that_garbage_collection_frees_is_none() -> None:
    guarded = guard(memory=after(1000, GROWTH + 1001, 2000))
    guarded(b"x")
    guarded(b"x")


def test_open_descriptors_are_a_finding() -> None:
    guarded = guard(descriptors=after(DESCRIPTORS, DESCRIPTORS + 1))
    guarded(b"x")
    with pytest.raises(Finding, match="65 descriptors are open after 2 inputs, limit is 64"):
        guarded(b"x")


def test_resident_memory_is_that_of_a_python() -> None:
    assert 1 << 20 < resident() < 1 << 34

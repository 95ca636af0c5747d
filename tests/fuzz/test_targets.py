"""What is fuzzed, without the fuzzer: seeds, what was found before, and any bytes."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Check
from tests.fuzz.watched import WATCHED

FOUND = Path(__file__).parent / "found"
SLOW = {"requests": 12, "flash": 5}
"""Every so many-th seed is enough for the suite."""


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Check]]:
    folder = tmp_path_factory.mktemp("fuzz")
    with ExitStack() as stack:
        yield {name: stack.enter_context(target.make(folder / name)) for name, target in TARGETS.items()}


def test_every_target_has_modules_that_guide_it() -> None:
    assert set(WATCHED) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_no_findings(checks: dict[str, Check], name: str) -> None:
    count = 0
    for seed in islice(TARGETS[name].seeds(), 0, None, SLOW.get(name, 1)):
        checks[name](seed)
        count += 1
    assert count >= 5


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_is_no_finding_any_more(checks: dict[str, Check], path: Path) -> None:
    checks[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(data=st.binary(max_size=200))
def test_no_bytes_are_a_finding(checks: dict[str, Check], name: str, data: bytes) -> None:
    checks[name](data)

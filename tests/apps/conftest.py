"""What the replays share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = "/dev/shm"
"""Where stores are made if there is such a place: every change of state syncs files, which takes a disk long."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for a store."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(params=[0.0, 0.05], ids=["at once", "50 ms a frame"])
def delay_s(request: pytest.FixtureRequest) -> float:
    """Return what each frame takes in the air."""
    return float(request.param)

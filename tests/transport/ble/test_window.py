import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.transport.ble import window


def test_it_is_closed_until_it_is_opened_and_after_it_was_closed(tmp_path: Path) -> None:
    assert window.remaining(tmp_path) == 0
    window.open_window(tmp_path, 60)
    assert 59 < window.remaining(tmp_path) <= 60
    window.close_window(tmp_path)
    window.close_window(tmp_path)
    assert window.remaining(tmp_path) == 0


@pytest.mark.parametrize(("after_s", "open_still"), [(59.9, True), (60.1, False), (-0.1, False)])
def test_it_ends_at_its_deadline_and_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float, open_still: bool
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    window.open_window(tmp_path, 60)
    monkeypatch.setattr(time, "time", lambda: now + after_s)
    assert bool(window.remaining(tmp_path)) is open_still


@given(st.binary(max_size=60) | st.just(b'{"opened": [], "until": 1}') | st.just(b"[]") | st.just(b'{"opened": 1}'))
def test_a_file_that_says_nothing_sensible_opens_nothing(tmp_path_factory: pytest.TempPathFactory, said: bytes) -> None:
    """Whatever is in the file, nobody gets in by it who was not let in."""
    folder = tmp_path_factory.mktemp("window")
    (folder / window.NAME).write_bytes(said)
    assert window.remaining(folder) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere/ble-window\.json: No such file or directory"):
        window.open_window(tmp_path / "nowhere", 60)
    (tmp_path / window.NAME).mkdir()
    with pytest.raises(StoreError, match="ble-window"):
        window.close_window(tmp_path)

"""The soak test itself, for half a minute; and that it finds what it should."""

import asyncio
from pathlib import Path

import pytest

from tests.soak import errors, faulty, main, soak


@pytest.mark.slow
def test_half_a_minute_shows_nothing_wrong(tmp_path: Path) -> None:
    done, wrong = asyncio.run(soak(tmp_path, 30, 1))
    assert wrong == []
    assert {"uploads", "resets", "files", "echoes", "kills"} <= set(done)


@pytest.mark.parametrize(
    ("images", "right"),
    [
        ([{"slot": 0, "bootable": True, "active": True}, {"slot": 1, "bootable": True}], True),
        ([{"slot": 0, "bootable": False, "active": True}], False),
        ([{"slot": 1, "bootable": True}], False),
        ([], False),
    ],
)
def test_slots_without_an_image_that_runs_are_found(images: list[dict[str, object]], right: bool) -> None:
    assert (faulty(images) == []) == right


def test_errors_and_tracebacks_in_a_log_are_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "INFO udp 127.0.0.1:1: joined\nWARNING a client did it\nERROR ours\nTraceback (most recent call last):\n"
    )
    assert errors(log) == ["ERROR ours", "Traceback (most recent call last):"]


def test_wrong_time_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["soon"])
    assert "invalid float value: 'soon'" in capsys.readouterr().err

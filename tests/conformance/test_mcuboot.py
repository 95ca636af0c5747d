"""The recordings of the real boot loader, in full for what the product has."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.mcuboot import VECTORS, Report, main, replay

RECORDINGS = VECTORS / "mcuboot"
NOWHERE = "0123456789abcdef"
"""A hash of contents that were not recorded."""


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("scenarios_move.json", 132),
        ("scenarios_scratch.json", 132),
        ("scenarios_offset.json", 134),
        ("scenarios_overwrite.json", 117),
        ("scenarios_owfast.json", 117),
        ("scenarios_xip.json", 46),
        ("scenarios_xiprevert.json", 231),
        ("scenarios_ramload.json", 23),
        ("scenarios_ramloadrevert.json", 25),
        ("scenarios_single.json", 29),
        ("align.json", 48),
        ("cuts.json", 767),
        ("geometry.json", 267),
        ("tables.json.gz", 2457),
    ],
)
def test_recording_is_replayed_without_a_difference(name: str, cases: int) -> None:
    report = replay([RECORDINGS / name])
    assert report.failures == []
    assert (report.passed, report.skipped) == (cases, 0)
    assert report.ops_same == report.ops_all


def test_last_line_counts_and_exit_status_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RECORDINGS / "scenarios_xip.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" skipped")
    assert main([]) == 2


def test_failure_is_told_and_counted(tmp_path: Path) -> None:
    text = (RECORDINGS / "scenarios_xip.json").read_text(encoding="utf-8")
    changed = tmp_path / "scenarios.json"
    changed.write_text(text.replace('"ok": true', '"ok": false').replace('"ok":true', '"ok":false'), encoding="utf-8")
    report = replay([changed])
    assert report.failed > 0
    assert any("ok is True, recorded False" in line for line in report.lines())


def lone_scenario(folder: Path, **changes: Any) -> Path:
    """Write the first swap-using-move scenario, which starts with an erased secondary slot, to a file of its own."""
    (scenario, *_) = json.loads((RECORDINGS / "scenarios_move.json").read_text(encoding="utf-8"))["scenarios"]
    scenario["init_areas"]["secondary0"]["sha"] = NOWHERE
    del scenario["name"], scenario["note"], scenario["init"]
    file = folder / "new.json"
    file.write_text(json.dumps(scenario | changes), encoding="utf-8")
    return file


def test_contents_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / f"{NOWHERE}.bin").write_bytes(b"\xff" * 32768)
    report = replay([lone_scenario(tmp_path)])
    assert (report.passed, report.failed, report.skipped) == (1, 0, 0)


@pytest.mark.parametrize(
    ("changes", "counts", "told"),
    [
        ({}, (0, 1, 0), "move_a8_i1_s16 align 8: stopped by LookupError('no contents for 0123456789abcdef"),
        ({"exe": "move"}, (0, 1, 0), "not of a known format, or cannot be read: ValueError('move: not the name"),
        ({"exe": "move-nv-dp_a8_i1_s16"}, (0, 0, 1), ""),
        ({"exe": "warp_a8_i1_s16"}, (0, 0, 1), ""),
        (
            {"init_areas": {}, "steps": [{"cmd": ["jump"], "res": {}, "after": {}}]},
            (0, 1, 0),
            "['jump']: not a command",
        ),
    ],
)
def test_what_cannot_be_replayed_costs_its_case_only(
    tmp_path: Path, changes: dict[str, Any], counts: tuple[int, int, int], told: str
) -> None:
    report = replay([lone_scenario(tmp_path, **changes)])
    assert (report.passed, report.failed, report.skipped) == counts
    assert told in "".join(report.failures)


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_replayed(tmp_path: Path) -> None:
    report = replay([tmp_path / "missing.json", RECORDINGS / "scenarios_single.json"])
    assert (report.passed, report.failed) == (29, 1)


def test_report_counts_what_agrees() -> None:
    report = Report()
    report.add("good", [])
    report.add("bad", ["it differs"])
    report.ops(3, 3)
    report.ops(3, 4)
    report.ops(3, None)
    assert list(report.lines()) == [
        "bad: it differs",
        "flash operations: 1 of 2 counts agree",
        "1 passed, 1 failed, 0 skipped",
    ]

"""The recordings of the real boot loader, in full for what the product has."""

from pathlib import Path

import pytest

from tests.conformance.mcuboot import VECTORS, Report, main, replay

RECORDINGS = VECTORS / "mcuboot"


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

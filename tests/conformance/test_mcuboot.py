"""The recordings of the real boot loader, in full for what the product has."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.mcuboot.flash import PowerCut
from tests.conformance.mcuboot import VECTORS, Build, Device, Replay, Report, main, replay
from tests.conformance.mcuboot_rules import MAX_RULES, Rule, load

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
        ({"exe": "move"}, (0, 1, 0), "as a whole: cannot be read: ValueError('move: not the name"),
        ({"exe": "move-nv-odd_a8_i1_s16"}, (0, 0, 1), "1 skipped: builds of variant 'odd' are not known"),
        ({"exe": "warp_a8_i1_s16"}, (0, 0, 1), "1 skipped: builds of mode 'warp' are not known"),
        ({"exe": "move_a8_i4_s16"}, (0, 0, 1), "1 skipped: builds of 4 images are not known"),
        ({"exe": 7}, (0, 1, 0), "cannot be read: TypeError("),
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
    assert told in "".join(report.lines())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "holds nothing to compare"),
        ({"scenarios": [], "count": 0}, "holds nothing to compare"),
        ({"dreams": {"exe": "move_a8_i1_s16", "pages": 3}}, "dreams: of a shape that is not known: exe, pages"),
        ([{"exe": "move_a8_i1_s16", "lines": []}], "number 1: of a shape that is not known: exe, lines"),
        ([7], "number 1: of a shape that is not known: 7"),
        ("text", "as a whole: of a shape that is not known: 'text'"),
    ],
)
def test_what_is_of_an_unknown_shape_fails_and_is_named(tmp_path: Path, content: object, told: str) -> None:
    file = tmp_path / "new.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    report = replay([file])
    assert (report.passed, report.failed) == (0, 1)
    assert told in report.failures[0]


def test_several_variants_at_once_are_built() -> None:
    options = Build.parse("move-nv-dp-bn_a8_i1_s16").options({})
    assert (options.validate_primary, options.compare_build, options.downgrade.value) == (False, True, "by-version")


def half_reverted() -> Device:
    """Return flash of swap-using-offset whose revert was cut twice in its first sector."""
    path = RECORDINGS / "cuts.json"
    tables = json.loads(path.read_text(encoding="utf-8"))
    table = next(each for each in tables if each["exe"] == "offset_a8_i1_s16" and each["kind"] == "revert")
    device = Device(Build.parse(table["exe"]), table["cfg"], Replay(path, Report()).contents)
    (rule,) = load()
    for first, second in ((first, second) for first in range(1, 30) for second in range(1, 10)):
        device.load(table["before"])
        for cut in (first, second):
            device.cut(cut)
            with suppress(PowerCut):
                device.bootloader.boot()
        if rule.covers("offset", device.trailers()):
            device.cut(None)
            return device
    raise AssertionError("no two cuts lead there")


def stopped_recording(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write a recording of a boot loader that stops, twice, and leaves the flash as it is."""
    shas = {}
    for name, data in contents.items():
        sha = hashlib.sha256(data).hexdigest()[:16]
        (folder / f"{sha}.bin").write_bytes(data)
        shas[name] = {"sha": sha}
    cfg = {"align": 8, "erased": 255, "primary0": "4096x8", "secondary0": "4096x8"}
    step = {"cmd": ["boot"], "res": {"stopped": "assert", "ok": False}, "after": shas}
    scenario = {"exe": "offset_a8_i1_s16", "cfg": cfg, "init_areas": shas, "steps": [step, step]}
    file = folder / "stopped.json"
    file.write_text(json.dumps(scenario), encoding="utf-8")
    return file


def test_a_rule_lets_ours_go_on_where_the_real_one_stops_and_is_counted(tmp_path: Path) -> None:
    """Each boot is compared from the recorded flash, so the second one falls under the rule too."""
    file = stopped_recording(tmp_path, half_reverted().contents())
    assert replay([file]).failed == 1
    report = replay([file], load())
    assert report.failures == []
    assert (report.passed, sum(report.allowed.values())) == (1, 2)
    assert "2 boots differ by a rule: a revert that was cut twice" in "\n".join(report.lines())


def test_a_rule_does_not_cover_a_boot_loader_that_boots_nothing(tmp_path: Path) -> None:
    magic = bytes.fromhex("3db8f396")
    contents = {name: data.replace(magic, bytes(4)) for name, data in half_reverted().contents().items()}
    scenario = json.loads(stopped_recording(tmp_path, contents).read_text(encoding="utf-8"))
    for step in scenario["steps"]:
        step["res"] = {"stopped": None, "ok": True}
    (tmp_path / "stopped.json").write_text(json.dumps(scenario), encoding="utf-8")
    report = replay([tmp_path / "stopped.json"], load())
    assert (report.failed, sum(report.allowed.values())) == (1, 0)


def test_rules_are_as_narrow_as_they_say() -> None:
    rule = Rule("off*", {"magic": "good"}, {"copy_done": "set"}, "test")
    good, other = {"magic": "good", "copy_done": "set"}, {"magic": "bad", "copy_done": "unset"}
    assert rule.covers("offset", [(other, other), (good, good)])
    assert not rule.covers("move", [(good, good)])
    assert not rule.covers("offset", [(other, good), (good, other)])


def test_the_rules_are_few_and_have_reasons(tmp_path: Path) -> None:
    assert 0 < len(load()) <= MAX_RULES
    table = '[[rule]]\nmode = "*"\nslot0 = {}\nslot1 = {}\nreason = "%s"\n'
    file = tmp_path / "rules.toml"
    file.write_text(table % "why" * (MAX_RULES + 1), encoding="utf-8")
    with pytest.raises(ValueError, match="11 rules, limit is 10"):
        load(file)
    file.write_text(table % "", encoding="utf-8")
    with pytest.raises(ValueError, match="a rule without a reason"):
        load(file)


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

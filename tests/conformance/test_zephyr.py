"""The replayer itself: that it passes what is as recorded, and fails what is not."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import zephyr
from tests.conformance.zephyr_cases import Case, differences, load
from tests.conformance.zephyr_rules import MAX_RULES, Rule
from tests.conformance.zephyr_rules import load as load_rules
from tests.conformance.zephyr_servers import SERVERS, Setup

GOLDEN = Path(__file__).parents[1] / "vectors" / "zephyr" / "golden.jsonl"


def excerpt(
    folder: Path, server: str, scenario: str, change: Callable[[dict[str, Any]], None] = lambda _fields: None
) -> str:
    """Write one scenario of version 1 to a file of its own; return its name."""
    path = folder / "excerpt.jsonl"
    with GOLDEN.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as out:
        for line in lines:
            fields = json.loads(line)
            if (fields.get("server"), fields.get("scenario"), fields.get("version")) == (server, scenario, 1):
                change(fields)
                out.write(json.dumps(fields) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("server", "scenario", "last"),
    [
        ("native_sim.udp", "os_echo", "25 passed, 0 failed, 0 skipped"),
        ("qemu_cortex_m0.serial", "img_erase", "18 passed, 0 failed, 0 skipped"),
        ("native_sim.serial_raw", "wire_raw", "29 passed, 0 failed, 0 skipped"),
        ("native_sim.shell", "wire_shell", "8 passed, 0 failed, 0 skipped"),
    ],
)
def test_a_scenario_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: str, scenario: str, last: str
) -> None:
    assert zephyr.main([excerpt(tmp_path, server, scenario)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_changed_answer_fails_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(fields: dict[str, Any]) -> None:
        if fields["name"] == "os_echo/read_hello/v1":
            fields["response_hex"] = fields["response_hex"].replace("48656c6c6f", "48656c6c70")

    assert zephyr.main([excerpt(tmp_path, "native_sim.udp", "os_echo", change)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("FAILED os_echo/read_hello/v1 (native_sim.udp): /body/r: recorded 'Hellp, world!', ours")
    assert out[-1] == "24 passed, 1 failed, 0 skipped"


ECHO = {"server": "native_sim.udp", "scenario": "new", "kind": "frame", "group": 0, "command": 0, "op": 0}
ECHO |= {"request_hex": "0800000400000700a1616460", "response_hex": "0900000500000700bf617260ff"}


def transcript(folder: Path, *cases: dict[str, Any]) -> str:
    """Write cases, in steps as they come, to a file; return its name."""
    path = folder / "new.jsonl"
    lines = ["", *(json.dumps({"step": step, **fields}) for step, fields in enumerate(cases)), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_fields_that_say_nothing_may_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool
) -> None:
    name = transcript(tmp_path, {"meta": {}}, ECHO, {**ECHO, "more_responses_hex": None, "response_hex": None})
    if zipped:
        path = Path(name)
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert zephyr.main([name]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("FAILED new/2/v0 (native_sim.udp): /: recorded 'absent', ours")
    assert out[-1] == "1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"server": "nrf52840dk.bt"}, "server nrf52840dk.bt is not in the table"),
        ({"transport": "bt"}, "transport bt not built yet"),
        ({"transport": "serial"}, "transport serial is not that server's"),
        ({"kind": "reboot"}, "kind reboot is not known"),
        ({"timing_dependent": True}, "depends on timing"),
        ({"replayable": False}, "recorded for reading"),
    ],
)
def test_what_cannot_be_replayed_is_skipped_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], reason: str
) -> None:
    assert zephyr.main([transcript(tmp_path, ECHO | fields)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"skipped, 1: {reason}", "0 passed, 0 failed, 1 skipped"]


def test_a_server_that_does_not_start_fails_its_cases_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVERS, "broken", Setup("udp", buf_size=1, buf_count=4, groups="0"))
    assert zephyr.main([transcript(tmp_path, ECHO | {"server": "broken"}, ECHO)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("FAILED new/0/v0 (broken): not replayed: RuntimeError('the server did not start:")
    assert out[-1] == "1 passed, 1 failed, 0 skipped"


def test_an_address_that_this_machine_lacks_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVERS, "far", Setup("udp", buf_size=2048, buf_count=4, groups="0", host="192.0.2.1"))
    assert zephyr.main([transcript(tmp_path, ECHO | {"server": "far"})]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == "skipped, 1: this machine has no 192.0.2.1"


@pytest.mark.parametrize("text", [None, "no json", "{}", "[]"])
def test_a_file_that_is_no_transcript_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert zephyr.main([str(path)]) == 2
    assert capsys.readouterr().out.startswith("cannot be read: ")


def test_without_files_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert zephyr.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: ")


def case(answer: str = "0900000600000700bf62726308ff", **fields: Any) -> Case:
    return Case({"response_hex": answer, "kind": "frame", "server": "s", "group": 0, "command": 0, "op": 0} | fields)


def found(recorded: Case, *ours: str) -> list[str]:
    return [str(each) for each in differences(recorded, [bytes.fromhex(frame) for frame in ours])]


def test_the_form_of_the_cbor_does_not_matter() -> None:
    assert found(case(), "0900000500000700 a162726308") == []


@pytest.mark.parametrize(
    ("ours", "path"),
    [
        ("0b00000500000700 a162726308", "/header/op"),
        ("0900000500000800 a162726308", "/header/sequence"),
        ("0900000500000700 a162726301", "/body/rc"),
        ("0900000500000700 a1627263f5", "/body/rc"),
        ("0900000800000700 a262726308617801", "/body/x"),
        ("0900000100000700 a0", "/body/rc"),
        ("0900000900000700 a0", "/body"),
        ("0900000100000700 ff", "/body"),
    ],
)
def test_differences_are_told_by_path(ours: str, path: str) -> None:
    assert any(each.startswith(f"{path}: ") for each in found(case(), ours))


def test_missing_and_surplus_answers_are_differences() -> None:
    answer = "0900000600000700bf62726308ff"
    assert found(case(), answer, answer)[0].startswith("/: recorded 'absent'")
    assert found(case())[0].endswith("ours 'absent'")
    assert found(Case({"response_hex": None, "kind": "frame"})) == []


def test_of_build_specific_fields_the_type_counts() -> None:
    recorded = case("0900000500000700a162726308", build_specific=["rc"])
    assert found(recorded, "0900000500000700a162726307") == []
    assert found(recorded, "0900000600000700a16272636130") != []


def test_of_a_burst_the_recorded_answers_count() -> None:
    burst = case(kind="burst")
    assert found(burst, "0900000600000700bf62726308ff", "0900000600000800bf62726308ff") == []


def test_rules_are_as_narrow_as_they_say() -> None:
    recorded = case()
    (difference,) = differences(recorded, [bytes.fromhex("0900000500000700a162726301")])
    rule: dict[str, Any] = {"server": "*", "group": 0, "command": 0, "path": "/body", "reason": "test"}
    assert Rule(**rule).allows(recorded, difference, frozenset())
    assert Rule(server="*", path="/body", reason="any request").allows(recorded, difference, frozenset())
    others: list[dict[str, Any]] = [
        {"server": "t"},
        {"group": 1},
        {"command": 1},
        {"op": 2},
        {"path": "/header"},
        {"path": "/body/rc/deeper"},
        {"after": "reset"},
        {"values": {"recorded": 7}},
        {"asked": {"name": ["x"]}},
    ]
    for other in others:
        assert not Rule(**rule | other).allows(recorded, difference, frozenset())
    assert Rule(**rule | {"after": "reset"}).allows(recorded, difference, frozenset({"reset"}))


def test_the_rules_are_few_and_have_reasons() -> None:
    rules = load_rules(zephyr.RULES)
    assert len(rules) <= MAX_RULES
    assert all(rule.reason for rule in rules)


def test_the_golden_file_has_all_its_cases_in_order() -> None:
    runs = load(GOLDEN)
    assert sum(map(len, runs)) == 2007
    assert all([each.fields["step"] for each in run] == list(range(len(run))) for run in runs)

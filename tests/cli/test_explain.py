"""The explanation, in words and as JSON."""

import pytest
from rich.cells import cell_len

from smp_dfu_host.config import parse
from tests.cli.conftest import SMALL, Cli


@pytest.mark.parametrize("columns", [80, 160])
def test_explain_names_the_rule_and_what_each_request_would_do(cli: Cli, columns: int) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    result = cli("boot", "--explain", columns=columns)
    assert result.exit_code == 0
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    text = " ".join(result.stdout.split())
    for words in (
        "swap type table, no row: slot 0 magic unset",
        "slot 0 boots:",
        "slot 1 does not boot: nothing asks for it",
        "reset version 0.0.0 runs from slot 0, and stays",
        "test 1 version 2.0.0 runs from slot 0; at the reset after that, unless somebody confirms",
        "confirm 1 version 2.0.0 runs from slot 0, and stays",
        "note a server confirms what runs when it starts",
    ):
        assert words in text


def test_explain_boots_nothing(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    assert cli.json("boot", "--explain")["next_boot"]["version"] == "2.0.0"
    assert cli.json("slots", "history") == {"boots": []}
    assert cli.json("slots")["slots"][0]["version"] == "0.0.0"


def test_json_has_rule_verdicts_and_outcomes(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    said = cli.json("boot", "--explain")
    assert said["images"] == [
        {
            "image": 0,
            "rule": {
                "name": "swap type table row 1",
                "condition": "slot 1 magic good, image_ok unset",
                "follows": "test",
            },
            "asked": "test",
            "resumes": False,
            "slots": [
                {"slot": 0, "boots": False, "why": "the image of slot 1 takes its place"},
                {"slot": 1, "boots": True, "why": "swap type table row 1 -> test"},
            ],
        }
    ]
    outcomes = {(each["what"], each["slot"]): each for each in said["outcomes"]}
    assert [boot["version"] for boot in outcomes["reset", None]["boots"]] == ["2.0.0", "0.0.0"]
    assert outcomes["reset", None]["boots"][0]["running"][0]["slot"] == 0
    assert outcomes["confirm", 1]["refused"].startswith("the next boot runs slot 1")
    assert outcomes["confirm", 1]["boots"] == []
    assert cli.json("slots")["explanation"] == said


def test_no_note_when_no_server_confirms(cli: Cli) -> None:
    cli.configure(f"{SMALL}[dfu]\nconfirm_at_start = false\n")
    cli("slots", "load", cli.image("2.0.0"))
    assert "note" not in cli("boot", "--explain").stdout


def test_store_that_does_not_boot_is_exit_status_1(cli: Cli) -> None:
    cli("slots")
    (cli.store / "slot0.bin").write_bytes(b"\xff" * 32768)
    result = cli("boot", "--explain")
    assert result.exit_code == 1
    assert "no image boots" in result.stdout


def test_slots_say_of_each_slot_whether_it_boots(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    text = cli("slots", columns=160).stdout
    assert "next     boots: no mark asks for another image" in text
    assert "next     does not boot: nothing asks for it" in text
    assert parse({}, cli.folder).dfu.confirm_at_start


@pytest.mark.parametrize("columns", [80, 160])
def test_reset_that_asks_for_the_loader_is_among_the_dry_runs(cli: Cli, columns: int) -> None:
    cli.configure(SMALL + '[bootloader]\nmode = "firmware-loader"\n')
    cli("slots", "load", cli.image("2.0.0"), "--slot", "1")
    result = cli("boot", "--explain", columns=columns)
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    words = "reset, loader asked for version 2.0.0 runs from slot 1; at the reset after that: version 0.0.0 runs"
    assert words in " ".join(result.stdout.split())
    outcomes = {each["what"]: each for each in cli.json("boot", "--explain")["outcomes"]}
    assert [boot["slots"] for boot in outcomes["reset, loader asked for"]["boots"]] == [[1], [0]]

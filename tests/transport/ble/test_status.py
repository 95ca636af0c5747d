import json
from dataclasses import replace
from pathlib import Path

import pytest

from smp_dfu_host.transport.ble.status import NAME, Central, Report, Status, Written, read
from tests.fakes import FakeClock

IDLE = Status("hci0", "AA:BB:CC:00:00:00", "5.66", "encrypt", "just-works", False, True, "30 to 60 ms")
BUSY = replace(IDLE, centrals=(Central("AA:00:00:00:00:01", 247, "encrypt", True, 7.5, 0),))


class World:
    def __init__(self, folder: Path | None) -> None:
        self.status = IDLE
        self.clock = FakeClock()
        self.report = Report(folder, lambda: self.status, self.clock)

    def change(self) -> None:
        self.report.changed()
        self.clock.advance(1)


def test_what_is_the_case_is_in_the_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert read(tmp_path) == Written()
    world.change()
    assert json.loads((tmp_path / NAME).read_text())["status"]["advertising_interval"] == "30 to 60 ms"
    world.status = BUSY
    world.change()
    assert read(tmp_path).status["centrals"] == [
        {
            "address": "AA:00:00:00:00:01",
            "mtu": 247,
            "security": "encrypt",
            "bonded": True,
            "interval_ms": 7.5,
            "latency": 0,
        }
    ]


def test_changes_are_gathered_and_the_same_is_not_written_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(5):
        world.report.changed()
    assert len(world.clock.timers) == 1
    world.clock.advance(1)
    (tmp_path / NAME).unlink()
    world.change()
    assert not (tmp_path / NAME).exists()


def test_the_end_leaves_no_status_but_the_notes_of_bonds(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.report.note("AA:00:00:00:00:01", "passkey")
    world.report.note("AA:00:00:00:00:01", "")  # nothing new is known
    world.report.note("AA:00:00:00:00:02", "")
    world.report.close()
    world.change()
    noted = {"AA:00:00:00:00:01": "passkey", "AA:00:00:00:00:02": ""}
    assert read(tmp_path) == Written(0, {}, noted)
    assert World(tmp_path).report.made("AA:00:00:00:00:01") == "passkey"


def test_a_forgotten_bond_is_noted_no_longer(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.report.note("AA:00:00:00:00:01", "passkey")
    world.report.forget("AA:00:00:00:00:01")
    world.report.forget("AA:00:00:00:00:01")
    assert world.report.made("AA:00:00:00:00:01") == ""
    world.report.close()
    assert read(tmp_path).bonds == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "status": {}, "bonds": []}'])
def test_a_file_that_is_not_understood_is_written_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_text(text)
    world = World(tmp_path)
    assert "is not understood" in caplog.text
    world.change()
    assert read(tmp_path).status["adapter"] == "hci0"


def test_a_store_that_cannot_be_written_is_said_once_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "gone")
    for _ in range(2):
        world.change()
    assert caplog.text.count("`ble status` does not see what happens") == 1


def test_without_a_store_everything_stays_in_memory() -> None:
    world = World(None)
    world.report.note("AA:00:00:00:00:01", "confirm")
    world.change()
    assert world.report.made("AA:00:00:00:00:01") == "confirm"

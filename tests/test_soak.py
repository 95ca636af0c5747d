"""The soak test itself, for half a minute; and that it finds what it should."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from struct import pack
from typing import Any, cast

import cbor2
import pytest

from tests.client import HEADER, Client
from tests.soak import errors, faulty, main, soak
from tests.soak_clients import CLIENTS, PROGRESS_S, Progress, Soak, reset, work
from tests.target import Target


class Lives:
    """What answers requests as a server with several lives: a reset comes some answers late, and swallows one."""

    def __init__(self, late: int) -> None:
        self.late = late
        self.boots = 1
        self.asked_for: int | None = None
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, frame: bytes) -> None:
        op, _, _, group, number, command = HEADER.unpack_from(frame)
        if self.asked_for == 0:
            self.boots, self.asked_for = self.boots + 1, None
            return
        if self.asked_for is not None:
            self.asked_for -= 1
        if (group, command) == (0, 5):
            self.asked_for = self.late
        body = cbor2.dumps({"fields": {"boots": self.boots}})
        self.answers.put_nowait(pack(">BBHHBB", op + 1, 0, len(body), group, number, command) + body)

    async def receive(self) -> bytes:
        return await self.answers.get()

    def close(self) -> None: ...


def made(progress: Progress) -> Soak:
    return Soak(cast("Target", None), Path(), {}, Random(1), progress)


@pytest.mark.slow
def test_half_a_minute_shows_nothing_wrong(tmp_path: Path) -> None:
    done, wrong = asyncio.run(soak(tmp_path, 30, 1))
    assert wrong == []
    assert {"uploads", "resets", "files", "echoes", "kills"} <= set(done)


@pytest.mark.slow
def test_a_client_that_stands_still_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stand_still(_soak: Soak) -> bool:
        await asyncio.sleep(0.05)
        return False

    monkeypatch.setitem(cast("dict[str, Any]", CLIENTS), "line", stand_still)
    monkeypatch.setattr("tests.soak_clients.PROGRESS_S", 10)
    _, wrong = asyncio.run(soak(tmp_path, 60, 1))
    assert len(wrong) == 1
    assert wrong[0].startswith("line finished nothing for 1"), wrong
    assert wrong[0].endswith("limit is 10 s"), wrong


def test_who_finishes_no_round_is_named() -> None:
    now = [0.0]
    progress = Progress(("updater", "files"), lambda: now[0])
    now[0] = PROGRESS_S - 1
    assert progress.look() == []
    progress.finish("updater")
    now[0] = PROGRESS_S + 2.5
    assert progress.look() == ["files finished nothing for 62.5 s, limit is 60 s"]
    assert progress.longest == {"updater": 59, "files": 62.5}


async def test_rounds_that_come_to_no_end_are_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: Iterator[bool | type[Exception]] = iter((False, TimeoutError, OSError, True, ValueError))
    now = [0.0]

    async def outcome(_soak: Soak) -> bool:
        now[0] += 1
        if isinstance(each := next(outcomes), bool):
            return each
        raise each

    monkeypatch.setattr("tests.soak_clients.CLIENTS", {"updater": outcome})
    shared = made(Progress(("updater",), lambda: now[0]))
    with pytest.raises(ExceptionGroup) as failure:
        await work(shared)
    assert failure.group_contains(ValueError)
    assert shared.progress.longest == {"updater": 4}
    assert shared.done == {"lost by updater": 2}


@pytest.mark.parametrize("late", [0, 1, 5])
async def test_a_reset_is_over_in_the_next_life_alone(late: int) -> None:
    """However long the old life answers, nothing is sent that the reset would take with it."""
    server = Lives(late)
    shared = made(Progress(()))
    await reset(shared, Client(server, timeout_s=0.2))
    assert server.boots == 2
    assert server.asked_for is None
    assert shared.done == {"resets": 1}


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

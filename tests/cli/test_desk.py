"""The person at the terminal: a pseudo terminal that the test types on."""

import asyncio
import os
import pty
import termios
from collections.abc import Iterator

import pytest

from smp_dfu_host.cli import desk
from smp_dfu_host.cli.desk import Terminal, attended, key
from smp_dfu_host.cli.live import Board

PHONE = "AA:00:00:00:00:01"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """The two ends of a terminal; somebody is there."""
    mine, theirs = pty.openpty()
    monkeypatch.setattr(desk, "attended", lambda _keyboard: True)
    yield mine, theirs
    os.close(mine)
    os.close(theirs)


async def listening(keyboard: int) -> None:
    """Wait until single keys are taken: what is typed before that is thrown away."""
    async with asyncio.timeout(5):
        while termios.tcgetattr(keyboard)[3] & termios.ICANON:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("typed", "same"), [(b"y", True), (b"Y", True), (b"n", False), (b"\n", False)])
async def test_only_y_confirms(terminal: tuple[int, int], typed: bytes, same: bool) -> None:
    mine, theirs = terminal
    board = Board()
    before = termios.tcgetattr(theirs)
    os.write(mine, b"y")  # pressed before anything was asked
    asking = asyncio.ensure_future(Terminal(board, theirs).confirm(PHONE, "000042"))
    await listening(theirs)
    assert [(line.who, line.what) for line in board.lines()] == [
        (f"ble {PHONE}", "to pair, compare: does it show 000042? y or n")
    ]
    os.write(mine, typed)
    assert await asking is same
    assert termios.tcgetattr(theirs) == before


async def test_a_question_that_is_taken_back_leaves_the_terminal_as_it_was(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    asking = asyncio.ensure_future(key(theirs))
    await listening(theirs)
    asking.cancel()
    await asyncio.wait({asking})
    assert termios.tcgetattr(theirs) == before


async def test_without_a_live_display_the_question_is_a_line(
    terminal: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = terminal
    asking = asyncio.ensure_future(Terminal(None, theirs).confirm(PHONE, "000042"))
    await listening(theirs)
    os.write(mine, b"y")
    assert await asking
    assert capsys.readouterr().err == f"ble {PHONE}: to pair, compare: does it show 000042? y or n\n"


async def test_without_a_terminal_nothing_is_confirmed(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    try:
        assert not attended(reader)
        assert not await Terminal(Board(), reader).confirm(PHONE, "000042")
    finally:
        os.close(reader)
        os.close(writer)
    assert "there is no terminal to compare 000042 on; run serve in one" in caplog.text


def test_a_terminal_that_is_not_ours_is_not_attended(terminal: tuple[int, int]) -> None:
    assert not attended(terminal[1])


def test_a_passkey_stands_on_the_board_until_it_is_done() -> None:
    board = Board()
    terminal = Terminal(board)
    terminal.show(PHONE, "000042")
    assert [(line.who, line.what) for line in board.lines()] == [(f"ble {PHONE}", "to pair, type 000042 there")]
    terminal.done(PHONE)
    assert board.lines() == ()


def test_without_a_live_display_the_log_has_the_passkey() -> None:
    terminal = Terminal(None)
    terminal.show(PHONE, "000042")
    terminal.done(PHONE)

"""The person at the terminal of `serve`: sees passkeys, and answers by one key whether two numbers are the same."""

import asyncio
import os
import termios
import tty

import click

from smp_dfu_host.cli.live import Board
from smp_dfu_host.transport.ble.pairing import NobodyThere


class Terminal:
    """A `pairing.Desk`; where nobody can type, comparisons are refused.

    Args:
        board: The live display; None where the plain log is all there is.
        keyboard: A file descriptor.
    """

    def __init__(self, board: Board | None, keyboard: int = 0) -> None:
        self._board = board
        self._keyboard = keyboard
        self._asking = asyncio.Lock()

    def show(self, address: str, passkey: str) -> None:
        """Show the passkey beside the client; the log has it, too."""
        if self._board:
            self._board.note(f"ble {address}", f"to pair, type {passkey} there")

    async def confirm(self, address: str, number: str) -> bool:
        """Ask whether the central shows the same number; only y means yes."""
        if not attended(self._keyboard):
            return await NobodyThere().confirm(address, number)
        question = f"to pair, compare: does it show {number}? y or n"
        async with self._asking:
            if self._board:
                self._board.note(f"ble {address}", question)
            else:
                click.echo(f"ble {address}: {question}", err=True)
            return await key(self._keyboard) in ("y", "Y")

    def done(self, address: str) -> None:
        """Show it no longer."""
        if self._board:
            self._board.note(f"ble {address}", "")


def attended(keyboard: int) -> bool:
    """Say whether somebody may be typing: it is a terminal, and ours to read from, not that of a job in front of us."""
    try:
        return os.tcgetpgrp(keyboard) == os.getpgrp()
    except OSError:
        return False


async def key(keyboard: int) -> str:
    """Wait for one key, pressed from now on, that does not wait for Enter and is not shown; empty at the end."""
    loop = asyncio.get_running_loop()
    pressed: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(keyboard)
        pressed.set_result(os.read(keyboard, 1))

    before = termios.tcgetattr(keyboard)
    termios.tcflush(keyboard, termios.TCIFLUSH)  # what was typed before is no answer
    tty.setcbreak(keyboard, termios.TCSANOW)  # the others wait for output, which ^S may have stopped
    loop.add_reader(keyboard, readable)
    try:
        return (await pressed).decode(errors="replace")
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSANOW, before)

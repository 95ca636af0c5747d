"""A client's end of UDP and of a pty, without an event loop: whoever measures a server must not be what is slow.

Requests are encoded beforehand, answers are looked at afterwards.
"""

import os
import socket
import termios
import time
import tty
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Protocol

from smp import packet as console

ANSWER_S = 20
"""Longest that an answer may take."""


class NoAnswer(Exception):  # noqa: N818  (says what is)
    """None came in time."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back, and when."""

    answers: Sequence[bytes]
    """Whole messages, in the order of their arrival."""
    trips_s: Sequence[float]
    """From a request to the answer of its place, in seconds."""
    seconds: float
    """From the first request to the last answer."""


class Channel(Protocol):
    """Takes requests to a server and answers back."""

    def exchange(self, requests: Iterable[bytes], window: int) -> Exchange:
        """Send the first request, and when it is answered the others, with so many under way."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class UdpChannel:
    """A socket, connected to the server."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # A time-out of Python's own would cost a second system call for each answer.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pack("ll", ANSWER_S, 0))
        self._socket.connect((host, port))

    def exchange(self, requests: Iterable[bytes], window: int) -> Exchange:
        """Send the first request, and when it is answered the others, with so many under way."""
        now, send, receive = time.perf_counter, self._socket.send, self._socket.recv
        answers: list[bytes] = []
        sent: list[float] = []
        came: list[float] = []
        try:
            for request in requests:
                if len(sent) - len(answers) >= (window if answers else 1):
                    answers.append(receive(65536))
                    came.append(now())
                sent.append(now())
                send(request)
            while len(answers) < len(sent):
                answers.append(receive(65536))
                came.append(now())
        except (BlockingIOError, ConnectionRefusedError) as exc:
            raise NoAnswer from exc
        return Exchange(answers, [end - begin for begin, end in zip(sent, came, strict=True)], came[-1] - sent[0])

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


class PtyChannel:
    """The other side of a server's pty, in console framing; answers must be short enough for one line."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd, termios.TCSANOW)
        attributes = termios.tcgetattr(self._fd)
        attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 0, ANSWER_S * 10
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        termios.tcflush(self._fd, termios.TCIOFLUSH)

    def exchange(self, requests: Iterable[bytes], window: int) -> Exchange:
        """Send one request after another; `window` must be 1, as a pty holds no more than one large request."""
        assert window == 1
        now, read = time.perf_counter, self._line
        lines: list[bytes] = []
        trips_s: list[float] = []
        texts = [b"".join(console.encode(request, line_length=127)) for request in requests]
        began = now()
        for text in texts:
            begin = now()
            self._write(text)
            lines.append(read())
            trips_s.append(now() - begin)
        return Exchange([decode_line(line) for line in lines], trips_s, now() - began)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def _write(self, text: bytes) -> None:
        while text:
            text = text[os.write(self._fd, text) :]

    def _line(self) -> bytes:
        line = os.read(self._fd, 4096)
        while not line.endswith(b"\n"):
            more = os.read(self._fd, 4096)
            if not more:
                raise NoAnswer
            line += more
        return line


def decode_line(line: bytes) -> bytes:
    """Return the message in a packet of one line."""
    decoder = console.decode()
    next(decoder)
    try:
        decoder.send(line)
    except StopIteration as done:
        return bytes(done.value)
    raise AssertionError(f"{line!r} is no whole packet")

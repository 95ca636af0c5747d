"""The console framing: packets as lines of text on a tty that may carry a log as well.

    line     marker base64 LF                at most 127 bytes; marker 06 09 on the first line, 04 14 on the others
    packet   size frame CRC                  over the lines; size is of frame and CRC, 2 bytes, big-endian
    CRC      CRC-16/XMODEM of the frame, 2 bytes, big-endian

Each line is base64 of its own. Lines without a marker in front are the log's. Whatever is broken is dropped without an
answer; the next first line begins anew (zephyr subsys/mgmt/mcumgr/transport/src/serial_util.c,
drivers/console/uart_mcumgr.c).
"""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from itertools import takewhile

import crcmod.predefined

from smp_dfu_host.errors import WireError

FIRST = b"\x06\x09"
"""In front of a packet's first line."""

NEXT = b"\x04\x14"
"""In front of its other lines."""

LINE_SIZE = 127
"""Longest line that is sent, marker and LF included, in bytes."""

LINE_LIMIT = 128
"""Longest line that is taken (CONFIG_UART_MCUMGR_RX_BUF_SIZE)."""

OVERHEAD = 4
"""Bytes of the receive buffer that the size and the CRC take."""

_LEAST_SIZE = 15
"""Shortest lines that messages can be split into: marker, 9 bytes in base64, LF; shorter ones might tear the CRC."""

_AT_THE_END = (b"\r", b" ")

_crc = crcmod.predefined.mkPredefinedCrcFun("xmodem")


class ConsoleFraming:
    """Finds packets in the lines of a tty and writes them as lines.

    Args:
        max_size: Of the receive buffer in bytes; a frame may be `OVERHEAD` smaller, for the size and the CRC.
    """

    RESYNC = b"\n"
    """Behind a message that went out in part: ends its line, which is then broken for the peer and the next is not."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._line = b""  # a line mostly comes whole
        self._packet = bytearray()
        self._wanted = 0
        self.dropped = 0
        """How many lines or packets were broken."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the tty; return the packets that they complete. What is broken is dropped and counted."""
        *whole, rest = data.split(b"\n")
        packets = []
        if whole and self._line:
            whole[0], self._line = self._line + whole[0], b""
        number = 0
        alike = True
        while number < len(whole):
            line = whole[number]
            if alike and line[:2] == NEXT:
                if taken := self._take_many(whole, number):
                    number += taken
                    continue
                alike = False  # there is something between them; do not try again for each
            if (packet := self._end_line(line)) is not None:
                packets.append(packet)
            number += 1
        if rest:
            self._line = (self._line + rest)[:LINE_LIMIT]  # of one that is too long it is enough to know that
        return iter(packets)

    def _take_many(self, lines: list[bytes], start: int) -> int:
        """Take lines from the middle of a packet, all of one size, at one go; return how many.

        A large packet has dozens of them, and to decode them one by one costs more than all else that is done with it.
        """
        size = len(lines[start])
        if not self._packet or not len(NEXT) < size < LINE_LIMIT or size % 4 != len(NEXT):  # base64 comes in fours
            return 0
        inside = (self._wanted - len(self._packet) - 1) // (size // 4 * 3)
        run = list(takewhile(lambda line: len(line) == size, lines[start : start + inside]))
        text = b"\n".join([b"", *run])
        if len(run) < 2 or text.count(b"\n" + NEXT) != len(run):
            return 0
        try:
            self._packet += a2b_base64(text.replace(b"\n" + NEXT, b""), strict_mode=True)
        except Base64Error:
            return 0
        return len(run)

    def _end_line(self, line: bytes) -> bytes | None:
        """Take a whole line without its LF; return the packet if this was its last one."""
        if len(line) >= LINE_LIMIT:
            return None
        try:
            return self._take(line)
        except WireError:
            self.dropped += 1
            self._abandon()
            return None

    def _take(self, line: bytes) -> bytes | None:
        marker = line[:2]
        if marker == NEXT:
            # A first line with the size alone is none for Zephyr either (mcumgr_serial_process_frag).
            if not self._packet:
                raise WireError("a next line without a first one")
            self._packet += _decode(line)
        elif marker == FIRST:
            data = _decode(line)
            self._packet = bytearray(data[2:])
            self._wanted = self._checked_size(data)
        else:
            return None
        return self._finish() if len(self._packet) >= self._wanted else None

    def _checked_size(self, data: bytes) -> int:
        size = int.from_bytes(data[:2], "big")
        if len(data) < 2 or size < 2 or size + 2 > self._max_size:
            raise WireError(f"packet of {size} bytes, limit is {self._max_size - 2}")
        return size

    def _finish(self) -> bytes | None:
        packet, wanted = bytes(self._packet), self._wanted
        if len(packet) > wanted or _crc(packet) != 0:
            raise WireError(f"packet of {len(packet)} bytes, should be {wanted}, or its CRC is wrong")
        self._abandon()
        return packet[:-2] or None

    def _abandon(self) -> None:
        self._packet = bytearray()
        self._wanted = 0

    def split(self, message: bytes, size: int = LINE_SIZE) -> Iterator[bytes]:
        """Return the message as lines of at most so many bytes; the CRC stays on one line, as Zephyr keeps it."""
        if size < _LEAST_SIZE:
            raise WireError(f"lines of {size} bytes, must be {_LEAST_SIZE} or more")
        body = (len(message) + 2).to_bytes(2, "big") + message
        crc = _crc(message).to_bytes(2, "big")
        room = (size - 3) // 4 * 3
        marker = FIRST
        while len(body) + len(crc) > room:
            here = room if len(body) > room else (len(body) - 1) // 3 * 3
            yield marker + b2a_base64(body[:here])
            body, marker = body[here:], NEXT
            # Zephyr takes the size's share off every line's room, not only the first one's.
            room = (size - 3) // 4 * 3 - 3
        yield marker + b2a_base64(body + crc)

    def reset(self) -> None:
        """Forget the line and the packet that are under way."""
        self._line = b""
        self._abandon()


class ShellFraming(ConsoleFraming):
    """The same on a line where people type as well: a CR ends a line too, since that is what the Enter key sends.

    The shell's text is skipped; a packet behind it on the same line is part of it, as in Zephyr
    (zephyr subsys/mgmt/mcumgr/transport/src/smp_shell.c).
    """

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the tty; return the packets that they complete. What is broken is dropped and counted."""
        return super().feed(data.replace(b"\r", b"\n"))


def _decode(line: bytes) -> bytes:
    """Return what the line carries; a CR and spaces at its end are no harm."""
    text = line[2:]
    if text[-1:] in _AT_THE_END:
        text = text.removesuffix(b"\r").rstrip(b" ")
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error as exc:
        raise WireError(f"line of {len(line)} bytes: {exc}") from exc

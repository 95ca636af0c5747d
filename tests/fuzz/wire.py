"""Headers, framings and CBOR bodies from any bytes."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from smp_dfu_host.errors import MgmtError, WireError
from smp_dfu_host.server import group_kinds
from smp_dfu_host.wire.body import decode, encode
from smp_dfu_host.wire.console import ConsoleFraming, ShellFraming
from smp_dfu_host.wire.header import Header
from smp_dfu_host.wire.message import requests
from smp_dfu_host.wire.raw import RawFraming
from tests.fuzz.recorded import frames, serial_streams

LIMIT = 128
"""Bytes of the receive buffers; small, so that short inputs overflow them."""
GOOD = bytes.fromhex("08 00 0006 0000 01 00 a16164626869")
GOOD_LINE = b"\x06\x09ABAIAAAGAAABAKFhZGJoaVNt\n"


def cut(data: bytes) -> Iterator[bytes]:
    """Return pieces: a byte that says how long, and so many bytes; then the next."""
    at = 0
    while at < len(data):
        size = data[at]
        yield data[at + 1 : at + 1 + size]
        at += 1 + size


def sewn(pieces: Iterable[bytes]) -> bytes:
    """Return what `cut` cuts into those pieces; long ones are cut further."""
    short = (piece[start : start + 255] for piece in pieces for start in range(0, len(piece), 255))
    return b"".join(bytes((len(piece),)) + piece for piece in short)


def check_wire(data: bytes) -> None:
    """Put messages together by their headers, and take packets apart.

    The first byte says which kind of link it is; what follows arrives in the pieces of `cut`.
    """
    kind = data[0] if data else 0
    framing = RawFraming(LIMIT, lambda: 0.0, aligned=bool(kind & 1), noisy=bool(kind & 2))
    for piece in cut(data[1:]):
        try:
            for message in framing.feed(piece):
                header = Header.parse(message)
                assert len(message) == Header.SIZE + header.length <= LIMIT
                check_packet(message)
        except WireError:
            assert framing.pending == 0
        assert framing.pending < LIMIT
    check_packet(data[1:])
    framing.reset()
    assert list(framing.feed(GOOD)) == [GOOD]


def check_packet(packet: bytes) -> None:
    """Take a packet apart: its requests lie one behind the other, and only a short rest is an error."""
    offset = 0
    try:
        for request in requests(packet):
            assert request.payload == packet[offset + Header.SIZE :]
            assert Header.parse(packet, offset) == request.header
            offset += Header.SIZE + request.header.length
    except WireError:
        assert 0 < len(packet) - offset < Header.SIZE
    else:
        assert offset >= len(packet)


def check_console(data: bytes) -> None:
    """Find packets in a tty's bytes; the first byte says whether a shell is on the line, too."""
    framing = (ShellFraming if data[:1] and data[0] & 1 else ConsoleFraming)(LIMIT)
    found = [packet for piece in cut(data[1:]) for packet in framing.feed(piece)]
    for packet in found:
        assert 0 < len(packet) <= LIMIT - 4
        check_packet(packet)
        lines = b"".join(ConsoleFraming(LIMIT).split(packet))
        assert list(ConsoleFraming(LIMIT).feed(lines)) == [packet]
    assert list(framing.feed(b"\n" + GOOD_LINE))[-1:] == [GOOD]


def bodies(_folder: Path) -> Callable[[bytes], None]:
    """Return what decodes a request of any group: the first byte says which, the others are its payload."""
    kinds = [row.body for kind in group_kinds() for row in kind.rows if row.body is not None]

    def check_body(data: bytes) -> None:
        kind = kinds[data[0] % len(kinds)] if data else kinds[0]
        try:
            body = decode(kind, data[1:])
        except MgmtError:
            return
        assert decode(kind, encode(body)) == body

    return check_body


def wire_seeds() -> Iterator[bytes]:
    """Return recorded frames, for every kind of link, in one piece and in two."""
    for number, frame in enumerate(frames()):
        yield bytes((number % 4,)) + sewn((frame,))
        yield bytes((number % 4,)) + sewn((frame[:5], frame[5:]))


def console_seeds() -> Iterator[bytes]:
    """Return recorded serial lines, and every recorded frame as lines."""
    for stream in serial_streams():
        yield b"\0" + sewn((stream,))
        yield b"\1" + sewn((stream,))
    for frame in frames():
        if len(frame) <= LIMIT - 4:
            yield b"\0" + sewn(ConsoleFraming(LIMIT).split(frame))


def body_seeds() -> Iterator[bytes]:
    """Return recorded payloads, each under the row that it was sent to."""
    keys = [(kind.id, row.command, row.op) for kind in group_kinds() for row in kind.rows if row.body is not None]
    for frame in frames():
        if len(frame) >= Header.SIZE:
            header = Header.parse(frame)
            key = header.group, header.command, header.op
            yield bytes((keys.index(key) if key in keys else 0,)) + frame[Header.SIZE :]

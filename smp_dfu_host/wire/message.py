"""Messages: the requests of one packet, and replies.

A packet is what a transport delivers at once: one request or several, back to back. How far a request reaches is
decided as Zephyr does it (subsys/mgmt/mcumgr/smp/src/smp.c, smp_process_request_packet): the decoder of the body is
handed everything that is left of the packet, even beyond the length in the header, and the next header is looked for
`length` bytes behind this one.
"""

from collections.abc import Iterator
from typing import NamedTuple

from smp_dfu_host.errors import Rc, WireError
from smp_dfu_host.wire.header import NEWEST_VERSION, Header, Op

_REQUESTS = frozenset({int(Op.READ), int(Op.WRITE)})


class Request(NamedTuple):
    """One request of a packet."""

    header: Header
    payload: bytes
    """All that is left of the packet behind the header."""
    fault: Rc | None = None
    """Why it must be refused before anybody looks at its group and command, or None."""


def requests(packet: bytes) -> Iterator[Request]:
    """Take the packet apart; a request whose length goes past the end is the last one.

    Raises:
        WireError: At the end, if the last one to seven bytes hold no header.
    """
    offset = 0
    while offset < len(packet):
        request, offset = request_at(packet, offset)
        yield request


def request_at(packet: bytes, offset: int) -> tuple[Request, int]:
    """Return the request that begins at the offset, and where the next one would.

    Raises:
        WireError: If no whole header is there.
    """
    header = Header.parse(packet, offset)
    start = offset + Header.SIZE
    payload = packet[start:]
    op, version, _, length, _, _, _ = header
    fault = None
    if length > len(payload):  # in the order in which Zephyr looks
        fault = Rc.ECORRUPT
    elif op not in _REQUESTS:
        fault = Rc.ENOTSUP
    elif version > NEWEST_VERSION:
        fault = Rc.UNSUPPORTED_TOO_NEW
    return Request(header, payload, fault), start + length


def encode_reply(header: Header, payload: bytes) -> bytes:
    """Return the reply to the request with that header."""
    if len(payload) > 0xFFFF:
        raise WireError(f"payload of {len(payload)} bytes, limit is 65535")
    return header.reply(len(payload)).pack() + payload

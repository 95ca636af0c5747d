from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import Rc, WireError
from smp_dfu_host.wire.header import Header
from smp_dfu_host.wire.message import encode_reply, requests
from tests.client import Asked, walk
from tests.strategies import headers, messages

ECHO = bytes.fromhex("00 00 0006 0000 01 00 a16164626869")


def faults(packet: bytes) -> list[Rc | None]:
    return [request.fault for request in requests(packet)]


def test_whole_request_has_no_fault() -> None:
    (request,) = requests(ECHO)
    assert (request.header.sequence, request.payload, request.fault) == (1, ECHO[8:], None)


def test_requests_come_in_order_with_all_that_is_left() -> None:
    second = bytes.fromhex("00 00 0000 0000 02 06")
    first, last = requests(ECHO + second)
    assert (first.payload, last.payload) == (ECHO[8:] + second, b"")
    assert (first.header.sequence, last.header.sequence) == (1, 2)


@pytest.mark.parametrize("length", [7, 0xFFFF])
def test_length_past_the_end_is_corrupt(length: int) -> None:
    # proto_header/len_plus_1, len_65535
    assert faults(ECHO[:2] + length.to_bytes(2, "big") + ECHO[4:]) == [Rc.ECORRUPT]


def test_length_too_small_leaves_the_payload_whole() -> None:
    # proto_header/len_minus_2: the request works, the two bytes behind it are dropped in silence
    found = requests(ECHO[:2] + b"\0\4" + ECHO[4:])
    assert next(found).payload == ECHO[8:]
    with pytest.raises(WireError, match="header of 2 bytes"):
        next(found)


def test_length_0_with_a_payload_of_a_header_s_size_is_two_requests() -> None:
    # proto_header/len_zero_payload_12
    packet = ECHO[:2] + b"\0\0" + ECHO[4:8] + bytes.fromhex("00 00 0000 0009 05 00 00000000")
    found = requests(packet)
    assert [next(found).header.group, next(found).header.group] == [0, 9]


@pytest.mark.parametrize("size", range(1, 8))
def test_less_than_a_header_is_an_error_of_the_wire(size: int) -> None:
    with pytest.raises(WireError):
        next(requests(ECHO[:size]))


def test_empty_packet_holds_nothing() -> None:
    assert list(requests(b"")) == []


@pytest.mark.parametrize("op", [1, 3, 4, 5, 6, 7])
def test_op_that_is_no_request_is_not_supported(op: int) -> None:
    assert faults(bytes((op,)) + ECHO[1:]) == [Rc.ENOTSUP]


@pytest.mark.parametrize("version", [2, 3])
def test_version_from_the_future_is_too_new(version: int) -> None:
    assert faults(bytes((version << 3,)) + ECHO[1:]) == [Rc.UNSUPPORTED_TOO_NEW]


def test_faults_are_found_in_zephyr_s_order() -> None:
    # smp_process_request_packet: length, op, then version
    assert faults(bytes((0x14,)) + ECHO[1:]) == [Rc.ENOTSUP]
    assert faults(bytes((0x14,)) + ECHO[1:3] + b"\xff" + ECHO[4:]) == [Rc.ECORRUPT]


@given(st.lists(messages(), max_size=4))
def test_whole_messages_are_found_again(sent: list[bytes]) -> None:
    """Messages that stand back to back are taken apart where they were put together."""
    walked = list(requests(b"".join(sent)))
    assert [request.header for request in walked] == [Header.parse(message) for message in sent]


packets = st.builds(b"".join, st.lists(st.binary(max_size=20) | headers.map(Header.pack) | messages(), max_size=5))


@given(packets)
def test_any_packet_gives_requests_or_an_error_of_the_wire(packet: bytes) -> None:
    """No bytes raise anything else, and the requests are those that a walk along the lengths finds."""
    found = []
    with suppress(WireError):
        for request in requests(packet):
            header = request.header
            found.append(Asked(header.op, header.group, header.sequence, header.command))
            assert len(found) <= len(packet) // 8, "more requests than fit the packet"
    assert found == walk(packet)


def test_reply_has_the_length_of_its_payload() -> None:
    header = Header.parse(ECHO)
    assert encode_reply(header, bytes.fromhex("bf6172626869ff")).hex() == "0100000700000100bf6172626869ff"


def test_reply_beyond_the_length_field_is_an_error() -> None:
    with pytest.raises(WireError, match="65536 bytes, limit is 65535"):
        encode_reply(Header.parse(ECHO), bytes(65536))

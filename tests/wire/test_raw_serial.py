"""Messages without framing on a serial line; names are those of wire_raw of the recorded Zephyr 4.4.0 servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.wire.raw_serial import RawSerialFraming
from tests.fakes import FakeClock
from tests.strategies import cuts, messages

ECHO = bytes.fromhex("08 00 0006 0000 01 00 a16164626869")


def feed(framing: RawSerialFraming, *parts: bytes) -> list[bytes]:
    return [message for part in parts for message in framing.feed(part)]


@given(st.lists(messages().filter(lambda message: message[0] & 7 < 4), min_size=1, max_size=4), st.data())
def test_messages_survive_any_cuts(sent: list[bytes], data: st.DataObject) -> None:
    """However the stream is cut, the messages that went in come out."""
    framing = RawSerialFraming(4096)
    written = b"".join(piece for message in sent for piece in framing.split(message))
    assert (feed(framing, *data.draw(cuts(written))), framing.dropped) == (sent, 0)


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\xff" * 8, id="garbage"),
        pytest.param(bytes.fromhex("0c 00 0005 0000 00 00 a161646178"), id="op4"),
        pytest.param(bytes.fromhex("08 00 0190 0000 00 00 a161646178"), id="too_long_hdr"),
    ],
)
def test_what_cannot_be_a_message_is_dropped_with_all_that_came_with_it(noise: bytes) -> None:
    framing = RawSerialFraming(384)
    assert feed(framing, noise, ECHO) == [ECHO]
    assert feed(framing, ECHO + noise + ECHO, ECHO) == [ECHO, ECHO]
    assert framing.dropped == 2


def test_message_as_large_as_the_buffer_is_taken_and_a_larger_one_dropped() -> None:
    largest = bytes.fromhex("08 00 0178 0000 01 00") + bytes(376)
    framing = RawSerialFraming(384)
    assert feed(framing, largest) == [largest]
    assert feed(framing, bytes.fromhex("08 00 0179 0000 01 00") + bytes(377), ECHO) == [ECHO]


def test_rest_after_a_wait_is_taken_and_after_a_long_wait_it_is_not() -> None:
    clock = FakeClock()
    framing = RawSerialFraming(384, clock.time)
    assert feed(framing, ECHO[:6]) == []
    clock.advance(1.0)
    assert feed(framing, ECHO[6:]) == [ECHO]
    assert feed(framing, ECHO[:6]) == []
    clock.advance(6.0)
    assert feed(framing, ECHO[6:]) == []
    assert feed(framing, ECHO) == [ECHO]
    assert framing.dropped == 2  # the first half, and the second one


def test_reset_forgets_half_a_message() -> None:
    framing = RawSerialFraming(384)
    feed(framing, ECHO[:6])
    framing.reset()
    assert feed(framing, ECHO) == [ECHO]


@given(st.lists(st.binary(max_size=30) | st.just(ECHO), max_size=20))
def test_any_bytes_are_dropped_or_messages(parts: list[bytes]) -> None:
    """Whatever the line carries, nothing is raised, and after a silence a good message comes out."""
    clock = FakeClock()
    framing = RawSerialFraming(384, clock.time)
    for message in feed(framing, *parts):
        assert len(message) <= 384
        assert message[0] & 7 < 4
    clock.advance(3.1)
    assert feed(framing, ECHO) == [ECHO]

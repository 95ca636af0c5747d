import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import WireError
from smp_dfu_host.wire.raw import DatagramFraming, RawFraming
from tests.fakes import FakeClock
from tests.strategies import cuts, messages

ECHO = bytes.fromhex("08 00 0006 0000 01 00 a16164626869")


@given(st.lists(messages(), min_size=1, max_size=4), st.data())
def test_messages_survive_any_cuts(sent: list[bytes], data: st.DataObject) -> None:
    """However the stream is cut, the messages that went in come out."""
    framing = RawFraming(4096)
    got = [message for piece in data.draw(cuts(b"".join(sent))) for message in framing.feed(piece)]
    assert (got, framing.pending) == (sent, 0)


@given(messages(), st.integers(1, 64))
def test_split_then_feed_is_identity(message: bytes, size: int) -> None:
    """Whatever the size of the pieces, the message that went in comes out, and no piece is larger."""
    framing = RawFraming(4096, aligned=True)
    pieces = list(framing.split(message, size))
    assert max(map(len, pieces)) <= size
    assert [got for piece in pieces for got in framing.feed(piece)] == [message]


def test_message_comes_out_with_its_last_byte() -> None:
    framing = RawFraming(100)
    assert [list(framing.feed(bytes((byte,)))) for byte in ECHO] == [[]] * 13 + [[ECHO]]


def test_largest_message_is_taken_and_a_larger_one_refused() -> None:
    framing = RawFraming(len(ECHO))
    assert list(framing.feed(ECHO)) == [ECHO]
    with pytest.raises(WireError, match="message of 15 bytes, limit is 14"):
        list(framing.feed(ECHO[:2] + b"\0\7" + ECHO[4:]))
    assert framing.pending == 0
    assert list(framing.feed(ECHO)) == [ECHO]


def test_good_messages_in_front_of_a_bad_one_come_out() -> None:
    walk = RawFraming(20).feed(ECHO + b"\xff" * 9)
    assert next(walk) == ECHO
    with pytest.raises(WireError):
        next(walk)


def test_message_whose_next_piece_is_late_is_forgotten() -> None:
    clock = FakeClock()
    framing = RawFraming(100, clock.time, timeout_s=3.0)
    assert list(framing.feed(ECHO[:6])) == []
    clock.advance(3.1)
    assert list(framing.feed(ECHO)) == [ECHO]
    assert framing.expired == 1


def test_message_whose_pieces_are_slow_but_in_time_comes_out() -> None:
    # wire_raw/rest_after_wait: a second between the pieces is fine
    clock = FakeClock()
    framing = RawFraming(100, clock.time, timeout_s=3.0)
    got: list[bytes] = []
    for byte in ECHO:
        clock.advance(2.9)
        got += framing.feed(bytes((byte,)))
    assert (got, framing.expired) == ([ECHO], 0)


def test_long_silence_between_messages_is_no_fault() -> None:
    clock = FakeClock()
    framing = RawFraming(100, clock.time)
    for _ in range(2):
        assert list(framing.feed(ECHO)) == [ECHO]
        clock.advance(3600)
    assert framing.expired == 0


def test_reset_forgets_the_half_message() -> None:
    framing = RawFraming(100)
    list(framing.feed(ECHO[:9]))
    assert framing.pending == 9
    framing.reset()
    assert list(framing.feed(ECHO)) == [ECHO]


def test_bytes_behind_an_aligned_message_are_refused() -> None:
    framing = RawFraming(100, aligned=True)
    walk = framing.feed(ECHO + b"\0\0")
    assert next(walk) == ECHO
    with pytest.raises(WireError, match="2 bytes behind a whole message"):
        next(walk)
    assert list(framing.feed(ECHO)) == [ECHO]


def test_short_first_piece_of_an_aligned_message_is_taken() -> None:
    framing = RawFraming(100, aligned=True)
    assert list(framing.feed(ECHO[:3])) == []
    assert list(framing.feed(ECHO[3:] + ECHO)) == [ECHO, ECHO]


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_are_kept_within_the_limit(pieces: list[bytes]) -> None:
    """Whatever arrives, no more is kept than one message, and nothing but WireError is raised."""
    framing = RawFraming(64)
    for piece in pieces:
        try:
            for message in framing.feed(piece):
                assert len(message) <= 64
        except WireError:
            pass
        assert framing.pending < 64


def test_datagram_is_a_packet() -> None:
    framing = DatagramFraming()
    assert list(framing.feed(ECHO + ECHO)) == [ECHO + ECHO]
    assert list(framing.feed(b"")) == []
    assert list(framing.split(ECHO, 14)) == [ECHO]
    framing.reset()


def test_message_beyond_a_datagram_is_an_error() -> None:
    with pytest.raises(WireError, match="message of 14 bytes, datagrams hold 13"):
        DatagramFraming().split(ECHO, 13)

"""The lines are wire_console of the recorded Zephyr 4.4.0 servers, whose buffer was 384 bytes."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import WireError
from smp_dfu_host.wire.console import FIRST, NEXT, ConsoleFraming, ShellFraming
from tests.strategies import cuts

ONE = b"\x06\x09ABAIAAAGAAABAKFhZGJoaVNt\n"
FRAME = bytes.fromhex("0800000600000100a16164626869")

BIG = bytes.fromhex("0800009b00000100a161647896") + b"B" * 150
BIG_FIRST = b"\x06\x09AKUIAACbAAABAKFhZHiW" + b"QkJC" * 26 + b"\n"
BIG_NEXT = b"\x04\x14" + b"QkJC" * 24 + b"BmU=\n"


def feed(*parts: bytes, max_size: int = 384) -> list[bytes]:
    framing = ConsoleFraming(max_size)
    return [packet for part in parts for packet in framing.feed(part)]


TAKEN = {
    "one_line": ((ONE,), FRAME),
    "two_lines": ((BIG_FIRST, BIG_NEXT), BIG),
    "crlf": ((ONE.replace(b"\n", b"\r\n"),), FRAME),
    "space at the end": ((ONE.replace(b"\n", b" \n"),), FRAME),
    "space and crlf": ((ONE.replace(b"\n", b"  \r\n"),), FRAME),
    "resync": ((b"\n", ONE), FRAME),
    "start_start_cont": ((BIG_FIRST, BIG_FIRST, BIG_NEXT), BIG),
    "text_between_fragments": ((BIG_FIRST, b"log line\n", BIG_NEXT), BIG),
    "long text between fragments": ((BIG_FIRST, b"x" * 1000 + b"\n", BIG_NEXT), BIG),
    "text_before": ((b"hello there\n", ONE), FRAME),
    "no_newline_then_newline": ((ONE[:-1], b"\n"), FRAME),
    "short_lines": (
        (
            b"\x06\x09AKUIAACbAAABAKFhZHiW" + b"QkJC" * 2 + b"\n",
            *[b"\x04\x14" + b"QkJC" * 6 + b"\n"] * 8,
            b"\x04\x14BmU=\n",
        ),
        BIG,
    ),
    "padded lines": ((b"\x06\x09ABAIAA==\n", b"\x04\x14AA==\n", b"\x04\x14BgAAAQChYWRiaGlTbQ==\n"), FRAME),
    "cont_marker_only": ((BIG_FIRST, b"\x04\x14\n", BIG_NEXT), BIG),
    "header_len_over": ((b"\x06\x09AA8IAABaAAAAAKFhZGF4Vms=\n",), bytes.fromhex("0800005a00000000a1616461 78")),
    "truncated_header": ((b"\x06\x09AAcIAAAGAKiL\n",), bytes.fromhex("0800000600")),
    "line of 128 bytes": ((BIG_FIRST[:-1] + b" \n", BIG_NEXT), BIG),
}


@pytest.mark.parametrize("name", TAKEN)
def test_packet_that_zephyr_takes_is_taken(name: str) -> None:
    parts, packet = TAKEN[name]
    assert feed(*parts) == [packet]


DROPPED = {
    "cr_only_then_ok": (ONE.replace(b"\n", b"\r"), ONE),
    "bad_crc": (b"\x06\x09ABAIAAAGAAABAKFhZGJoaRI0\n",),
    "bad_base64": (b"\x06\x09ABAI!AAGAAABAKFhZGJoaVNt\n",),
    "space inside": (b"\x06\x09ABAI AAGAAABAKFhZGJoaVNt\n",),
    "missing padding": (BIG_FIRST, BIG_NEXT.replace(b"=", b"")),
    "len_short": (b"\x06\x09AA4IAAAGAAABAKFhZGJoaVNt\n",),
    "len_long": (b"\x06\x09ABcIAAAGAAABAKFhZGJoaVNt\n",),
    "continuation_only": (BIG_NEXT,),
    "missing_middle": (BIG_FIRST, BIG_NEXT.replace(b"QkJC", b"", 4)),
    "noise_same_line": (b"abc" + ONE,),
    "marker_only": (b"\x06\x09\n",),
    "line_over_128": (BIG_FIRST[:-1] + b"QkJC\n", BIG_NEXT),
    "line of 129 bytes": (BIG_FIRST[:-1] + b" \r\n", BIG_NEXT),
    "empty_frame": (b"\x06\x09AAIAAA==\n",),
    "size 0": (b"\x06\x09AAA=\n",),
    "first line with the size alone": (b"\x06\x09ABA=\n", b"\x04\x14CAAABgAAAQChYWRiaGlTbQ==\n"),
    "first line of one byte": (b"\x06\x09AA==\n", b"\x04\x14EAgAAAYAAAEAoWFkYmhpU20=\n"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_zephyr_drops_is_dropped_and_the_next_packet_works(name: str) -> None:
    framing = ConsoleFraming(384)
    for part in DROPPED[name]:
        assert list(framing.feed(part)) == []
    assert list(framing.feed(ONE)) == [FRAME]


def test_broken_lines_are_counted() -> None:
    framing = ConsoleFraming(384)
    list(framing.feed(b"log\n" + DROPPED["bad_crc"][0] + BIG_NEXT + ONE))
    assert framing.dropped == 2


def test_two_packets_in_one_read_come_in_order() -> None:
    second = b"\x06\x09ABAIAAAGAAACAKFhZGJ5b8uc\n"  # two_frames
    assert [packet[6] for packet in feed(ONE + second)] == [1, 2]


@pytest.mark.parametrize(("size", "taken"), [(380, True), (381, False)])
def test_largest_frame_is_the_buffer_without_size_and_crc(size: int, taken: bool) -> None:
    frame = bytes(size)
    assert feed(b"".join(ConsoleFraming(384).split(frame))) == ([frame] if taken else [])


@pytest.mark.parametrize(
    ("size", "lines"),
    [
        (88, [127]),
        (89, [127]),
        (90, [123, 11]),
        (91, [123, 11]),
        (92, [127, 7]),
        (93, [127, 11]),
        (179, [127, 123]),
        (180, [127, 119, 11]),
        (181, [127, 119, 11]),
        (182, [127, 123, 7]),
        (203, [127, 123, 35]),
    ],
)
def test_lines_are_cut_where_zephyr_cuts_them(size: int, lines: list[int]) -> None:
    # wire_console_lengths; the two bytes of the CRC never stand on two lines
    assert [len(line) for line in ConsoleFraming(384).split(bytes(size))] == lines


def test_reply_is_written_as_zephyr_writes_it() -> None:
    reply = bytes.fromhex("0900000700000100bf6172626869ff")
    assert list(ConsoleFraming(384).split(reply)) == [b"\x06\x09ABEJAAAHAAABAL9hcmJoaf94ww==\n"]


@given(st.binary(min_size=1, max_size=600), st.integers(15, 127), st.data())
def test_split_then_feed_is_identity(frame: bytes, size: int, data: st.DataObject) -> None:
    """However long the lines and however the tty cuts them, the frame that went in comes out."""
    lines = list(ConsoleFraming(1000).split(frame, size))
    assert max(map(len, lines)) <= size
    assert [line[:2] for line in lines] == [FIRST] + [NEXT] * (len(lines) - 1)
    assert feed(*data.draw(cuts(b"".join(lines))), max_size=1000) == [frame]


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=3), st.integers(15, 127), st.data())
def test_lines_that_come_together_are_taken_as_one_by_one(frames: list[bytes], size: int, data: st.DataObject) -> None:
    """Lines from the middle of a packet are decoded at one go; whatever is wrong among them, nothing else comes out."""
    lines = [bytearray(line) for frame in frames for line in ConsoleFraming(1000).split(frame, size)]
    for line in data.draw(st.lists(st.sampled_from(lines), max_size=3)) if lines else []:
        match data.draw(st.sampled_from(["change", "cut", "more", "return"])):
            case "change":
                line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
            case "cut":
                del line[data.draw(st.integers(0, len(line) - 1))]
            case "more":
                line += data.draw(st.sampled_from([b"\n", b"log\n", NEXT + b"AAAA\n", NEXT + b"QQ==\n", ONE]))
            case _:
                line[-1:] = b"\r\n"
    together, apart = ConsoleFraming(1000), ConsoleFraming(1000)
    text = b"".join(lines)
    one_by_one = [packet for byte in text for packet in apart.feed(bytes([byte]))]
    assert list(together.feed(text)) == one_by_one
    assert together.dropped == apart.dropped
    ends = [list(framing.feed(b"\n" + ONE)) for framing in (together, apart)]
    assert ends[0] == ends[1]
    assert ends[0][-1] == FRAME


@pytest.mark.parametrize("wrong", [b"\x04\x15", NEXT + b"*", NEXT + b"=", b"lo"])
def test_wrong_line_among_many_breaks_its_packet_alone(wrong: bytes) -> None:
    lines = list(ConsoleFraming(1000).split(bytes(900)))
    lines[3] = wrong + lines[3][len(wrong) :]
    framing = ConsoleFraming(1000)
    assert list(framing.feed(b"".join(lines) + ONE)) == [FRAME]
    assert list(framing.feed(b"".join(ConsoleFraming(1000).split(bytes(900))))) == [bytes(900)]


def test_lines_too_short_for_the_crc_are_an_error() -> None:
    with pytest.raises(WireError, match="lines of 14 bytes, must be 15 or more"):
        next(ConsoleFraming(384).split(FRAME, 14))


def test_reset_forgets_line_and_packet() -> None:
    framing = ConsoleFraming(384)
    list(framing.feed(BIG_FIRST + BIG_NEXT[:20]))
    framing.reset()
    assert list(framing.feed(BIG_NEXT + ONE)) == [FRAME]


SHELL = {
    # wire_shell of the recorded servers, and what a person at the keyboard adds
    "one_line": ((ONE,), [FRAME]),
    "two_lines": ((BIG_FIRST, BIG_NEXT), [BIG]),
    "after_bad_crc": (DROPPED["bad_crc"] + (ONE,), [FRAME]),
    "after_shell_text": ((b"kernel version\r\n", ONE), [FRAME]),
    "enter key": ((b"kernel version\r", ONE), [FRAME]),
    "enter key between fragments": ((BIG_FIRST, b"help\r", BIG_NEXT), [BIG]),
    "noise_same_line": ((b"abc" + ONE,), []),
    "after_noise": ((b"abc" + ONE, ONE), [FRAME]),
}


@pytest.mark.parametrize("name", SHELL)
def test_packets_between_a_shells_text_are_taken(name: str) -> None:
    parts, packets = SHELL[name]
    framing = ShellFraming(384)
    assert [packet for part in parts for packet in framing.feed(part)] == packets


def marked(data: bytes) -> bytes:
    return b64encode(data) + b"\n"


pieces = st.one_of(
    st.binary(max_size=200),
    st.just(b"\n"),
    st.just(ONE),
    st.just(BIG_FIRST),
    st.just(BIG_NEXT),
    st.builds(lambda marker, data: marker + data + b"\n", st.sampled_from([FIRST, NEXT]), st.binary(max_size=20)),
    st.builds(lambda marker, data: marker + marked(data), st.sampled_from([FIRST, NEXT]), st.binary(max_size=90)),
)


@given(st.lists(pieces, max_size=20))
def test_any_bytes_are_dropped_or_packets(parts: list[bytes]) -> None:
    """Whatever the tty carries, nothing is raised, and a good packet behind an end of line comes out."""
    framing = ConsoleFraming(384)
    for part in parts:
        for packet in framing.feed(part):
            assert 0 < len(packet) <= 380
    assert list(framing.feed(b"\n" + ONE))[-1:] == [FRAME]

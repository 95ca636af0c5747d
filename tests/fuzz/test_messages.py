"""Packets of any requests to all groups: one answer each, with its sequence number, up to the one that stops."""

import asyncio

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.server import group_kinds
from smp_dfu_host.wire.header import Header, Op
from tests.fuzz.messages import Device, check_answers, update
from tests.strategies import headers, items

ECHO = bytes.fromhex("08 00 0006 0000 01 00 a16164626869")
WRONG = bytes.fromhex("08 00 0001 0000 02 63 a0")
ANSWER = bytes.fromhex("09 00 0007 0000 01 00 bf6172626869ff")
REFUSAL = bytes.fromhex("09 00 0006 0000 02 63 bf62726308ff")

ROWS = [(kind.id, row) for kind in group_kinds() for row in kind.rows]
KEYS = ("off", "len", "data", "name", "hash", "confirm", "image", "slot", "val", "argv", "max_size", "type", "datetime")


@st.composite
def served(draw: st.DrawFn) -> bytes:
    """A request that some group has a row for, with a map of keys that there are and values of any kind."""
    group, row = draw(st.sampled_from(ROWS))
    payload = cbor2.dumps(draw(st.dictionaries(st.sampled_from(KEYS), items, max_size=4)))
    header = Header(row.op, draw(st.integers(0, 1)), 0, len(payload), group, draw(st.integers(0, 255)), row.command)
    return header.pack() + payload


@st.composite
def any_request(draw: st.DrawFn) -> bytes:
    """A header of any kind, and bytes that may be fewer or more than it says."""
    return draw(headers).pack() + draw(st.binary(max_size=20))


packets = st.builds(b"".join, st.lists(served() | any_request() | st.just(ECHO) | st.binary(max_size=9), max_size=5))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device(tmp_path_factory.mktemp("device"))


@settings(max_examples=150)
@given(sent=st.lists(packets, min_size=1, max_size=3))
def test_every_request_that_is_served_has_one_answer(device: Device, sent: list[bytes]) -> None:
    """Every request up to and including the one that stops a packet gets exactly one answer with its number."""
    asyncio.run(device.serve(sent))


async def test_whole_update_has_no_refusal(device: Device) -> None:
    for packet in update():
        (reply,) = await device.ask(packet)
        assert "rc" not in cbor2.loads(reply[Header.SIZE :]), packet
    device.renew()


@pytest.mark.parametrize(
    ("packet", "replies"),
    [
        pytest.param(ECHO, [], id="no answer"),
        pytest.param(ECHO, [ANSWER, ANSWER], id="two answers"),
        pytest.param(ECHO, [ANSWER[:6] + b"\x09" + ANSWER[7:]], id="another number"),
        pytest.param(ECHO, [bytes((Op.WRITE_RSP,)) + ANSWER[1:]], id="another op"),
        pytest.param(ECHO, [ANSWER + b"\0"], id="another length"),
        pytest.param(WRONG + ECHO, [REFUSAL, ANSWER], id="going on behind the stop"),
        pytest.param(ECHO + ECHO, [ANSWER], id="stopping without a reason"),
        pytest.param(b"1234567", [ANSWER], id="answer to no request"),
    ],
)
def test_wrong_answers_are_found(packet: bytes, replies: list[bytes]) -> None:
    with pytest.raises(AssertionError):
        check_answers(packet, replies)


@pytest.mark.parametrize(
    ("packet", "replies"), [(ECHO, [ANSWER]), (WRONG + ECHO, [REFUSAL]), (ECHO + WRONG, [ANSWER, REFUSAL]), (b"", [])]
)
def test_right_answers_are_not(packet: bytes, replies: list[bytes]) -> None:
    check_answers(packet, replies)

"""Cases named `echo_...` are proto_cbor of the recorded Zephyr 4.4.0 servers; what they answered decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import MgmtError, Rc
from smp_dfu_host.wire.body import Body, Int32, Uint8, Uint32, decode, encode
from tests.strategies import items


@dataclass(frozen=True, slots=True)
class Echo(Body):
    d: str = ""


@dataclass(frozen=True, slots=True)
class EchoReply(Body):
    r: str


@dataclass(frozen=True, slots=True)
class Everything(Body):
    off: Uint32 | None = None
    number: int = 7
    small: Uint8 = 0
    signed: Int32 = 0
    flag: bool = False
    data: bytes | None = None
    words: tuple[str, ...] = ()
    ids: tuple[Uint32, ...] | None = None


@dataclass(frozen=True, slots=True)
class Needs(Body):
    name: str
    val: bytes = b""
    tags: tuple[str, ...] = field(default_factory=tuple)


def read_or_refuse(kind: type[Body], payload: bytes) -> None:
    """Decode, and accept no other end than a body or rc 3."""
    refusal = None
    try:
        assert isinstance(decode(kind, payload), kind)
    except MgmtError as exc:
        refusal = exc
    assert refusal is None or refusal.rc == Rc.EINVAL


def refused(kind: type[Body], payload: bytes) -> str:
    with pytest.raises(MgmtError) as caught:
        decode(kind, payload)
    assert caught.value.rc == Rc.EINVAL
    return caught.value.reason


ECHOED = {
    "echo_empty_map": ("a0", ""),
    "echo_empty_indef_map": ("bfff", ""),
    "echo_indef_map_d": ("bf6164626869ff", "hi"),
    "echo_map_count_too_small": ("a16164626869616501", "hi"),
    "echo_trailing_byte": ("a1616462686900", "hi"),
    "echo_trailing_map": ("a16164626869a0", "hi"),
    "echo_unknown_key_before": ("a26178016164626869", "hi"),
    "echo_unknown_key_after": ("a26164626869617801", "hi"),
    "echo_unknown_nested": ("a26178a161798201026164626869", "hi"),
    "echo_unknown_deep8": ("a261788181818181818181016164626869", "hi"),
    "echo_value_nonminimal_len": ("a1616478026869", "hi"),
    "echo_value_nonminimal_len16": ("a161647900026869", "hi"),
    "echo_value_nul_in_text": ("a1616463610062", "a\0b"),
    "echo_key_nonminimal": ("a1780164626869", "hi"),
    "echo_key_upper": ("a16144626869", ""),
    "echo_key_prefix": ("a1626464626869", ""),
    "echo_empty_key": ("a260016164626869", "hi"),
    "echo_unknown_float": ("a26178fb3ff00000000000006164626869", "hi"),
    "echo_unknown_tagged": ("a26178c06261616164626869", "hi"),
    "echo_unknown_undefined": ("a26178f76164626869", "hi"),
    "echo_unknown_neg": ("a26178206164626869", "hi"),
    "echo_map_nonminimal_count": ("b8016164626869", "hi"),
    "echo_unknown_indef_array": ("a261789f0102ff6164626869", "hi"),
    "echo_unknown_indef_map": ("a26178bf616101ff6164626869", "hi"),
    "unknown chunked text": ("a261787f61616162ff6164626869", "hi"),
    "unknown chunked bytes": ("a261785f41614162ff6164626869", "hi"),
    "unknown empty array and map": ("a3617880617aa06164626869", "hi"),
    "unknown tag in an indefinite array": ("a261789fc001c1c202ff6164626869", "hi"),
    "unknown numbers of all widths": ("a2617885181919000a1a0000000b1b000000000000000c0d6164626869", "hi"),
    "indefinite map with a count of keys": ("bf6178016164626869617902ff", "hi"),
}


@pytest.mark.parametrize("name", ECHOED)
def test_map_that_zephyr_takes_is_taken(name: str) -> None:
    payload, text = ECHOED[name]
    assert decode(Echo, bytes.fromhex(payload)).d == text


REFUSED = {
    "nothing": "",
    "echo_indef_map_no_break": "bf6164626869",
    "echo_array": "80",
    "echo_array_1": "8101",
    "echo_uint": "05",
    "echo_text": "626869",
    "echo_null": "f6",
    "echo_bool": "f5",
    "echo_tag_map": "c0a16164626869",
    "echo_break_only": "ff",
    "echo_reserved_1c": "1c",
    "echo_map_missing_value": "a16164",
    "echo_map_truncated_string": "a161646568656c",
    "echo_map_count_too_big": "a26164626869",
    "echo_dup_key_same": "a261646268696164626869",
    "echo_int_key_first": "a201026164626869",
    "echo_int_key_after": "a261646268690102",
    "echo_bytes_key": "a24164016164626869",
    "echo_value_uint": "a1616405",
    "echo_value_bytes": "a16164426869",
    "echo_value_null": "a16164f6",
    "echo_value_bool": "a16164f5",
    "echo_value_array": "a1616480",
    "echo_value_indef_text": "a161647f61686169ff",
    "echo_text_len_huge": "a161647affffffff68",
    "echo_map_count_huge": "bbffffffffffffffff6164626869",
    "tag in front of a key": "a1c06164626869",
    "chunked key": "a17f6164ff626869",
    "key cut short": "a16264",
    "key with half a head": "a179",
    "value with half a head": "a161647900",
    "unknown value with reserved head": "a261781c6164626869",
    "unknown integer of indefinite length": "a261781f6164626869",
    "unknown break": "a16178ff",
    "break inside of a definite array": "a261788201ff6164626869",
    "unknown text with a chunk of bytes": "a261787f4161ff6164626869",
    "unknown text with a chunk of chunks": "a261787f7f6161ffff6164626869",
    "unknown text cut short": "a1617865616263",
    "unknown chunked text cut short": "a161787f6561",
    "unknown array cut short": "a161788301",
    "unknown array without its break": "a161789f01",
}


@pytest.mark.parametrize("name", REFUSED)
def test_map_that_zephyr_refuses_is_refused(name: str) -> None:
    refused(Echo, bytes.fromhex(REFUSED[name]))


def test_invalid_utf8_comes_back_untouched() -> None:
    # proto_cbor/echo_value_invalid_utf8
    request = decode(Echo, bytes.fromhex("a1616462c328"))
    assert encode(EchoReply(request.d)) == bytes.fromhex("bf617262c328ff")


@given(st.binary(max_size=40))
def test_any_text_comes_back_untouched(raw: bytes) -> None:
    """Whatever bytes a text holds, echo answers with the same."""
    payload = b"\xa1\x61d" + bytes((0x78, len(raw))) + raw
    reply = encode(EchoReply(decode(Echo, payload).d))
    assert reply.endswith(raw + b"\xff")


def test_every_type_of_field_is_read() -> None:
    sent = {"off": 0xFFFFFFFF, "number": 2**64 - 1, "small": 255, "signed": -5, "flag": True, "data": b"\0\1"}
    lists = {"words": ["a", "bc"], "ids": [1, 70000]}
    got = decode(Everything, cbor2.dumps(sent | lists))
    assert got == Everything(0xFFFFFFFF, 2**64 - 1, 255, -5, True, b"\0\1", ("a", "bc"), (1, 70000))


def test_indefinite_lists_are_read() -> None:
    assert decode(Everything, bytes.fromhex("a1 65776f726473 9f 6161 6162 ff")).words == ("a", "b")


def test_missing_fields_take_their_defaults() -> None:
    assert decode(Everything, b"\xa0") == Everything(None, 7, 0, 0, False, None, (), None)


def test_missing_field_without_a_default_is_refused() -> None:
    assert refused(Needs, cbor2.dumps({"val": b"x"})) == "missing: name"
    assert decode(Needs, cbor2.dumps({"name": "a"})) == Needs("a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"off": 2**32},
        {"off": -1},
        {"off": 1.0},
        {"off": "1"},
        {"off": True},
        {"number": -1},
        {"small": 256},
        {"signed": 2**31},
        {"signed": -(2**31) - 1},
        {"flag": 1},
        {"flag": None},
        {"data": "text"},
        {"data": None},
        {"words": "text"},
        {"words": [1]},
        {"words": {"a": 1}},
        {"ids": [-1]},
        {"ids": None},
    ],
)
def test_value_of_another_type_or_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    refused(Everything, cbor2.dumps(wrong))


def test_list_that_is_cut_short_is_refused() -> None:
    refused(Everything, bytes.fromhex("a1 65776f726473 82 6161"))


@given(st.dictionaries(st.text(min_size=2, max_size=4), items, max_size=5), st.text(max_size=20))
def test_unknown_keys_do_not_matter(unknown: dict[str, Any], text: str) -> None:
    """Whatever else is in the map, the known key is found."""
    before, after = cbor2.dumps({**unknown, "d": text}), cbor2.dumps({"d": text, **unknown})
    assert decode(Echo, before).d == decode(Echo, after).d == text


@given(st.dictionaries(st.text(min_size=2, max_size=4), items, min_size=1, max_size=3), st.data())
def test_map_that_is_cut_short_is_refused(unknown: dict[str, Any], data: st.DataObject) -> None:
    """Without its last bytes, no map is a map."""
    whole = cbor2.dumps(unknown)
    size = data.draw(st.integers(0, len(whole) - 1))
    refused(Echo, whole[:size])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_body_or_a_refusal(payload: bytes) -> None:
    """No bytes make the decoder raise anything but its refusal."""
    for kind in (Echo, Everything, Needs):
        read_or_refuse(kind, payload)


@given(st.binary(max_size=60))
def test_any_unknown_value_gives_a_body_or_a_refusal(value: bytes) -> None:
    """The same for bytes that stand where a value is skipped."""
    read_or_refuse(Echo, b"\xbf\x61x" + value)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00", b"\x9f", b"\xc0", b"\xbf\x00"])
def test_hostile_nesting_is_refused_without_harm(opening: bytes) -> None:
    refused(Echo, b"\xa1\x61x" + opening * 20_000)


def test_deep_nesting_that_ends_is_skipped() -> None:
    deep = b"\xa2\x61x" + b"\x81" * 20_000 + b"\x00" + b"\x61d\x62hi"
    assert decode(Echo, deep).d == "hi"


@pytest.mark.parametrize("count", ["9a 00ffffff", "9b ffffffffffffffff", "ba 00ffffff", "5a 00ffffff"])
def test_count_beyond_the_payload_is_refused(count: str) -> None:
    refused(Echo, b"\xa1\x61x" + bytes.fromhex(count) + b"\x00" * 50)


@dataclass(frozen=True, slots=True)
class Slot(Body):
    slot: int
    version: str
    hash: bytes | None = None
    active: bool = False


def test_reply_is_written_as_zephyr_writes_it() -> None:
    # os_echo: echo "hi"; an error; parameters
    assert encode(EchoReply("hi")) == bytes.fromhex("bf 6172 626869 ff")
    assert encode({"rc": 8}) == bytes.fromhex("bf 627263 08 ff")
    assert encode({"buf_size": 2048, "buf_count": 2}).hex() == "bf686275665f73697a65190800696275665f636f756e7402ff"
    assert encode({"groups": [10, 8, 0]}) == bytes.fromhex("bf 6667726f757073 9f 0a 08 00 ff ff")


def test_none_is_absent() -> None:
    assert cbor2.loads(encode(Slot(0, "1.0.0"))) == {"slot": 0, "version": "1.0.0", "active": False}
    assert cbor2.loads(encode({"rc": 3, "rsn": None})) == {"rc": 3}


def test_bodies_nest_and_keep_their_order() -> None:
    images = {"images": [Slot(0, "1", b"\x01" * 32, True), Slot(1, "2")], "splitStatus": 0}
    got = cbor2.loads(encode(images))
    assert list(got["images"][0]) == ["slot", "version", "hash", "active"]
    assert got["images"][1]["version"] == "2"


@pytest.mark.parametrize("number", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -24, -25, -257])
def test_integers_take_the_shortest_form(number: int) -> None:
    assert encode({"n": number}) == b"\xbf\x61n" + cbor2.dumps(number) + b"\xff"


plain = st.recursive(
    st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=30) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), plain, max_size=4))
def test_every_reply_is_what_another_decoder_reads(reply: Mapping[str, Any]) -> None:
    """What is encoded is CBOR, and says the same to others."""
    assert cbor2.loads(encode(reply)) == reply


def test_value_without_a_form_is_our_fault() -> None:
    with pytest.raises(cbor2.CBOREncodeError):
        encode({"x": object()})
    with pytest.raises(TypeError, match="object has no form in CBOR"):
        encode({"x": "\udcff", "y": object()})


def test_upload_chunk_is_read() -> None:
    chunk = cbor2.dumps({"off": 123456, "data": bytes(2400)})
    assert decode(Everything, chunk).data == bytes(2400)

"""Cases that name a scenario are those of the recorded Zephyr 4.4.0 servers."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.group import Context, Group, read, write
from smp_dfu_host.dispatch.hooks import CommandDone, CommandReceived, Event, Notice
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal, StoreError
from smp_dfu_host.wire.body import Body
from smp_dfu_host.wire.header import Header
from tests.fakes import UDP, Bench, FakeLink, answers


@dataclass(frozen=True, slots=True)
class Echo(Body):
    d: str = ""


@dataclass(frozen=True, slots=True)
class EchoReply(Body):
    r: str


class OddRefusal(Refusal):
    """A refusal of a kind that the router does not know."""


class Os(Group):
    id = 0
    name = "os mgmt"
    v0_rc = {2: Rc.EINVAL}  # noqa: RUF012  (typed by the base class)

    @read(0, Echo)
    @write(0, Echo)
    async def echo(self, context: Context, request: Echo) -> EchoReply:
        return EchoReply(request.d)

    @read(6)
    async def params(self, context: Context) -> dict[str, int]:
        return {"buf_size": context.buf_size}

    @write(9, Echo)
    async def fail(self, context: Context, request: Echo) -> Body:
        raise {
            "rc": MgmtError(Rc.EBUSY, "busy"),
            "group": GroupError(0, 2, "bad format", rsn="because"),
            "unknown rc": GroupError(0, 77),
            "other group": GroupError(1, 8),
            "no group": GroupError(99, 1),
            "odd": OddRefusal(),
            "store": StoreError("flash"),
            "crash": ZeroDivisionError(),
            "deep": RecursionError(),
            "unwritable": GroupError(0, 2, beside={"x": object()}),  # type: ignore[dict-item]
            "long": GroupError(0, 2, rsn="y" * 70_000),
            "given up": asyncio.CancelledError(),
        }[request.d]

    @read(10)
    async def big(self, context: Context) -> dict[str, bytes]:
        return {"d": bytes(context.buf_size)}

    @read(11)
    async def unwritable(self, context: Context) -> dict[str, object]:
        return {"d": object()}


class Image(Group):
    id = 1
    name = "img mgmt"
    v0_rc = {8: Rc.ENOENT}  # noqa: RUF012


class Enum(Group):
    id = 10
    name = "enum mgmt"
    too_large = Rc.ECORRUPT

    @read(3)
    async def details(self, context: Context) -> dict[str, bytes]:
        return {"groups": bytes(context.buf_size)}


class Target:
    """A router with its groups, and a link to it."""

    def __init__(self, buf_size: int = 2475) -> None:
        self.bench = Bench()
        groups = [kind(self.bench.services) for kind in (Os, Image, Enum)]
        self.router = Router(groups, self.bench.hooks, self.bench.stats)
        self.link = FakeLink(UDP, buf_size)

    async def ask(self, packet: bytes) -> list[bytes]:
        return await answers(self.router, self.link, packet)

    async def bodies(self, *packet: bytes) -> list[dict[str, Any]]:
        return [cbor2.loads(reply[8:]) for reply in await self.ask(b"".join(packet))]

    async def body(self, packet: bytes) -> dict[str, Any]:
        (body,) = await self.bodies(packet)
        return body


def request(group: int, command: int, body: object = None, *, op: int = 0, version: int = 1) -> bytes:
    payload = b"" if body is None else cbor2.dumps(body)
    return Header(op, version, 0, len(payload), group, 7, command).pack() + payload


def failing(how: str, version: int = 1) -> bytes:
    return request(0, 9, {"d": how}, op=2, version=version)


async def test_echo_is_answered_byte_for_byte() -> None:
    # os_echo in protocol version 1
    packet = bytes.fromhex("0800 0011 0000 00 00 a161646d48656c6c6f2c20776f726c6421")
    (reply,) = await Target().ask(packet)
    assert reply == bytes.fromhex("0900 0012 0000 00 00 bf61726d48656c6c6f2c20776f726c6421ff")


PROTO_HEADER = {
    "unknown_group_4/v0": ("0000000100040100a0", "0100000600040100bf62726308ff"),
    "unknown_group_65535/v1": ("08000001ffff0800a0", "09000006ffff0800bf62726308ff"),
    "unknown_group_write/v1": ("0a00000100400900a0", "0b00000600400900bf62726308ff"),
    "os_unknown_cmd_255/v0": ("0000000100000fffa0", "0100000600000fffbf62726308ff"),
    "os_params_write/v1": ("0a00000100001106a0", "0b00000600001106bf62726308ff"),
    "op_1/v0": ("0100000500001900a161646178", "0300000600001900bf62726308ff"),
    "op_3/v1": ("0b00000500001a00a161646178", "0b00000600001a00bf62726308ff"),
    "op_7/v1": ("0f00000500001e00a161646178", "0b00000600001e00bf62726308ff"),
    "version_2": ("1000000500002000a161646176", "0900000600002000bf6272630dff"),
    "version_3": ("1800000500002100a161646176", "0900000600002100bf6272630dff"),
    "version_2_unknown_group": ("1000000100632200a0", "0900000600632200bf6272630dff"),
    "flags_255/v1": ("08ff000500002600a161646166", "0900000600002600bf61726166ff"),
    "reserved_bits_7/v0": ("e000000500002900a161646172", "0100000600002900bf61726172ff"),
    "seq_255/v0": ("000000070000ff00a1616463323535", "010000080000ff00bf617263323535ff"),
}


@pytest.mark.parametrize("name", PROTO_HEADER)
async def test_header_is_answered_as_zephyr_does(name: str) -> None:
    sent, answered = PROTO_HEADER[name]
    assert await Target().ask(bytes.fromhex(sent)) == [bytes.fromhex(answered)]


async def test_undecodable_body_is_invalid() -> None:
    # proto_cbor/echo_array
    assert await Target().ask(bytes.fromhex("000000010000040080")) == [bytes.fromhex("0100000600000400bf62726303ff")]


@pytest.mark.parametrize("payload", ["", "80", "05", "a16164", "626869", "ff"])
async def test_command_without_arguments_never_looks_at_its_payload(payload: str) -> None:
    # proto_cbor/params_*
    data = bytes.fromhex(payload)
    packet = Header(0, 1, 0, len(data), 0, 1, 6).pack() + data
    assert await Target().body(packet) == {"buf_size": 2475}


async def test_body_is_read_beyond_a_length_that_is_too_small() -> None:
    # proto_header/len_minus_2
    target = Target()
    assert await target.bodies(bytes.fromhex("0800 0004 0000 00 00 a16164626869")) == [{"r": "hi"}]
    assert target.bench.stats.groups["smp"]["short"] == 1


async def test_length_past_the_end_is_corrupt() -> None:
    assert await Target().body(bytes.fromhex("0800 ffff 0000 00 00 a16164626869")) == {"rc": 9}


@pytest.mark.parametrize("size", range(8))
async def test_less_than_a_header_is_not_answered(size: int) -> None:
    target = Target()
    assert await target.ask(bytes(size)) == []
    assert target.bench.stats.groups["smp"]["short"] == (size > 0)


async def test_several_requests_get_a_reply_each_in_order() -> None:
    echoes = [request(0, 0, {"d": text}) for text in "abc"]
    assert await Target().bodies(*echoes) == [{"r": "a"}, {"r": "b"}, {"r": "c"}]


async def test_bare_rc_stops_the_packet() -> None:
    # ok_bad_ok
    packet = [request(0, 0, {"d": "a"}), request(4, 0, {}), request(0, 0, {"d": "b"})]
    assert await Target().bodies(*packet) == [{"r": "a"}, {"rc": 8}]


async def test_group_error_stops_the_packet_in_version_0_only() -> None:
    # ok_grouperr_ok
    after = request(0, 0, {"d": "b"})
    assert await Target().bodies(failing("group", 0), after) == [{"rc": 3, "rsn": "because"}]
    assert await Target().bodies(failing("group"), after) == [{"err": {"group": 0, "rc": 2}}, {"r": "b"}]


@pytest.mark.parametrize(
    ("how", "v0", "v1"),
    [
        ("rc", {"rc": 10}, {"rc": 10}),
        ("group", {"rc": 3, "rsn": "because"}, {"err": {"group": 0, "rc": 2}}),
        ("unknown rc", {"rc": 1}, {"err": {"group": 0, "rc": 77}}),
        ("other group", {"rc": 5}, {"err": {"group": 1, "rc": 8}}),
        ("no group", {"rc": 1}, {"err": {"group": 99, "rc": 1}}),
        ("odd", {"rc": 1}, {"rc": 1}),
        ("store", {"rc": 1}, {"rc": 1}),
        ("crash", {"rc": 1}, {"rc": 1}),
        ("deep", {"rc": 1}, {"rc": 1}),
        ("unwritable", {"rc": 3}, {"rc": 1}),
        ("long", {"rc": 1}, {"err": {"group": 0, "rc": 2}}),
        ("given up", {"rc": 1}, {"rc": 1}),
    ],
)
async def test_refusal_has_the_shape_of_the_request_s_version(how: str, v0: dict[str, Any], v1: dict[str, Any]) -> None:
    target = Target()
    assert await target.body(failing(how, 0)) == v0
    assert await target.body(failing(how)) == v1


async def test_crash_is_logged_counted_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    target = Target()
    with caplog.at_level(logging.ERROR):
        assert await target.body(failing("crash")) == {"rc": 1}
    assert "ZeroDivisionError" in caplog.text
    assert await target.body(request(0, 0, {"d": "alive"})) == {"r": "alive"}
    assert target.bench.stats.groups["smp"] == {
        "requests": 2,
        "replies": 2,
        "errors": 0,
        "failures": 1,
        "short": 0,
    }


async def test_reply_that_has_no_form_is_a_crash() -> None:
    assert await Target().body(request(0, 11)) == {"rc": 1}


async def test_reply_that_fits_exactly_is_sent_and_a_larger_one_is_rc_7() -> None:
    # raw serial frame_384: the reply to an echo is a byte longer than the request
    text = "R" * 370
    packet = request(0, 0, {"d": text}, version=0)
    assert len(packet) == 384
    assert await Target(385).body(packet) == {"r": text}
    assert await Target(384).body(packet) == {"rc": 7}


async def test_reply_beyond_the_length_field_is_rc_7_on_any_link() -> None:
    assert await Target(100_000).body(request(0, 10)) == {"rc": 7}


async def test_group_may_answer_its_own_code_when_a_reply_is_too_large() -> None:
    # small_buffer/enum_details
    target = Target(96)
    assert await target.body(request(0, 10)) == {"rc": 7}
    assert await target.body(request(10, 3)) == {"rc": 9}


async def test_first_of_two_groups_with_one_id_counts() -> None:
    class Other(Group):
        id = 0
        name = "other"

        @read(50)
        async def extra(self, context: Context) -> Body:
            return Body()

    bench = Bench()
    first = Os(bench.services)
    router = Router([first, Other(bench.services)], bench.hooks, bench.stats)
    assert router.groups == {0: first}
    (reply,) = await answers(router, FakeLink(), request(0, 50))
    assert cbor2.loads(reply[8:]) == {"rc": 8}


@pytest.mark.parametrize("waits", [False, True])
async def test_command_is_told_to_be_done_behind_its_reply(waits: bool) -> None:
    """As in Zephyr; and what waits meanwhile keeps the request waiting, not only those behind it."""
    target, seen = Target(), list[str]()

    async def waiting(notice: Notice) -> None:
        await asyncio.sleep(0)
        seen.append(notice.event.label)

    def plain(notice: Notice) -> None:
        seen.append(notice.event.label)

    target.bench.hooks.register(Event.CMD_RECV | Event.CMD_DONE, waiting if waits else plain)
    packet = request(0, 0, {"d": "a"})
    end = await target.router.answer(target.link, packet, 0, lambda _: seen.append("reply"))
    assert end == len(packet)
    assert seen == ["command-received", "reply", "command-done"]


async def test_hooks_are_told_before_and_after_a_command() -> None:
    target, seen = Target(), list[object]()
    target.bench.hooks.register(Event.CMD_RECV | Event.CMD_DONE, lambda notice: seen.append(notice.data))
    await target.ask(request(0, 0, {"d": "a"}) + failing("group") + failing("rc"))
    assert seen == [
        CommandReceived(0, 0, 0, UDP),
        CommandDone(0, 0, 0, UDP),
        CommandReceived(0, 9, 2, UDP),
        CommandDone(0, 9, 0, UDP),
        CommandReceived(0, 9, 2, UDP),
        CommandDone(0, 9, 10, UDP),
    ]


@pytest.mark.parametrize("packet", [request(4, 0), request(0, 99), request(0, 6, op=2), request(0, 0, op=1)])
async def test_hooks_are_not_told_of_requests_without_a_handler(packet: bytes) -> None:
    target, seen = Target(), list[object]()
    target.bench.hooks.register(Event.CMD_RECV | Event.CMD_DONE, lambda notice: seen.append(notice.data))
    assert await target.body(packet) == {"rc": 8}
    assert seen == []


async def test_hook_can_refuse_in_both_shapes_and_the_command_is_not_run() -> None:
    target = Target()
    refusals: list[Refusal] = [MgmtError(Rc.EACCESSDENIED), GroupError(1, 8)]

    def refuse(_notice: Notice) -> None:
        raise refusals.pop(0)

    target.bench.hooks.register(Event.CMD_RECV, refuse)
    bodies = [await target.body(failing("crash")) for _ in range(2)]
    assert bodies == [{"rc": 11}, {"err": {"group": 1, "rc": 8}}]


async def test_hook_is_asked_before_the_body_is_read() -> None:
    # CMD_RECV comes before the handler, and it is the handler that decodes
    target, seen = Target(), list[Event]()
    target.bench.hooks.register(Event.CMD_RECV, lambda notice: seen.append(notice.event))
    assert await target.body(request(0, 0, [])) == {"rc": 3}
    assert seen == [Event.CMD_RECV]


async def test_hook_that_fails_costs_one_answer() -> None:
    target = Target()
    target.bench.hooks.register(Event.CMD_RECV, lambda _: print(1 // 0))
    assert await target.body(request(0, 0, {})) == {"rc": 1}


async def test_refusal_after_the_command_changes_nothing() -> None:
    target = Target()

    def refuse(_notice: Notice) -> None:
        raise MgmtError(Rc.EBUSY)

    target.bench.hooks.register(Event.CMD_DONE, refuse)
    assert await target.body(request(0, 0, {"d": "a"})) == {"r": "a"}


async def test_hook_that_gives_up_after_the_command_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    target = Target()

    def give_up(_notice: Notice) -> None:
        raise asyncio.CancelledError

    target.bench.hooks.register(Event.CMD_DONE, give_up)
    assert await target.body(request(0, 0, {"d": "a"})) == {"r": "a"}
    assert "a hook failed after" in caplog.text


@pytest.mark.parametrize("event", [Event.CMD_RECV, Event.CMD_DONE])
async def test_hook_is_cancelled_with_the_task(event: Event) -> None:
    target = Target()

    async def wait(_notice: Notice) -> None:
        await asyncio.Event().wait()

    target.bench.hooks.register(event, wait)
    task = asyncio.create_task(target.bodies(request(0, 0, {"d": "a"})))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@given(st.binary(max_size=200))
async def test_any_packet_gets_whole_replies(packet: bytes) -> None:
    """Whatever arrives, what goes out are whole replies, one for each request at most."""
    replies = await Target().ask(packet)
    for reply in replies:
        header = Header.parse(reply)
        assert header.op in (1, 3)
        assert header.length == len(reply) - 8
        cbor2.loads(reply[8:])
    assert len(replies) <= len(packet) // 8

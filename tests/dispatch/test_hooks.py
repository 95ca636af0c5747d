import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.hooks import ALL_EVENTS, Event, EventGroup, Hooks, Notice
from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal
from tests.fakes import at_once


def caught(hooks: Hooks, event: Event = Event.CMD_RECV) -> Refusal:
    with pytest.raises(Refusal) as info:
        at_once(hooks.notify(event, None))
    return info.value


@pytest.mark.parametrize(
    ("event", "number"),
    [
        (Event.CMD_RECV, 0x10001),
        (Event.CMD_DONE, 0x10004),
        (Event.OS_RESET, 0x20001),
        (Event.IMG_DFU_CHUNK, 0x30001),
        (Event.IMG_DFU_CHUNK_WRITE_COMPLETE, 0x30020),
        (Event.IMG_SLOT_INFO_SLOT, 0x30100),
        (Event.ENUM_DETAILS, 0x60001),
        (EventGroup.IMG.events, 0x3FFFF),
        (ALL_EVENTS, 0xFFFF),
    ],
)
def test_ids_are_zephyr_s(event: int, number: int) -> None:
    # include/zephyr/mgmt/mcumgr/mgmt/callbacks.h: group << 16 | one bit
    assert event == number


@pytest.mark.parametrize(
    ("registered", "told"),
    [
        (Event.CMD_RECV, [Event.CMD_RECV]),
        (Event.IMG_DFU_STARTED | Event.IMG_DFU_PENDING, [Event.IMG_DFU_STARTED, Event.IMG_DFU_PENDING]),
        (EventGroup.SMP.events, [Event.CMD_RECV, Event.CMD_STATUS, Event.CMD_DONE]),
        (ALL_EVENTS, list(Event)),
    ],
)
def test_handler_is_told_of_what_it_registered_for(registered: int, told: list[Event]) -> None:
    hooks, seen = Hooks(), list[Event]()
    hooks.register(registered, lambda notice: seen.append(notice.event))
    for event in Event:
        at_once(hooks.notify(event, None))
    assert seen == told


def test_handlers_run_in_the_order_of_registration_with_the_data() -> None:
    hooks, calls = Hooks(), list[str]()
    hooks.register(ALL_EVENTS, lambda notice: calls.append(f"1 {notice.data}"))
    hooks.register(Event.CMD_DONE, lambda notice: calls.append(f"2 {notice.data}"))
    at_once(hooks.notify(Event.CMD_DONE, "data"))
    assert calls == ["1 data", "2 data"]


def test_first_refusal_counts_and_later_handlers_see_it() -> None:
    hooks, seen = Hooks(), list[Refusal | None]()

    def refuse(notice: Notice) -> None:
        seen.append(notice.refused)
        raise MgmtError(Rc.EBUSY) if notice.refused is None else GroupError(1, 2)

    for _ in range(2):
        hooks.register(Event.CMD_RECV, refuse)
    hooks.register(Event.CMD_RECV, lambda notice: seen.append(notice.refused))
    refusal = caught(hooks)
    assert isinstance(refusal, MgmtError)
    assert seen == [None, refusal, refusal]


def test_handler_can_end_the_chain() -> None:
    hooks, calls = Hooks(), list[str]()
    hooks.register(Event.CMD_RECV, Notice.stop)
    hooks.register(Event.CMD_RECV, lambda _: calls.append("later"))
    at_once(hooks.notify(Event.CMD_RECV, None))
    assert calls == []


def test_handler_can_refuse_and_end_the_chain() -> None:
    hooks, calls = Hooks(), list[str]()

    def refuse(notice: Notice) -> None:
        notice.stop()
        raise GroupError(1, 7)

    hooks.register(Event.CMD_RECV, refuse)
    hooks.register(Event.CMD_RECV, lambda _: calls.append("later"))
    assert isinstance(caught(hooks), GroupError)
    assert calls == []


def test_handler_that_fails_is_not_hidden() -> None:
    hooks = Hooks()
    hooks.register(Event.CMD_RECV, lambda _: print(1 // 0))
    with pytest.raises(ZeroDivisionError):
        at_once(hooks.notify(Event.CMD_RECV, None))


def test_handlers_come_and_go_while_events_are_fired() -> None:
    hooks, calls = Hooks(), list[str]()

    def handler(_notice: Notice) -> None:
        calls.append("told")

    at_once(hooks.notify(Event.CMD_DONE, None))
    hooks.register(Event.CMD_DONE, handler)
    at_once(hooks.notify(Event.CMD_DONE, None))
    hooks.unregister(handler)
    at_once(hooks.notify(Event.CMD_DONE, None))
    assert calls == ["told"]


KINDS = ("pass", "refuse", "stop", "refuse and stop", "wait", "wait and refuse", "wait and stop")


@given(st.lists(st.sampled_from(KINDS), max_size=6))
async def test_handlers_that_wait_and_those_that_do_not_make_one_chain(kinds: list[str]) -> None:
    hooks, calls, seen = Hooks(), list[int](), list[Refusal | None]()

    def act(number: int, kind: str, notice: Notice) -> None:
        calls.append(number)
        seen.append(notice.refused)
        if "stop" in kind:
            notice.stop()
        if "refuse" in kind:
            raise GroupError(1, number)

    def add(number: int, kind: str) -> None:
        async def waiting(notice: Notice) -> None:
            await asyncio.sleep(0)
            act(number, kind, notice)

        def plain(notice: Notice) -> None:
            act(number, kind, notice)

        hooks.register(Event.CMD_RECV, waiting if "wait" in kind else plain)

    for number, kind in enumerate(kinds):
        add(number, kind)
    ends = [number for number, kind in enumerate(kinds) if "stop" in kind]
    called = range(ends[0] + 1 if ends else len(kinds))
    refusing = [number for number in called if "refuse" in kinds[number]]
    if refusing:
        with pytest.raises(GroupError) as info:
            await hooks.notify(Event.CMD_RECV, None)
        assert info.value.rc == refusing[0]
        assert seen == [info.value if number > refusing[0] else None for number in called]
    else:
        await hooks.notify(Event.CMD_RECV, None)
    assert calls == list(called)


def test_trigger_knows_its_handlers_as_they_come_and_go() -> None:
    hooks, calls = Hooks(), list[object]()
    trigger = hooks.trigger(Event.CMD_STATUS)
    assert not trigger.chain
    assert trigger.fire("nobody") is None

    def handler(notice: Notice) -> None:
        calls.append((notice.event, notice.data))

    hooks.register(Event.CMD_STATUS, handler)
    assert trigger is hooks.trigger(Event.CMD_STATUS)
    assert trigger.fire("told") is None
    assert calls == [(Event.CMD_STATUS, "told")]
    hooks.unregister(handler)
    assert not trigger.chain

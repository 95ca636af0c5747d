import asyncio
import logging
from dataclasses import dataclass

import pytest

from smp_dfu_host.dispatch.events import EventManager, Order
from tests.fakes import FakeClock


@dataclass(frozen=True, slots=True)
class Ping:
    number: int = 0


@dataclass(frozen=True, slots=True)
class Pong:
    number: int = 0


def manager() -> tuple[FakeClock, EventManager, list[str]]:
    clock = FakeClock()
    return clock, EventManager(clock), []


def test_subscribers_are_called_early_normal_final() -> None:
    clock, events, calls = manager()
    events.subscribe(Ping, lambda _: calls.append("final"), Order.FINAL)
    events.subscribe(Ping, lambda _: calls.append("normal"))
    events.subscribe(Ping, lambda _: calls.append("early"), Order.EARLY)
    events.subscribe(Ping, lambda _: calls.append("normal 2"))
    events.submit(Ping())
    clock.advance()
    assert calls == ["early", "normal", "normal 2", "final"]


def test_an_event_has_one_final_subscriber_at_most() -> None:
    _, events, _ = manager()
    events.subscribe(Ping, lambda _: None, Order.FINAL)
    events.subscribe(Pong, lambda _: None, Order.FINAL)
    with pytest.raises(ValueError, match="Ping has a final subscriber already"):
        events.subscribe(Ping, lambda _: None, Order.FINAL)


def test_event_is_not_delivered_inside_submit() -> None:
    clock, events, calls = manager()
    events.subscribe(Ping, lambda _: calls.append("ping"))
    events.submit(Ping())
    assert calls == []
    clock.advance()
    assert calls == ["ping"]


def test_event_reaches_subscribers_of_its_type_only() -> None:
    clock, events, calls = manager()
    events.subscribe(Pong, lambda _: calls.append("pong"))
    events.submit(Ping())
    clock.advance()
    assert calls == []


def test_events_come_in_the_order_in_which_they_were_submitted() -> None:
    clock, events, calls = manager()
    events.subscribe(Ping, lambda event: calls.append(f"ping {event.number}"))
    events.subscribe(Pong, lambda event: calls.append(f"pong {event.number}"))
    for number in range(3):
        events.submit(Ping(number))
        events.submit(Pong(number))
    clock.advance()
    assert calls == ["ping 0", "pong 0", "ping 1", "pong 1", "ping 2", "pong 2"]


def test_event_submitted_by_a_handler_waits_for_the_next_round() -> None:
    clock, events, calls = manager()

    def again(event: Ping) -> None:
        calls.append(f"ping {event.number}")
        if event.number < 3:
            events.submit(Ping(event.number + 1))

    events.subscribe(Ping, again)
    events.submit(Ping())
    clock.advance()
    assert calls == ["ping 0", "ping 1", "ping 2", "ping 3"]
    assert clock.timers == []


def test_failing_handler_does_not_keep_the_event_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    clock, events, calls = manager()
    events.subscribe(Ping, lambda _: calls.append(str(1 // 0)))
    events.subscribe(Ping, lambda _: calls.append("final"), Order.FINAL)
    events.submit(Ping())
    with caplog.at_level(logging.ERROR):
        clock.advance()
    assert calls == ["final"]
    assert "ZeroDivisionError" in caplog.text


async def test_event_loop_is_a_clock() -> None:
    events = EventManager(asyncio.get_running_loop())
    seen: asyncio.Queue[Ping] = asyncio.Queue()
    events.subscribe(Ping, seen.put_nowait)
    for number in range(5):
        events.submit(Ping(number))
    async with asyncio.timeout(5):
        assert [(await seen.get()).number for _ in range(5)] == [0, 1, 2, 3, 4]

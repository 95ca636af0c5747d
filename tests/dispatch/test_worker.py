import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.events import PeerJoined, PeerLeft
from smp_dfu_host.dispatch.group import Context, Group, read
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.dispatch.worker import OUTBOX_SIZE, STREAM_SHARE, Worker
from smp_dfu_host.errors import TransportError
from smp_dfu_host.wire.body import Body
from smp_dfu_host.wire.header import Header
from tests.fakes import BLE, OTHER_BLE, UDP, Bench, FakeLink


@dataclass(frozen=True, slots=True)
class Number(Body):
    n: int = 0


class Numbers(Group):
    """Writes down what it serves; waits where it is told to."""

    id = 64
    name = "numbers"

    served: list[int]
    running = 0
    gate: asyncio.Event | None = None

    @read(0, Number)
    async def number(self, context: Context, request: Number) -> Number:
        assert not self.running, "two handlers at once"
        self.running += 1
        if self.gate is not None:
            await self.gate.wait()
        self.served.append(request.n)
        self.running -= 1
        return request


class Rig:
    """A worker with one group."""

    def __init__(self, queue_size: int = 8) -> None:
        self.bench = Bench()
        self.group = Numbers(self.bench.services)
        self.group.served = []
        router = Router([self.group], self.bench.hooks, self.bench.stats)
        self.worker = Worker(router, queue_size, self.bench.stats, self.bench.events)

    @property
    def counters(self) -> dict[str, int]:
        return dict(self.bench.stats.groups["queue"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        task = asyncio.create_task(self.worker.run())
        try:
            async with asyncio.timeout(20):
                yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}, "the worker leaves tasks behind"


def number(*numbers: int) -> bytes:
    packet = b""
    for n in numbers:
        payload = cbor2.dumps({"n": n})
        packet += Header(0, 1, 0, len(payload), 64, n & 255, 0).pack() + payload
    return packet


def numbers(replies: list[bytes]) -> list[int]:
    return [cbor2.loads(reply[8:])["n"] for reply in replies]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_requests_are_answered_in_order_of_arrival() -> None:
    async with Rig().running() as rig:
        a, b = FakeLink(UDP), FakeLink(BLE)
        for n in range(4):
            await rig.worker.put((a, b)[n % 2], number(n))
        await a.wait_sent(2)
        await b.wait_sent(2)
        assert rig.group.served == [0, 1, 2, 3]
        assert (numbers(a.sent), numbers(b.sent)) == ([0, 2], [1, 3])


async def test_requests_of_one_packet_are_answered_in_order() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        await rig.worker.put(link, number(*range(100)))
        assert numbers(await link.wait_sent(100)) == list(range(100))


async def test_bare_rc_stops_the_packet() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        unknown = Header(0, 1, 0, 0, 99, 0, 0).pack()
        await rig.worker.put(link, number(1) + unknown + number(2))
        await rig.worker.put(link, number(3))
        await link.wait_sent(3)
        assert [cbor2.loads(reply[8:]) for reply in link.sent] == [{"n": 1}, {"rc": 8}, {"n": 3}]


async def test_offer_is_refused_and_counted_when_the_queue_is_full() -> None:
    rig = Rig(queue_size=3)
    link = FakeLink()
    assert [rig.worker.offer(link, number(n)) for n in range(5)] == [True, True, True, False, False]
    assert rig.counters["dropped"] == 2
    async with rig.running():
        assert numbers(await link.wait_sent(3)) == [0, 1, 2]


async def test_put_waits_while_the_queue_is_full() -> None:
    async with Rig(queue_size=2).running() as rig:
        rig.group.gate = asyncio.Event()
        link = FakeLink()
        puts = [asyncio.create_task(rig.worker.put(link, number(n))) for n in range(6)]
        await settle()
        assert [put.done() for put in puts] == [True] * 3 + [False] * 3  # one is being served, two wait
        rig.group.gate.set()
        assert numbers(await link.wait_sent(6)) == list(range(6))
        await asyncio.gather(*puts)


async def test_stream_leaves_room_in_the_queue_for_datagrams() -> None:
    rig = Rig(queue_size=64)
    stream, other = FakeLink(BLE), FakeLink(UDP)
    puts = [asyncio.create_task(rig.worker.put(stream, number(n))) for n in range(100)]
    await settle()
    assert sum(put.done() for put in puts) == STREAM_SHARE
    assert rig.worker.offer(other, number(7))
    async with rig.running():
        assert numbers(await stream.wait_sent(100)) == list(range(100))
        assert numbers(await other.wait_sent(1)) == [7]
        await asyncio.gather(*puts)


async def called_back(rig: Rig, link: FakeLink, packet: bytes) -> bool:
    """Offer a packet as transports do, in a callback of the event loop; return whether it was taken."""
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def run() -> None:
        done.set_result(rig.worker.offer(link, packet))

    asyncio.get_running_loop().call_soon(run)
    return await done


async def test_packet_with_nothing_before_it_is_served_where_it_comes_in() -> None:
    async with Rig().running() as rig:
        link = FakeLink(quick=True)
        await settle()
        seen = list[list[int]]()

        def run() -> None:
            assert rig.worker.offer(link, number(1, 2))
            seen.append(numbers(link.sent))

        asyncio.get_running_loop().call_soon(run)
        await settle()
        assert seen == [[1, 2]]


async def test_what_has_to_wait_is_left_to_the_worker_and_those_behind_it_wait_too() -> None:
    async with Rig().running() as rig:
        rig.group.gate = gate = asyncio.Event()
        one, other = FakeLink(UDP), FakeLink(BLE)
        await settle()
        assert await called_back(rig, one, number(1, 2))
        rig.group.gate = None
        assert await called_back(rig, other, number(3))
        await settle()
        assert rig.group.served == []
        gate.set()
        await other.wait_sent(1)
        assert rig.group.served == [1, 2, 3]


async def test_nothing_is_served_where_it_comes_in_during_a_pause() -> None:
    async with Rig().running() as rig:
        link = FakeLink(quick=True)
        await settle()
        async with rig.worker.paused():
            await called_back(rig, link, number(1))
            await settle()
            assert rig.group.served == []
        assert await called_back(rig, link, number(2))
        await link.wait_sent(1)
        assert rig.group.served == [2]


async def test_requests_of_a_closed_link_are_not_served_where_they_come_in() -> None:
    async with Rig().running() as rig:
        link = FakeLink(quick=True)
        link.closed = True
        await settle()
        await called_back(rig, link, number(1))
        await settle()
        assert rig.group.served == []


async def fails_alone(kind: type[Numbers]) -> None:
    """Have a handler fail that has begun where its packet came in; the next request is served."""
    rig = Rig()
    group = kind(rig.bench.services)
    group.served = []
    rig.worker = Worker(Router([group], rig.bench.hooks, rig.bench.stats), 8, rig.bench.stats)
    async with rig.running():
        link = FakeLink(quick=True)
        await settle()
        assert await called_back(rig, link, Header(0, 1, 0, 0, 64, 0, 1).pack())
        await link.wait_sent(1)
        assert await called_back(rig, link, number(5))
        await link.wait_sent(2)
        assert [cbor2.loads(reply[8:]) for reply in link.sent] == [{"rc": 1}, {"n": 5}]


async def test_handler_that_sets_itself_a_time_limit_fails_alone() -> None:
    """Even one that is over before the worker's task goes on with the request."""

    class Hasty(Numbers):
        @read(1)
        async def hurry(self, _context: Context) -> Number:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
            raise AssertionError

    await fails_alone(Hasty)


async def test_what_has_begun_goes_on_before_others_have_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late it is: what cancels the handler in between would end the worker instead."""
    monkeypatch.setattr("smp_dfu_host.dispatch.worker.TURN_S", 0.0)

    async def fail() -> None:
        raise ZeroDivisionError

    class Grouped(Numbers):
        @read(1)
        async def split(self, _context: Context) -> Number:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
            raise AssertionError

    await fails_alone(Grouped)


async def test_worker_that_ends_takes_along_what_has_begun() -> None:
    async with Rig().running() as rig:
        rig.group.gate = asyncio.Event()
        await settle()
        assert await called_back(rig, FakeLink(), number(1))
    assert rig.group.served == []


@pytest.mark.parametrize("begins", [False, True])
async def test_worker_ends_though_a_handler_swallows_that(begins: bool) -> None:
    """asyncio.TaskGroup does so, if one of its tasks fails in the same moment (Python 3.11)."""

    class Stubborn(Numbers):
        @read(1)
        async def stay(self, _context: Context) -> Number:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Number(1)

    rig, stay = Rig(), Header(0, 1, 0, 0, 64, 0, 1).pack()
    rig.worker = Worker(Router([Stubborn(rig.bench.services)], rig.bench.hooks, rig.bench.stats), 8, rig.bench.stats)
    task = asyncio.create_task(rig.worker.run())
    await settle()
    if begins:
        await called_back(rig, FakeLink(), stay)
    else:
        await rig.worker.put(FakeLink(), stay)
        await settle()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done
    assert task.cancelled()


async def test_reply_goes_out_at_once_where_the_link_takes_it() -> None:
    async with Rig().running() as rig:
        link = FakeLink(quick=True)
        await rig.worker.put(link, number(*range(100)))
        assert numbers(await link.wait_sent(100)) == list(range(100))


async def test_replies_keep_their_order_when_a_quick_link_becomes_slow() -> None:
    async with Rig().running() as rig:
        link = FakeLink(quick=True)
        await rig.worker.put(link, number(0))
        await link.wait_sent(1)
        link.block()
        await rig.worker.put(link, number(1, 2))
        await settle()
        link.unblock()
        await rig.worker.put(link, number(3))
        assert numbers(await link.wait_sent(4)) == [0, 1, 2, 3]


async def test_fault_of_a_transport_that_sends_at_once_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeLink):
        def send_now(self, message: bytes) -> bool:
            raise ValueError("broken")

    async with Rig().running() as rig:
        link = Broken()
        await rig.worker.put(link, number(1))
        assert numbers(await link.wait_sent(1)) == [1]
    assert "cannot send" in caplog.text


async def test_slow_peer_does_not_stall_the_others() -> None:
    async with Rig(queue_size=4).running() as rig:
        slow, fast = FakeLink(BLE), FakeLink(UDP)
        slow.block()

        async def pour() -> None:
            for n in range(200):
                await rig.worker.put(slow, number(n))

        pouring = asyncio.create_task(pour())
        for n in range(100):
            await rig.worker.put(fast, number(n))
        assert numbers(await fast.wait_sent(100)) == list(range(100))
        assert (slow.sent, pouring.done()) == ([], False)
        slow.unblock()
        assert numbers(await slow.wait_sent(200)) == list(range(200))
        await pouring


async def test_replies_of_a_slow_peer_do_not_pile_up() -> None:
    async with Rig(queue_size=4).running() as rig:
        slow = FakeLink()
        slow.block()
        await rig.worker.put(slow, number(*range(200)))
        await settle()
        assert len(rig.group.served) == OUTBOX_SIZE
        assert not rig.worker.offer(slow, number(200))
        slow.unblock()
        assert numbers(await slow.wait_sent(200)) == list(range(200))
        assert rig.worker.offer(slow, number(200))
        await slow.wait_sent(201)


async def test_packets_that_were_queued_when_the_outbox_filled_are_served_later_in_order() -> None:
    rig = Rig(queue_size=4)
    slow, fast = FakeLink(BLE), FakeLink(UDP)
    slow.block()
    for first in (0, 100, 200):
        assert rig.worker.offer(slow, number(*range(first, first + 20)))
    assert rig.worker.offer(fast, number(7))
    async with rig.running():
        assert numbers(await fast.wait_sent(1)) == [7]
        await settle()
        # Packets at rest take no room in the queue of the others.
        assert [rig.worker.offer(fast, number(n)) for n in range(4)] == [True] * 4
        slow.unblock()
        assert numbers(await slow.wait_sent(60)) == [*range(20), *range(100, 120), *range(200, 220)]


async def test_fragments_of_two_replies_never_interleave() -> None:
    # FakeLink.send asserts that it is never entered twice.
    async with Rig().running() as rig:
        link = FakeLink()
        link.block()
        await rig.worker.put(link, number(1, 2, 3))
        await settle()
        link.unblock()
        assert numbers(await link.wait_sent(3)) == [1, 2, 3]


async def test_lost_link_ends_its_own_outbox_only() -> None:
    async with Rig().running() as rig:
        lost, other = FakeLink(BLE), FakeLink(OTHER_BLE)
        lost.fail = TransportError("gone")
        await rig.worker.put(lost, number(1, 2, 3))
        await rig.worker.put(other, number(4))
        assert numbers(await other.wait_sent(1)) == [4]
        await settle()
        assert lost.sent == []
        assert rig.counters["lost"] == 3
        await rig.worker.put(lost, number(5))  # a datagram's sender may be heard again
        assert numbers(await lost.wait_sent(1)) == [5]


async def test_fault_of_a_transport_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        link.fail = ZeroDivisionError()
        with caplog.at_level(logging.ERROR):
            await rig.worker.put(link, number(1))
            await settle()
        assert "ZeroDivisionError" in caplog.text
        await rig.worker.put(link, number(2))
        assert numbers(await link.wait_sent(1)) == [2]


async def test_requests_of_a_closed_link_are_not_served() -> None:
    rig = Rig()
    gone, here = FakeLink(BLE), FakeLink(UDP)
    await rig.worker.put(gone, number(1))
    await rig.worker.put(here, number(2))
    gone.closed = True
    async with rig.running():
        await here.wait_sent(1)
        assert rig.group.served == [2]


async def test_link_that_left_is_forgotten_at_once() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        link.block()
        await rig.worker.put(link, number(*range(50)))
        await settle()
        rig.worker.left(link)
        await settle()
        assert (link.sending, link.sent) == (0, [])
        assert rig.counters["lost"] == OUTBOX_SIZE
        assert len(rig.group.served) == OUTBOX_SIZE


async def test_reply_to_a_link_that_left_meanwhile_is_dropped() -> None:
    async with Rig().running() as rig:
        rig.group.gate = asyncio.Event()
        link, other = FakeLink(BLE), FakeLink(UDP)
        await rig.worker.put(link, number(1, 2))
        await settle()
        rig.worker.left(link)
        rig.group.gate.set()
        await rig.worker.put(other, number(3))
        await other.wait_sent(1)
        assert (link.sent, rig.group.served) == ([], [1, 3])


async def test_link_that_closes_while_sending_loses_the_rest() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        link.block()
        await rig.worker.put(link, number(1, 2, 3))
        await settle()
        link.closed = True
        link.unblock()
        await settle()
        assert link.sent == []
        assert rig.counters["lost"] == 3


async def test_link_that_leaves_inside_of_send_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    class LeavingLink(FakeLink):
        async def send(self, message: bytes) -> None:
            await super().send(message)
            self.closed = True
            rig.worker.left(self)

    async with Rig().running() as rig:
        link = LeavingLink()
        await rig.worker.put(link, number(1, 2, 3))
        await settle()
        assert numbers(link.sent) == [1]
        assert "cannot send" not in caplog.text


async def test_put_gives_up_when_its_link_closes() -> None:
    async with Rig(queue_size=1).running() as rig:
        link = FakeLink()
        link.block()
        await rig.worker.put(link, number(*range(50)))
        await settle()
        put = asyncio.create_task(rig.worker.put(link, number(1)))
        await settle()
        assert not put.done()
        link.closed = True
        rig.worker.left(link)
        await put


async def test_put_on_a_closed_link_gives_up_when_others_fill_the_queue() -> None:
    rig = Rig(queue_size=1)
    await rig.worker.put(FakeLink(UDP), number(1))
    gone = FakeLink(BLE)
    put = asyncio.create_task(rig.worker.put(gone, number(2)))
    await settle()
    gone.closed = True
    rig.worker.left(gone)
    await put


async def test_modules_are_told_of_peers() -> None:
    rig, seen = Rig(), list[object]()
    rig.bench.events.subscribe(PeerJoined, seen.append)
    rig.bench.events.subscribe(PeerLeft, seen.append)
    link = FakeLink(BLE)
    rig.worker.joined(link)
    rig.worker.left(link)
    rig.bench.clock.advance()
    assert seen == [PeerJoined(BLE), PeerLeft(BLE)]


async def test_worker_without_events_tells_nobody() -> None:
    rig = Rig()
    worker = Worker(Router([], rig.bench.hooks, rig.bench.stats), 1, rig.bench.stats)
    worker.joined(FakeLink())
    worker.left(FakeLink())


async def test_drained_waits_for_the_last_reply() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        link.block()
        await rig.worker.put(link, number(1, 2))
        await settle()
        drained = asyncio.create_task(rig.worker.drained())
        await settle()
        assert not drained.done()
        link.unblock()
        await drained
        assert numbers(link.sent) == [1, 2]


async def test_pause_forgets_what_a_slow_peer_has_waiting() -> None:
    async with Rig().running() as rig:
        slow = FakeLink()
        slow.block()
        for _ in range(3):
            await rig.worker.put(slow, number(*range(20)))
        await settle()
        paused = rig.worker.paused()
        entering = asyncio.create_task(paused.__aenter__())
        await settle()
        slow.unblock()
        await entering
        await paused.__aexit__(None, None, None)
        assert len(rig.group.served) == len(slow.sent) == OUTBOX_SIZE
        await rig.worker.put(slow, number(99))
        assert numbers(await slow.wait_sent(OUTBOX_SIZE + 1))[-1] == 99


async def test_nothing_is_served_while_paused_and_all_is_forgotten() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        async with rig.worker.paused():
            await rig.worker.put(link, number(1))
            await settle()
            assert rig.group.served == []
        await settle()
        await rig.worker.put(link, number(2))
        assert numbers(await link.wait_sent(1)) == [2]
        assert rig.group.served == [2]


async def test_pause_lets_the_request_at_hand_finish_and_its_reply_leave() -> None:
    async with Rig().running() as rig:
        rig.group.gate = asyncio.Event()
        link = FakeLink()
        await rig.worker.put(link, number(1))
        await rig.worker.put(link, number(2))
        await settle()
        paused = asyncio.create_task(rig.worker.paused().__aenter__())
        await settle()
        assert not paused.done()
        rig.group.gate.set()
        await paused
        assert numbers(link.sent) == [1]


async def test_pause_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smp_dfu_host.dispatch.worker.DRAIN_S", 0.01)
    async with Rig().running() as rig:
        link = FakeLink()
        link.block()
        await rig.worker.put(link, number(1))
        await settle()
        async with rig.worker.paused():
            pass
        await settle()
        assert (link.sending, rig.counters["lost"]) == (0, 1)


async def test_worker_keeps_nothing_of_peers_that_have_left() -> None:
    async with Rig().running() as rig:
        for n in range(20):
            link = FakeLink()
            rig.worker.joined(link)
            await rig.worker.put(link, number(n))
            await link.wait_sent(1)
            rig.worker.left(link)
        await settle()
        assert rig.worker._lanes == {}


async def fail_in_a_pause(rig: Rig, link: FakeLink) -> None:
    async with rig.worker.paused():
        await rig.worker.put(link, number(1))
        raise RuntimeError


async def test_worker_serves_again_after_a_pause_that_failed() -> None:
    async with Rig().running() as rig:
        link = FakeLink()
        with pytest.raises(RuntimeError):
            await fail_in_a_pause(rig, link)
        await rig.worker.put(link, number(2))
        await link.wait_sent(1)


async def test_cancelled_worker_cancels_what_it_sends() -> None:
    rig, link = Rig(), FakeLink()
    link.block()
    async with rig.running():
        await rig.worker.put(link, number(1))
        await settle()
        assert link.sending == 1
    assert link.sending == 0


STEPS = ("offer", "callback", "wait", "open", "block", "unblock", "fail", "leave", "run")
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2)), max_size=60)


@given(steps)
async def test_every_request_is_answered_or_its_link_is_lost(sequence: list[tuple[str, int]]) -> None:
    """Whatever peers do, accepted requests are answered once and in order, but for those whose replies were lost."""
    async with Rig(queue_size=6).running() as rig:
        links = [FakeLink(peer) for peer in (UDP, BLE, OTHER_BLE)]
        accepted: dict[int, list[int]] = {0: [], 1: [], 2: []}
        damaged = set[int]()
        for n, (step, index) in enumerate(sequence):
            link = links[index]
            if step in ("offer", "callback"):
                packet = number(2 * n, 2 * n + 1)
                if rig.worker.offer(link, packet) if step == "offer" else await called_back(rig, link, packet):
                    accepted[index] += [2 * n, 2 * n + 1]
            elif step == "wait":
                rig.group.gate = rig.group.gate or asyncio.Event()
            elif step == "open" and rig.group.gate is not None:
                rig.group.gate.set()
                rig.group.gate = None
            elif step == "block":
                link.block()
            elif step == "unblock":
                link.unblock()
            elif step == "fail":
                link.fail = TransportError("lost")
                damaged.add(index)
            elif step == "leave":
                rig.worker.left(link)
                damaged.add(index)
            else:
                await asyncio.sleep(0)
        for link in links:
            link.unblock()
        if rig.group.gate is not None:
            rig.group.gate.set()
            rig.group.gate = None
        await settle()
        await settle()
        await rig.worker.drained()
        for index, link in enumerate(links):
            got = numbers(link.sent)
            assert got == sorted(set(got))
            assert set(got) <= set(accepted[index])
            assert index in damaged or got == accepted[index]


async def test_link_that_left_leaves_no_garbage() -> None:
    """What refers to itself stays until all objects are looked through, which is seldom when little is made."""
    gc.collect()
    gc.disable()
    try:
        async with Rig().running() as rig:
            for peer in (UDP, BLE):
                link = FakeLink(peer, quick=peer is UDP)
                await rig.worker.put(link, number(1, 2))
                await link.wait_sent(2)
                rig.worker.left(link)
                await settle()
            assert not [kept for kept in gc.get_objects() if type(kept).__name__ == "_Lane"]
    finally:
        gc.enable()


async def test_traffic_is_counted_by_transport() -> None:
    async with Rig().running() as rig:
        links = [FakeLink(UDP), FakeLink(BLE)]
        for link in links:
            rig.worker.joined(link)
            await rig.worker.put(link, number(1, 2))
            await link.wait_sent(2)
        rig.worker.left(links[0])
        groups = rig.bench.stats.groups
        sent = sum(map(len, links[0].sent))
        assert groups["udp"] == {
            "joined": 1,
            "left": 1,
            "rx": 1,
            "rx_bytes": len(number(1, 2)),
            "tx": 2,
            "tx_bytes": sent,
        }
        assert (groups["ble"]["joined"], groups["ble"]["left"], groups["ble"]["tx"]) == (1, 0, 2)
        assert groups["inbox"] == {"waiting": 0, "most": 1, "size": 8}

"""Handlers that wait, fail and are cancelled in every way that asyncio has, and a worker that ends at any moment."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.group import Context, Group, read
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.dispatch.worker import Worker
from smp_dfu_host.wire.body import Body
from smp_dfu_host.wire.header import Header
from tests.fakes import BLE, UDP, Bench, FakeLink

FAILS = "fail", "give up"
"""What is answered by a bare `rc`, so that the rest of its packet is not served."""


async def fail() -> None:
    raise ZeroDivisionError


async def hurry() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def split() -> None:
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.Event().wait()


async def give_up() -> None:
    waiter = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiter.cancel)
    await waiter


WAYS: dict[str, Callable[[], Awaitable[object]]] = {
    "go on": lambda: asyncio.sleep(-1),
    "sleep": lambda: asyncio.sleep(0.0002),
    "thread": lambda: asyncio.to_thread(int),
    "hurry": hurry,
    "split": split,
    "fail": fail,
    "give up": give_up,
}


@dataclass(frozen=True, slots=True)
class Way(Body):
    n: int
    way: str = ""


class Ways(Group):
    id = 64
    name = "ways"
    running = 0
    ending = False

    @read(0, Way)
    async def go(self, _context: Context, request: Way) -> dict[str, int]:
        assert not self.running, "two handlers at once"
        self.running += 1
        try:
            if request.way:
                await WAYS[request.way]()
            task = asyncio.current_task()
            assert task is not None
            assert self.ending or not task.cancelling(), "a handler's own time limit reaches the others"
        finally:
            self.running -= 1
        return {"n": request.n}


def packed(number: int, ways: list[str]) -> bytes:
    packet = b""
    for n, way in enumerate(ways):
        payload = cbor2.dumps({"n": 16 * number + n, "way": way})
        packet += Header(0, 1, 0, len(payload), 64, n, 0).pack() + payload
    return packet


def answers_of(number: int, ways: list[str]) -> list[int | None]:
    """Return what is answered, None for a bare `rc`."""
    served = len(list(takewhile(lambda way: way not in FAILS, ways)))
    good: list[int | None] = [16 * number + n for n in range(served)]
    return good if served == len(ways) else [*good, None]


packets = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["", "", *WAYS]), min_size=1, max_size=4),
        st.integers(0, 1),  # the link
        st.booleans(),  # in a callback
        st.integers(0, 3),  # turns of the event loop behind it
    ),
    max_size=12,
)


class Life:
    """A worker, two links of which one sends at once, and what has to be answered."""

    def __init__(self) -> None:
        bench = Bench()
        self.group = Ways(bench.services)
        self.worker = Worker(Router([self.group], bench.hooks, bench.stats), 64, bench.stats)
        self.links = FakeLink(UDP, quick=True), FakeLink(BLE)
        self.wanted: tuple[list[int | None], list[int | None]] = ([], [])
        self.said = list[dict[str, object]]()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, said: self.said.append(said))
        self.task = asyncio.create_task(self.worker.run())

    async def play(self, sequence: list[tuple[list[str], int, bool, int]]) -> None:
        for number, (ways, index, back, turns) in enumerate(sequence):
            self.wanted[index].extend(answers_of(number, ways))
            if back:
                asyncio.get_running_loop().call_soon(self.worker.offer, self.links[index], packed(number, ways))
            else:
                assert self.worker.offer(self.links[index], packed(number, ways))
            for _ in range(turns if not back else turns + 1):
                await asyncio.sleep(0)

    async def end(self) -> None:
        self.group.ending = True
        self.task.cancel()
        done, _ = await asyncio.wait([self.task], timeout=5)
        assert done, "the worker does not end"
        assert self.task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "the worker leaves tasks behind"
        assert self.said == []


@given(packets)
async def test_each_request_is_answered_in_order_whatever_handlers_do(
    sequence: list[tuple[list[str], int, bool, int]],
) -> None:
    life = Life()
    await life.play(sequence)
    for link, wanted in zip(life.links, life.wanted, strict=True):
        await link.wait_sent(len(wanted))
        assert [cbor2.loads(reply[8:]).get("n") for reply in link.sent] == wanted
    assert not life.task.done()
    await life.end()


@given(packets, st.integers(0, 12))
async def test_worker_ends_whatever_handlers_do(sequence: list[tuple[list[str], int, bool, int]], turns: int) -> None:
    life = Life()
    await asyncio.sleep(0)
    await life.play(sequence)
    for _ in range(turns):
        await asyncio.sleep(0)
    await life.end()
    for link, wanted in zip(life.links, life.wanted, strict=True):
        assert [cbor2.loads(reply[8:]).get("n") for reply in link.sent] == list(islice(wanted, len(link.sent)))

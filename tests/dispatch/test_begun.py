"""Work that begins before its task has its turn."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.begun import Begun, begin

Work = Callable[[], Coroutine[Any, Any, None]]


class Owner:
    """A task that waits until it is told to go on with what has begun."""

    def __init__(self) -> None:
        self.begun: Begun | None = None
        self._wanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._wanted
        except asyncio.CancelledError:
            if self.begun is None:
                raise
            self.begun.cancel()
        assert self.begun is not None
        await self.begun

    async def begin(self, work: Work, *, go_on: bool = True) -> Begun | None:
        """Begin in a callback of the event loop, where no task runs; have the task go on with it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def run() -> None:
            self.begun = begin(work(), self.task)
            if self.begun is not None and go_on:
                self.go_on()
            done.set_result(None)

        asyncio.get_running_loop().call_soon(run)
        await done
        return self.begun

    def go_on(self) -> None:
        """Wake the task."""
        self._wanted.set_result(None)


@asynccontextmanager
async def owning() -> AsyncIterator[Owner]:
    owner = Owner()
    try:
        async with asyncio.timeout(5):
            yield owner
    finally:
        owner.task.cancel()
        await asyncio.wait([owner.task])


async def test_work_that_waits_for_nothing_is_done_at_once() -> None:
    seen = list[object]()

    async def work() -> None:
        seen.append(asyncio.current_task())

    async with owning() as owner:
        assert await owner.begin(work) is None
        assert seen == [owner.task]
        assert asyncio.current_task() is not owner.task


async def test_task_goes_on_where_the_work_waits() -> None:
    gate, seen = asyncio.Event(), list[object]()

    async def work() -> None:
        seen.append("begun")
        await gate.wait()
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async with owning() as owner:
        assert await owner.begin(work) is not None
        assert seen == ["begun"]
        gate.set()
        await owner.task
        assert seen == ["begun", owner.task]


async def test_what_is_waited_for_may_have_come_before_the_task() -> None:
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    async with owning() as owner:
        assert await owner.begin(work, go_on=False) is not None
        gate.set()
        await asyncio.sleep(0)
        owner.go_on()
        await owner.task


async def test_somebody_else_may_wait_for_the_same() -> None:
    shared: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    seen = list[str]()

    async def work() -> None:
        seen.append(await shared)

    async with owning() as owner:
        assert await owner.begin(work, go_on=False) is not None
        other = asyncio.create_task(work())
        await asyncio.sleep(0)
        owner.go_on()
        await asyncio.sleep(0)
        shared.set_result("told")
        await asyncio.gather(owner.task, other)
        assert seen == ["told", "told"]


async def test_work_has_one_context_and_leaves_nothing_in_others() -> None:
    variable = ContextVar("variable", default="unset")
    seen = list[str]()

    async def work() -> None:
        token = variable.set("mine")
        await asyncio.sleep(0)
        seen.append(variable.get())
        variable.reset(token)

    async with owning() as owner:
        assert await owner.begin(work) is not None
        assert variable.get() == "unset"
        await owner.task
        assert seen == ["mine"]


async def test_error_reaches_the_task() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with owning() as owner:
        assert await owner.begin(work) is not None
        with pytest.raises(ZeroDivisionError):
            await owner.task


async def test_error_before_anything_is_waited_for_reaches_who_begins() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    async with owning() as owner:
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                begin(work(), owner.task)
            except ZeroDivisionError:
                failed.set_result(str(asyncio.current_task()))

        asyncio.get_running_loop().call_soon(run)
        assert await failed == "None"


async def test_cancelling_the_task_cancels_the_work() -> None:
    seen = list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cancelled")

    async with owning() as owner:
        assert await owner.begin(work) is not None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        owner.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await owner.task
    assert seen == ["cancelled"]


@pytest.mark.parametrize("pause", [asyncio.Event().wait, lambda: asyncio.sleep(0)])
async def test_work_that_is_cancelled_before_its_task_goes_on_with_it(pause: Work) -> None:
    seen = list[str]()

    async def work() -> None:
        try:
            await pause()
        except asyncio.CancelledError:
            seen.append("cancelled")
        await asyncio.sleep(0)
        seen.append("went on")

    async with owning() as owner:
        assert await owner.begin(work, go_on=False) is not None
        owner.task.cancel()
        await owner.task
    assert seen == ["cancelled", "went on"]


@given(st.lists(st.sampled_from(["sleep", "event", "timeout"]), max_size=6))
def test_work_does_the_same_begun_or_not(steps: list[str]) -> None:
    async def perform(done: list[str]) -> None:
        for step in steps:
            if step == "sleep":
                await asyncio.sleep(0)
            elif step == "event":
                event = asyncio.Event()
                asyncio.get_running_loop().call_soon(event.set)
                await event.wait()
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await asyncio.Event().wait()
            done.append(step)

    async def life() -> None:
        done = list[str]()
        async with owning() as owner:
            if await owner.begin(lambda: perform(done)) is not None:
                await owner.task
        assert done == steps

    asyncio.run(life())

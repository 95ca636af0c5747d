import asyncio
import threading

from smp_dfu_host.groups.task_stats import PENDING, QUEUED, frugal, tasks


async def test_tasks_and_threads_are_listed_with_numbers_from_0() -> None:
    table = tasks()
    assert [entry.tid for entry in table.values()] == list(range(len(table)))
    assert table["MainThread"].stksiz
    assert table["MainThread"].stkuse
    assert table["MainThread"].runtime


async def test_what_runs_is_queued_and_what_waits_is_pending() -> None:
    release = asyncio.Event()
    waiting = [asyncio.create_task(release.wait(), name="a name of more than 18 characters") for _ in range(3)]
    await asyncio.sleep(0)
    table = tasks()
    release.set()
    await asyncio.gather(*waiting)
    names = ("a name of more tha", "a name of more t#2", "a name of more t#3")
    assert [table[name].state for name in names] == [PENDING] * 3
    current = asyncio.current_task()
    assert current is not None
    assert table[current.get_name()[:18]].state == QUEUED


async def test_another_thread_waits() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="waiting")
    thread.start()
    entry = tasks()["waiting"]
    release.set()
    thread.join()
    assert (entry.state, entry.stkuse) == (PENDING, 0)


async def test_frugal_leaves_stacks_out() -> None:
    assert all((entry.stksiz, entry.stkuse, entry.runtime) == (None, None, None) for entry in frugal(tasks()).values())

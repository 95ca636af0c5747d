from pathlib import Path

import pytest

from smp_dfu_host.dispatch.hooks import DfuPending, DfuStopped, Event
from smp_dfu_host.dispatch.stats import count_uploads
from smp_dfu_host.groups.stat_mgmt import StatisticsGroup
from tests.fakes import UDP, at_once
from tests.groups.bench import READ, WRITE, GroupBench

MISSING = {"err": {"group": 2, "rc": 3}}


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    made = GroupBench(StatisticsGroup, tmp_path)
    count_uploads(made.parts.hooks, made.parts.stats)
    made.parts.stats.gauge("here", lambda: {"level": 7})
    return made


async def test_what_is_counted_is_listed_and_told(bench: GroupBench) -> None:
    assert await bench.ask(READ, 1) == {"stat_list": ["smp", "upload", "here"]}
    assert await bench.ask(READ, 0, {"name": "here"}) == {"name": "here", "fields": {"level": 7}}
    at_once(bench.parts.hooks.notify(Event.IMG_DFU_PENDING, DfuPending(UDP, 0, 1, 5000)))
    at_once(bench.parts.hooks.notify(Event.IMG_DFU_STOPPED, DfuStopped(UDP, "no")))
    fields = (await bench.ask(READ, 0, {"name": "upload"}))["fields"]
    assert fields == {"started": 0, "chunks": 0, "done": 1, "stopped": 1, "bytes": 5000, "confirmed": 0}


async def test_every_listed_name_can_be_read_whatever_the_link_takes(bench: GroupBench) -> None:
    """On a link of any size, and however large the values have become."""
    for counters in ("smp", "upload"):
        for field in bench.parts.stats.group(counters):
            bench.parts.stats.group(counters)[field] = 2**64 - 100
    seen = set()
    for bench.link.buf_size in range(96, 400, 8):
        for name in (await bench.ask(READ, 1))["stat_list"]:
            seen.add(name)
            assert (await bench.ask(READ, 0, {"name": name}))["name"] == name
    assert seen == {"smp", "upload", "here"}


async def test_what_does_not_fit_is_left_out(bench: GroupBench) -> None:
    counters = bench.parts.stats.group("smp")
    bench.link.buf_size = 96
    assert await bench.ask(READ, 1) == {"stat_list": ["here"]}
    counters |= dict.fromkeys(counters, 2**63)
    assert await bench.ask(READ, 0, {"name": "smp"}) == {"rc": 7}


@pytest.mark.parametrize("name", ["nope", "her", "Here", "s" * 31])
async def test_an_unknown_name_is_refused(bench: GroupBench, name: str) -> None:
    assert await bench.ask(READ, 0, {"name": name}) == MISSING
    assert await bench.ask(READ, 0, {"name": name}, version=0) == {"rc": 5}


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "s" * 32}, {"name": 1}, {"name": b"here"}, [], b"\xff"])
async def test_what_is_no_name_is_invalid(bench: GroupBench, body: object) -> None:
    assert await bench.ask(READ, 0, body) == {"rc": 3}


@pytest.mark.parametrize(("op", "command"), [(WRITE, 0), (WRITE, 1), (READ, 2)])
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command) == {"rc": 8}

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest

from smp_dfu_host.dispatch.hooks import Event, Notice
from smp_dfu_host.errors import GroupError, MgmtError
from smp_dfu_host.groups.os_mgmt import OsGroup
from tests.fakes import BLE, UDP, answers
from tests.groups.bench import READ, WRITE, GroupBench
from tests.store.builders import image


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    return GroupBench(OsGroup, tmp_path)


@pytest.mark.parametrize("op", [READ, WRITE])
@pytest.mark.parametrize(
    ("request_", "reply"), [({"d": "héllo"}, "héllo"), ({"d": ""}, ""), ({}, ""), ({"d": "x", "y": [1]}, "x")]
)
async def test_echo_sends_the_text_back(bench: GroupBench, op: int, request_: dict[str, Any], reply: str) -> None:
    assert await bench.ask(op, 0, request_) == {"r": reply}


async def test_echo_of_invalid_utf_8_sends_the_same_bytes(bench: GroupBench) -> None:
    request = bytes.fromhex("0800000600000700 a1616462c328")
    (reply,) = await answers(bench.router, bench.link, request)
    assert bytes.fromhex("62c328") in reply


@pytest.mark.parametrize("request_", [{"d": 5}, {"d": None}, b"\x01", b""])
async def test_echo_of_no_text_is_refused(bench: GroupBench, request_: object) -> None:
    assert await bench.ask(READ, 0, request_) == {"rc": 3}


@pytest.mark.parametrize(
    ("op", "command"), [(READ, 1), (WRITE, 1), (WRITE, 3), (WRITE, 2), (READ, 5), (WRITE, 6), (READ, 99)]
)
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command) == {"rc": 8}


async def test_task_statistics_have_zephyrs_shape(bench: GroupBench) -> None:
    tasks = (await bench.ask(READ, 2, b"\xff garbage"))["tasks"]
    assert list(tasks["MainThread"]) == ["prio", "tid", "state", "stksiz", "stkuse", "runtime"]


async def test_task_statistics_leave_stacks_out_when_they_do_not_fit(bench: GroupBench) -> None:
    full = await bench.ask(READ, 2)
    bench.link.buf_size = len(cbor2.dumps(full, indefinite_containers=True))  # no room for the header
    tasks = (await bench.ask(READ, 2))["tasks"]
    assert list(tasks["MainThread"]) == ["prio", "tid", "state"]
    bench.link.buf_size = 20
    assert await bench.ask(READ, 2) == {"rc": 7}


async def test_the_time_is_the_hosts_until_it_is_set(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]

    class Clocked(OsGroup):
        def __init__(self, services: Any) -> None:
            super().__init__(services, lambda: now[0])

    bench = GroupBench(Clocked, tmp_path)
    assert await bench.ask(READ, 4) == {"datetime": "2026-01-02T03:04:05"}
    assert await bench.ask(WRITE, 4, {"datetime": "2030-12-31T23:59:58+01:00"}) == {}
    now[0] = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert await bench.ask(READ, 4) == {"datetime": "2030-12-31T23:59:59"}
    assert bench.told() == ["OS_DATETIME_GET", "OS_DATETIME_SET", "OS_DATETIME_GET"]


async def test_milliseconds_are_told_where_configured(tmp_path: Path) -> None:
    class Clocked(OsGroup):
        def __init__(self, services: Any) -> None:
            super().__init__(services, lambda: datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC))

    bench = GroupBench(Clocked, tmp_path, os={"datetime_ms": True})
    assert await bench.ask(READ, 4) == {"datetime": "2026-01-02T03:04:05.6"}
    assert await bench.ask(WRITE, 4, {"datetime": "2030-01-01T00:00:00.250"}) == {}
    assert await bench.ask(READ, 4) == {"datetime": "2030-01-01T00:00:00.250"}


async def test_the_hosts_clock_is_set_only_where_configured(tmp_path: Path) -> None:
    clock: list[float] = []

    class Clocked(OsGroup):
        def __init__(self, services: Any) -> None:
            super().__init__(services, set_clock=clock.append)

    for how, expected in (("offset", []), ("host", [1.0])):
        bench = GroupBench(Clocked, tmp_path, os={"datetime": how})
        assert await bench.ask(WRITE, 4, {"datetime": "1970-01-01T00:00:01"}) == {}
        assert clock == expected


async def test_a_clock_that_may_not_be_set_fails(tmp_path: Path) -> None:
    def refuse(_moment: float) -> None:
        raise PermissionError(1, "Operation not permitted")

    class Clocked(OsGroup):
        def __init__(self, services: Any) -> None:
            super().__init__(services, set_clock=refuse)

    bench = GroupBench(Clocked, tmp_path, os={"datetime": "host"})
    assert await bench.ask(WRITE, 4, {"datetime": "1970-01-01T00:00:01"}) == {"err": {"group": 0, "rc": 5}}


async def test_memory_pools_are_the_processes(bench: GroupBench) -> None:
    reply = await bench.ask(READ, 3, b"\xff garbage")
    assert list(reply) == ["ram"]
    pool = reply["ram"]
    assert list(pool) == ["blksiz", "nblks", "nfree", "min"]
    assert 0 < pool["min"] <= pool["nfree"] < pool["nblks"]
    bench.parts.stats.gauge("inbox", lambda: {"waiting": 1, "most": 3, "size": 64})
    assert (await bench.ask(READ, 3))["packets"] == {"blksiz": 2475, "nblks": 64, "nfree": 63, "min": 61}


async def test_a_text_that_is_no_time_is_refused(bench: GroupBench) -> None:
    for body in ({}, {"datetime": "tomorrow"}, {"datetime": 5}):
        assert await bench.ask(WRITE, 4, body) == {"rc": 3}


@pytest.mark.parametrize("text", ["2023-02-29T00:00:00", "10000-01-01T00:00:00"])
async def test_a_time_that_no_clock_can_have_fails(bench: GroupBench, text: str) -> None:
    assert await bench.ask(WRITE, 4, {"datetime": text}) == {"err": {"group": 0, "rc": 5}}
    assert await bench.ask(WRITE, 4, {"datetime": text}, version=0) == {"rc": 1}


@pytest.mark.parametrize(
    ("request_", "force", "boot_mode"),
    [
        ({}, False, 0),
        ({"force": True, "boot_mode": 1}, True, 1),
        ({"force": 1}, False, 0),
        (b"\xff\xff", False, 0),
        (b"", False, 0),
    ],
)
async def test_reset_is_answered_and_asked_for(
    bench: GroupBench, request_: object, force: bool, boot_mode: int
) -> None:
    assert await bench.ask(WRITE, 5, request_) == {}
    (reset,) = bench.parts.resets
    assert (reset.force, reset.boot_mode, reset.peer) == (force, boot_mode, UDP)
    assert bench.told() == ["OS_RESET"]


async def test_a_hook_can_refuse_a_reset(bench: GroupBench) -> None:
    def refuse(_notice: Notice) -> None:
        raise GroupError(0, 300)

    bench.parts.hooks.register(Event.OS_RESET, refuse)
    assert await bench.ask(WRITE, 5) == {"err": {"group": 0, "rc": 300}}
    assert bench.parts.resets == []


async def test_params_are_the_links(bench: GroupBench) -> None:
    bench.link.buf_size = 384
    assert await bench.ask(READ, 6, b"garbage") == {"buf_size": 384, "buf_count": 4}


async def test_params_over_udp_tell_the_longest_datagram_that_is_taken(bench: GroupBench) -> None:
    assert (await bench.ask(READ, 6))["buf_size"] == 1500
    bench.link.peer = BLE
    assert (await bench.ask(READ, 6))["buf_size"] == 2475


@pytest.mark.parametrize("body", [{}, {"format": ""}, {"format": "s"}, {"format": "sss"}, {"fmt": "a"}])
async def test_info_tells_the_kernel_name_by_default(bench: GroupBench, body: dict[str, str]) -> None:
    assert await bench.ask(READ, 7, body) == {"output": "SMP-DFU-Host"}


async def test_info_keeps_its_order(bench: GroupBench) -> None:
    assert await bench.ask(READ, 7, {"format": "vsn"}) == {"output": "SMP-DFU-Host SMP DFU Host 0.1.0"}
    everything = await bench.ask(READ, 7, {"format": "a"})
    assert everything == await bench.ask(READ, 7, {"format": "oipmbvrns"})
    assert everything["output"].endswith(" Linux")


@pytest.mark.parametrize("letters", ["x", "sx", "S", "s ", "ax"])
async def test_info_with_an_unknown_letter_is_refused(bench: GroupBench, letters: str) -> None:
    assert await bench.ask(READ, 7, {"format": letters}) == {"err": {"group": 0, "rc": 2}}
    assert await bench.ask(READ, 7, {"format": letters}, version=0) == {"rc": 3}


async def test_hooks_add_letters_and_texts_to_info(bench: GroupBench) -> None:
    def add(notice: Notice) -> None:
        if notice.event is Event.OS_INFO_CHECK:
            notice.data.letters.add("x")
        elif "x" in notice.data.format:
            notice.data.output.append("extra")

    bench.parts.hooks.register(Event.OS_INFO_CHECK | Event.OS_INFO_APPEND, add)
    assert await bench.ask(READ, 7, {"format": "xs"}) == {"output": "SMP-DFU-Host extra"}


async def test_a_hook_can_refuse_info_only_at_its_end(bench: GroupBench) -> None:
    def refuse(_notice: Notice) -> None:
        raise MgmtError(300)

    bench.parts.hooks.register(Event.OS_INFO_CHECK, refuse)
    assert "output" in await bench.ask(READ, 7)
    bench.parts.hooks.register(Event.OS_INFO_APPEND, refuse)
    assert await bench.ask(READ, 7) == {"rc": 300}


async def test_info_that_is_too_long_is_refused(bench: GroupBench) -> None:
    bench.parts.hooks.register(Event.OS_INFO_APPEND, lambda notice: notice.data.output.append("x" * 256))
    assert await bench.ask(READ, 7) == {"rc": 7}


async def test_the_boot_loader_is_told(bench: GroupBench) -> None:
    assert await bench.ask(READ, 8) == {"bootloader": "MCUboot"}
    assert await bench.ask(READ, 8, {"query": "mode"}) == {"mode": 3}
    assert await bench.ask(READ, 8, {"query": "active_b0_slot"}) == {"err": {"group": 0, "rc": 3}}
    assert await bench.ask(READ, 8, {"query": ""}, version=0) == {"rc": 5}


@pytest.mark.parametrize(
    ("mode", "number"),
    [
        ("single-slot", 0),
        ("swap-using-scratch", 1),
        ("overwrite-only", 2),
        ("swap-using-move", 3),
        ("direct-xip", 4),
        ("direct-xip-with-revert", 5),
        ("ram-load", 6),
        ("ram-load-with-revert", 6),
        ("firmware-loader", 7),
        ("single-slot-ram-load", 8),
        ("swap-using-offset", 9),
    ],
)
async def test_every_mode_has_its_number(tmp_path: Path, mode: str, number: int) -> None:
    bench = GroupBench(OsGroup, tmp_path, bootloader={"mode": mode})
    assert await bench.ask(READ, 8, {"query": "mode"}) == {"mode": number}


async def test_downgrade_prevention_is_told(tmp_path: Path) -> None:
    bench = GroupBench(OsGroup, tmp_path, bootloader={"downgrade": "by-counter"})
    assert await bench.ask(READ, 8, {"query": "mode"}) == {"mode": 3, "no-downgrade": True}


async def test_the_running_slot_is_told_where_either_may_run(tmp_path: Path) -> None:
    bench = GroupBench(OsGroup, tmp_path, bootloader={"mode": "direct-xip"})
    assert await bench.ask(READ, 8, {"query": "active_b0_slot"}) == {"active": 0}
    bench.store.load(1, image((2, 0, 0)))
    bench.store.boot()
    assert await bench.ask(READ, 8, {"query": "active_b0_slot"}) == {"active": 1}


async def test_a_hook_answers_boot_loader_queries(bench: GroupBench) -> None:
    def answer(notice: Notice) -> None:
        if notice.data.query == "secret":
            notice.data.fields["secret"] = 42

    bench.parts.hooks.register(Event.OS_BOOTLOADER_INFO, answer)
    assert await bench.ask(READ, 8, {"query": "secret"}) == {"secret": 42}

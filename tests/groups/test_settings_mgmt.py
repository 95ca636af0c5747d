import json
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.dispatch.hooks import Event, Notice, SettingsAccess, SettingsUse
from smp_dfu_host.errors import GroupError, MgmtError
from smp_dfu_host.groups.settings_mgmt import SettingsGroup
from tests.groups.bench import READ, WRITE, GroupBench

SETTINGS = {
    "roots": ["app", "bt/mesh"],
    "read_only": ["app/serial"],
    "write_only": ["app/secret"],
    "entries": 4,
}


def refused(rc: int) -> dict[str, Any]:
    return {"err": {"group": 3, "rc": rc}}


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    return GroupBench(SettingsGroup, tmp_path, settings=SETTINGS)


async def set_value(bench: GroupBench, name: str, value: bytes) -> None:
    assert await bench.ask(WRITE, 0, {"name": name, "val": value}) == {}


async def test_a_value_is_used_at_once_and_kept_when_saved(bench: GroupBench) -> None:
    await set_value(bench, "app/a", b"\x00\x01")
    assert await bench.ask(READ, 0, {"name": "app/a"}) == {"val": b"\x00\x01"}
    assert await bench.ask(WRITE, 2) == {}
    bench.restart()
    assert await bench.ask(READ, 0, {"name": "app/a"}) == refused(3)
    await set_value(bench, "app/a", b"1")
    await set_value(bench, "bt/mesh/a", b"2")
    assert await bench.ask(WRITE, 3, {"name": "app"}) == {}
    bench.restart()
    assert await bench.ask(READ, 0, {"name": "app/a"}) == {"val": b"1"}
    assert await bench.ask(READ, 0, {"name": "bt/mesh/a"}) == refused(3)


async def test_load_takes_back_what_was_not_saved(bench: GroupBench) -> None:
    await set_value(bench, "app/a", b"1")
    assert await bench.ask(WRITE, 3) == {}
    await set_value(bench, "app/a", b"2")
    assert await bench.ask(READ, 3, b"garbage") == {}
    assert await bench.ask(READ, 0, {"name": "app/a"}) == {"val": b"1"}


async def test_a_deleted_value_is_gone_for_good(bench: GroupBench) -> None:
    await set_value(bench, "app/a", b"1")
    assert await bench.ask(WRITE, 3) == {}
    assert await bench.ask(WRITE, 1, {"name": "app/a"}) == {}
    assert await bench.ask(WRITE, 1, {"name": "app/a"}) == refused(3)
    assert await bench.ask(READ, 3) == {}
    assert await bench.ask(READ, 0, {"name": "app/a"}) == refused(3)


async def test_a_value_without_bytes_is_a_value(bench: GroupBench) -> None:
    assert await bench.ask(WRITE, 0, {"name": "app/a"}) == {}
    assert await bench.ask(READ, 0, {"name": "app/a"}) == {"val": b""}


@pytest.mark.parametrize(
    ("max_size", "reply"),
    [
        (None, {"val": b"v" * 32}),
        (0, {"val": b""}),
        (5, {"val": b"v" * 5}),
        (32, {"val": b"v" * 32}),
        (33, {"val": b"v" * 32, "max_size": 32}),
        (4294967295, {"val": b"v" * 32, "max_size": 32}),
        (4294967296, {"rc": 3}),
        (-1, {"rc": 3}),
    ],
)
async def test_values_are_cut_to_what_is_wanted(bench: GroupBench, max_size: int | None, reply: dict[str, Any]) -> None:
    await set_value(bench, "app/a", b"v" * 32)
    wanted = {} if max_size is None else {"max_size": max_size}
    assert await bench.ask(READ, 0, {"name": "app/a", **wanted}) == reply


async def test_a_value_that_is_too_long_is_refused(bench: GroupBench) -> None:
    assert await bench.ask(WRITE, 0, {"name": "app/a", "val": b"v" * 33}) == refused(9)
    assert await bench.ask(READ, 0, {"name": "app/a"}) == refused(3)


NAMED = [(READ, 0), (WRITE, 0), (WRITE, 1), (WRITE, 3)]


@pytest.mark.parametrize(("op", "command"), NAMED)
async def test_names_that_are_none_are_refused(bench: GroupBench, op: int, command: int) -> None:
    for name in ("", 5, b"app", None):
        assert await bench.ask(op, command, {"name": name}) == {"rc": 3}
    for name in ("a" * 32, "ü" * 16):
        assert await bench.ask(op, command, {"name": name}) == refused(2)
        assert await bench.ask(op, command, {"name": name}, version=0) == {"rc": 3}


@pytest.mark.parametrize(("op", "command"), NAMED[:3])
async def test_a_name_must_be_given(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command, {}) == {"rc": 3}


@pytest.mark.parametrize("name", ["other/a", "bt", "bt/meshed", "ap", "/app/a", "app2/x", "../app"])
async def test_names_outside_of_the_roots_are_not_there(bench: GroupBench, name: str) -> None:
    for op in (READ, WRITE):
        assert await bench.ask(op, 0, {"name": name}) == refused(5)
        assert await bench.ask(op, 0, {"name": name}, version=0) == {"rc": 1}
    assert await bench.ask(WRITE, 1, {"name": name}) == refused(3)


async def test_a_root_is_no_setting(bench: GroupBench) -> None:
    assert await bench.ask(READ, 0, {"name": "app"}) == refused(3)
    assert await bench.ask(WRITE, 0, {"name": "app", "val": b"1"}) == refused(3)
    assert await bench.ask(READ, 0, {"name": "app"}, version=0) == {"rc": 5}


async def test_the_configured_policy_holds(bench: GroupBench) -> None:
    assert await bench.ask(WRITE, 0, {"name": "app/serial/a"}) == refused(6)
    assert await bench.ask(WRITE, 1, {"name": "app/serial"}) == refused(7)
    assert await bench.ask(READ, 0, {"name": "app/serial"}) == refused(3)
    await set_value(bench, "app/secret/key", b"1")
    assert await bench.ask(READ, 0, {"name": "app/secret/key"}) == refused(4)
    assert await bench.ask(READ, 0, {"name": "app/secret/key"}, version=0) == {"rc": 5}


async def test_there_are_only_so_many_settings(bench: GroupBench) -> None:
    for number in range(4):
        await set_value(bench, f"app/{number}", b"1")
    assert await bench.ask(WRITE, 0, {"name": "app/4", "val": b"1"}) == refused(1)
    await set_value(bench, "app/3", b"2")


async def test_without_storage_nothing_is_saved(tmp_path: Path) -> None:
    bench = GroupBench(SettingsGroup, tmp_path, settings={"storage": False})
    await set_value(bench, "app/a", b"1")
    assert await bench.ask(WRITE, 3) == refused(8)
    assert await bench.ask(WRITE, 3, version=0) == {"rc": 1}
    assert not (tmp_path / "store" / "settings.json").exists()


async def test_hooks_see_each_use_and_can_refuse_it(bench: GroupBench) -> None:
    seen: list[SettingsAccess] = []

    def refuse(notice: Notice) -> None:
        seen.append(notice.data)
        raise GroupError(3, 77) if notice.data.use is SettingsUse.LOAD else MgmtError(300)

    bench.parts.hooks.register(Event.SETTINGS_ACCESS, refuse)
    assert await bench.ask(READ, 0, {"name": "app/a"}) == {"rc": 300}
    assert await bench.ask(WRITE, 0, {"name": "app/a", "val": b"v"}) == {"rc": 300}
    for op, command in ((WRITE, 1), (WRITE, 2), (WRITE, 3)):
        assert await bench.ask(op, command, {"name": "app/a"}) == {"rc": 300}
    assert await bench.ask(READ, 3) == refused(77)
    assert [(each.use.name, each.name, each.value) for each in seen] == [
        ("READ", "app/a", b""),
        ("WRITE", "app/a", b"v"),
        ("DELETE", "app/a", b""),
        ("COMMIT", "", b""),
        ("SAVE", "app/a", b""),
        ("LOAD", "", b""),
    ]


async def test_a_hook_redirects_a_name_within_the_policy(bench: GroupBench) -> None:
    def redirect(notice: Notice) -> None:
        notice.data.name = {"app/a": "app/b", "app/c": "app/serial"}.get(notice.data.name, notice.data.name)

    bench.parts.hooks.register(Event.SETTINGS_ACCESS, redirect)
    await set_value(bench, "app/a", b"1")
    assert await bench.ask(READ, 0, {"name": "app/b"}) == {"val": b"1"}
    assert await bench.ask(WRITE, 0, {"name": "app/c"}) == refused(6)


async def test_a_storage_that_fails_is_answered(bench: GroupBench, tmp_path: Path) -> None:
    path = tmp_path / "store" / "settings.json"
    await set_value(bench, "app/a", b"1")
    assert await bench.ask(WRITE, 3) == {}
    path.write_text("damaged")
    for op, command in ((WRITE, 1), (READ, 3), (WRITE, 3)):
        assert await bench.ask(op, command, {"name": "app/a"}) == refused(1)
    bench.restart()
    assert await bench.ask(READ, 0, {"name": "app/a"}) == {"val": b"1"}


async def test_the_storage_is_readable_by_people(bench: GroupBench, tmp_path: Path) -> None:
    await set_value(bench, "app/a", b"\x0a")
    await bench.ask(WRITE, 3)
    table = json.loads((tmp_path / "store" / "settings.json").read_text())
    assert table == {"format": 1, "values": {"app/a": "0a"}}


@pytest.mark.parametrize(("op", "command"), [(READ, 1), (READ, 2), (READ, 4)])
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command) == {"rc": 8}

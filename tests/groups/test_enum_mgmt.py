from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.dispatch.group import Context, Group, write
from smp_dfu_host.dispatch.hooks import Event, Notice
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.errors import GroupError, MgmtError
from smp_dfu_host.groups.enum_mgmt import EnumerationGroup
from smp_dfu_host.groups.os_mgmt import OsGroup
from smp_dfu_host.wire.body import Body
from tests.groups.bench import READ, WRITE, GroupBench


class Custom(Group):
    id = 64
    name = "custom"

    @write(9)
    async def act(self, _context: Context) -> Body:
        return Body()


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    made = GroupBench(EnumerationGroup, tmp_path)
    groups = [Custom(made.parts.services), made.group, OsGroup(made.parts.services)]
    made.router = Router(groups, made.parts.hooks, made.parts.stats)
    return made


CUSTOM = {"group": 64, "name": "custom", "handlers": 10}
ENUM = {"group": 10, "name": "enum mgmt", "handlers": 4}
OS = {"group": 0, "name": "os mgmt", "handlers": 9}


async def test_groups_are_counted_and_listed_in_order(bench: GroupBench) -> None:
    assert await bench.ask(READ, 0, b"garbage") == {"count": 3}
    assert await bench.ask(READ, 1, b"garbage") == {"groups": [64, 10, 0]}


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ({}, {"group": 64}),
        ({"index": 1}, {"group": 10}),
        ({"index": 2}, {"group": 0, "end": True}),
        ({"index": 3}, {"err": {"group": 10, "rc": 4}}),
        ({"index": 65535}, {"err": {"group": 10, "rc": 4}}),
        ({"index": 65536}, {"rc": 3}),
        ({"index": -1}, {"rc": 3}),
        ({"index": None}, {"rc": 3}),
    ],
)
async def test_single_groups_are_told(bench: GroupBench, body: dict[str, Any], reply: dict[str, Any]) -> None:
    assert await bench.ask(READ, 2, body) == reply


@pytest.mark.parametrize(
    ("body", "groups"),
    [
        ({}, [CUSTOM, ENUM, OS]),
        ({"groups": []}, [CUSTOM, ENUM, OS]),
        ({"groups": [0]}, [OS]),
        ({"groups": [0, 64, 0]}, [CUSTOM, OS]),
        ({"groups": [77]}, []),
        ({"groups": [65536]}, []),
        ({"groups": list(range(16))}, [ENUM, OS]),
    ],
)
async def test_details_are_told(bench: GroupBench, body: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    assert await bench.ask(READ, 3, body) == {"groups": groups}


@pytest.mark.parametrize("groups", [["a"], 5, [-1], None, [4294967296]])
async def test_what_is_no_list_of_groups_is_invalid(bench: GroupBench, groups: object) -> None:
    assert await bench.ask(READ, 3, {"groups": groups}) == {"rc": 3}


async def test_too_many_groups_are_refused(bench: GroupBench) -> None:
    assert await bench.ask(READ, 3, {"groups": list(range(17))}) == {"err": {"group": 10, "rc": 2}}
    assert await bench.ask(READ, 3, {"groups": list(range(17))}, version=0) == {"rc": 3}


async def test_details_that_do_not_fit_are_answered_as_zephyr_does(bench: GroupBench) -> None:
    bench.link.buf_size = 96
    assert await bench.ask(READ, 3) == {"rc": 9}


async def test_hooks_add_to_details_and_refuse_them(bench: GroupBench) -> None:
    def add(notice: Notice) -> None:
        if notice.data.group == 64:
            notice.data.fields["vendor"] = "us"

    bench.parts.hooks.register(Event.ENUM_DETAILS, add)
    assert await bench.ask(READ, 3, {"groups": [64]}) == {"groups": [CUSTOM | {"vendor": "us"}]}

    def refuse(notice: Notice) -> None:
        raise GroupError(64, 1) if notice.data.group else MgmtError(300)

    bench.parts.hooks.register(Event.ENUM_DETAILS, refuse)
    assert await bench.ask(READ, 3, {"groups": [64]}) == {"err": {"group": 64, "rc": 1}}
    assert await bench.ask(READ, 3, {"groups": [0]}) == {"rc": 300}


@pytest.mark.parametrize(("op", "command"), [(WRITE, 0), (READ, 4)])
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command) == {"rc": 8}

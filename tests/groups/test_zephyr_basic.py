from pathlib import Path

import pytest

from smp_dfu_host.groups.zephyr_basic import ZephyrBasicGroup
from tests.groups.bench import READ, WRITE, GroupBench


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    return GroupBench(ZephyrBasicGroup, tmp_path)


@pytest.mark.parametrize("body", [{}, {"x": 1}, [], b"\xff garbage"])
async def test_the_storage_is_erased(bench: GroupBench, body: object) -> None:
    settings = bench.parts.settings
    settings.set("app/a", b"1")
    settings.save()
    assert await bench.ask(WRITE, 0, body) == {}
    assert settings.get("app/a") == b"1"
    settings.reset()
    assert settings.get("app/a") is None


async def test_a_damaged_storage_can_be_erased(bench: GroupBench, tmp_path: Path) -> None:
    (tmp_path / "store" / "settings.json").write_text("damaged")
    assert await bench.ask(WRITE, 0) == {}
    bench.parts.settings.reset()


async def test_a_storage_that_cannot_be_erased_is_answered(bench: GroupBench, tmp_path: Path) -> None:
    bench.parts.settings.set("app/a", b"1")
    bench.parts.settings.save()
    (tmp_path / "store" / "settings.json.new").mkdir()
    assert await bench.ask(WRITE, 0) == {"err": {"group": 63, "rc": 4}}
    assert await bench.ask(WRITE, 0, version=0) == {"rc": 1}


@pytest.mark.parametrize(("op", "command"), [(READ, 0), (WRITE, 1)])
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command) == {"rc": 8}

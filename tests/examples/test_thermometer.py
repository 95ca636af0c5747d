"""The README's example of a group of one's own is this file's neighbour, and it works."""

from pathlib import Path

import pytest

from smp_dfu_host import plugins
from smp_dfu_host.config import parse
from smp_dfu_host.server import served_kinds
from tests.examples.thermometer import ThermometerGroup
from tests.groups.bench import READ, WRITE, GroupBench

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_this_file() -> None:
    code = Path(__file__).with_name("thermometer.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text()
    assert code.count("\n") < 40


async def test_it_answers(tmp_path: Path) -> None:
    bench = GroupBench(ThermometerGroup, tmp_path)
    assert await bench.ask(READ, 0) == {"millidegrees": 21_500}
    assert bench.parts.stats.groups["thermometer"] == {"reads": 1}
    assert await bench.ask(WRITE, 1, {"limit": -40_000}) == {}
    assert await bench.ask(WRITE, 1, {"limit": 125_001}) == {"err": {"group": 64, "rc": 1}}
    assert await bench.ask(WRITE, 1, {"limit": 125_001}, version=0) == {"rc": 3}
    assert await bench.ask(WRITE, 1, {}) == {"rc": 3}


def test_it_comes_in_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "thermometer-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thermometer\nVersion: 1\n")
    line = 'thermometer = "tests.examples.thermometer:ThermometerGroup"'
    assert f'[project.entry-points."smp_dfu_host.groups"]\n{line}' in (ROOT / "README.md").read_text()
    (info / "entry_points.txt").write_text(f"[{plugins.GROUPS}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ThermometerGroup in served_kinds(parse({}, tmp_path))

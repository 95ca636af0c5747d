"""The README's example of hooks of one's own is this file's neighbour, and it works."""

import logging
import time
from pathlib import Path

import pytest

from smp_dfu_host import plugins
from smp_dfu_host.dispatch.hooks import DfuPending, Event
from smp_dfu_host.errors import PluginError
from smp_dfu_host.groups.os_mgmt import OsGroup
from smp_dfu_host.server import register_hooks
from tests.examples.office_hours import OfficeHours
from tests.fakes import UDP
from tests.groups.bench import WRITE, GroupBench

ROOT = Path(__file__).parents[2]


def installed(folder: Path, target: str) -> None:
    info = folder / "office-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: office\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{plugins.HOOKS}]\noffice_hours = {target}\n")


def test_the_readme_shows_this_file() -> None:
    code = Path(__file__).with_name("office_hours.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text()
    assert code.count("\n") < 40


@pytest.mark.parametrize(("hour", "answer"), [(7, {"rc": 10}), (8, {}), (17, {}), (18, {"rc": 10})])
async def test_it_comes_in_by_its_entry_point_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hour: int, answer: dict[str, int]
) -> None:
    target = "tests.examples.office_hours:OfficeHours"
    text = f'[project.entry-points."smp_dfu_host.hooks"]\noffice_hours = "{target}"'
    assert text in (ROOT / "README.md").read_text()
    installed(tmp_path, target)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(time, "localtime", lambda: time.struct_time((2025, 1, 1, hour, 0, 0, 2, 1, 0)))
    bench = GroupBench(OsGroup, tmp_path)
    register_hooks(bench.parts.services)
    assert await bench.ask(WRITE, 5) == answer
    assert len(bench.parts.resets) == (not answer)


async def test_it_tells_of_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = GroupBench(OsGroup, tmp_path)
    OfficeHours(bench.parts.services)
    with caplog.at_level(logging.INFO, "tests.examples.office_hours"):
        await bench.parts.hooks.notify(Event.IMG_DFU_PENDING, DfuPending(UDP, 0, 0, 100))
    assert caplog.messages == ["udp 127.0.0.1:50123: image 0.0.0 is there"]


def test_one_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "tests.examples.office_hours:log")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"entry point office_hours = .* must be a class or a function"):
        register_hooks(GroupBench(OsGroup, tmp_path).parts.services)
    (tmp_path / "office-1.dist-info" / "entry_points.txt").write_text(f"[{plugins.HOOKS}]\noffice_hours = time:sleep\n")
    with pytest.raises(PluginError, match="entry point office_hours: TypeError"):
        register_hooks(GroupBench(OsGroup, tmp_path).parts.services)

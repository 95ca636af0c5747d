"""Groups come in by entry points, ours too."""

import sys
from pathlib import Path

import pytest

from smp_dfu_host import plugins
from smp_dfu_host.errors import PluginError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose packages are installed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, target: str) -> None:
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[a.kind]\n{name} = {target}\n")


def test_own_groups_are_found() -> None:
    assert {"os_mgmt", "img_mgmt"} <= plugins.load(plugins.GROUPS).keys()


def test_kind_that_nobody_announces_is_empty() -> None:
    assert plugins.load("nobody.announces.this") == {}


def test_class_of_a_stranger_is_loaded(installed: Path) -> None:
    (installed / "stranger.py").write_text("class Thing: pass\n")
    install(installed, "stranger", "stranger:Thing")
    assert [kind.__name__ for kind in plugins.load("a.kind").values()] == ["Thing"]
    sys.modules.pop("stranger")


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        ("", "broken_a:Missing", "entry point broken_a = broken_a:Missing: AttributeError"),
        ("1 / 0", "broken_b:Thing", "entry point broken_b = broken_b:Thing: ZeroDivisionError"),
        ("thing = 5", "broken_c:thing", "entry point broken_c = broken_c:thing: is 5, must be a class or a function"),
    ],
)
def test_entry_point_that_cannot_be_used_is_named(installed: Path, code: str, target: str, message: str) -> None:
    name = target.partition(":")[0]
    (installed / f"{name}.py").write_text(code)
    install(installed, name, target)
    with pytest.raises(PluginError, match=message):
        plugins.load("a.kind")
    sys.modules.pop(name, None)

import pytest

from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import PluginError


def test_counters_begin_at_0_and_count() -> None:
    stats = Statistics()
    counters = stats.group("smp", "requests", "replies")
    counters["requests"] += 2
    assert stats.groups == {"smp": {"requests": 2, "replies": 0}}


def test_group_is_made_once_and_gets_further_fields() -> None:
    stats = Statistics()
    stats.group("b", "x")["x"] += 1
    stats.group("a", "y")
    assert stats.group("b", "x", "z") == {"x": 1, "z": 0}
    assert list(stats.groups) == ["b", "a"]


def test_gauges_are_read_when_they_are_asked_for() -> None:
    stats = Statistics()
    level = {"level": 1}
    stats.gauge("tank", lambda: level)
    level["level"] = 2
    assert stats.groups == {"tank": {"level": 2}}
    stats.gauge("tank", lambda: {"level": 3})
    assert stats.groups == {"tank": {"level": 3}}


def test_a_name_is_either_counters_or_a_gauge() -> None:
    stats = Statistics()
    stats.gauge("tank", dict)
    stats.group("smp")
    with pytest.raises(PluginError, match="'smp': there are counters of that name"):
        stats.gauge("smp", dict)
    with pytest.raises(PluginError, match="'tank': there is a gauge of that name"):
        stats.group("tank")


@pytest.mark.parametrize("name", ["", "s" * 32, "ü" * 16])
def test_a_name_that_no_client_can_say_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="must have 1 to 31 bytes"):
        Statistics().group(name)
    with pytest.raises(PluginError, match="must have 1 to 31 bytes"):
        Statistics().gauge(name, dict)

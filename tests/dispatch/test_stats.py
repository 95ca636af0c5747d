from smp_dfu_host.dispatch.stats import Statistics


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

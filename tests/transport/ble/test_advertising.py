from smp_dfu_host.transport.ble.advertising import FAST, FAST_S, SLOW, Interval, Pace
from tests.fakes import FakeClock


def test_fast_for_a_while_then_slow() -> None:
    clock, changes = FakeClock(), []
    pace = Pace(clock, lambda: changes.append(clock.time()))
    assert pace.interval == SLOW
    began = clock.time()
    pace.hurry()
    assert pace.interval == FAST
    clock.advance(FAST_S - 1)
    pace.hurry()
    clock.advance(FAST_S - 0.1)
    assert (pace.interval, changes) == (FAST, [])
    clock.advance(0.1)
    assert (pace.interval, changes) == (SLOW, [began + FAST_S - 1 + FAST_S])


def test_stopped_it_says_nothing_any_more() -> None:
    clock, changes = FakeClock(), []
    pace = Pace(clock, lambda: changes.append(clock.time()))
    pace.hurry()
    pace.stop()
    pace.stop()
    clock.advance(60)
    assert (changes, clock.timers) == ([], [])


def test_an_interval_says_itself() -> None:
    assert str(FAST) == "30 to 60 ms"
    assert str(Interval(1280, 1280)) == "1280 ms"

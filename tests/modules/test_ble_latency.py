"""The Bluetooth LE latency module (nrf-desktop-dfu.md section 5)."""

import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smp_dfu_host.dispatch.events import BlePeerConnParamsEvent, BleSmpTransferEvent
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import ConfigError
from smp_dfu_host.modules.ble_latency import CHECK_S, DEFAULT_INTERVALS, TIMEOUT, BleLatency
from smp_dfu_host.transport.ble.parameters import Parameters, Request, Watcher
from tests.fakes import BLE, OTHER_BLE, Bench, FakeClock, config

PHONE = Parameters(36, 0, 500)
"""What a phone begins with: 45 ms."""
LOW = Request(6, 6, 0, TIMEOUT)
DEFAULT = Request(*DEFAULT_INTERVALS, 0, TIMEOUT)
HANDLE, OTHER = 64, 65


class FakeLinks:
    """Centrals that grant what they are asked for once `answer` is called; `Links`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.times: list[float] = []
        """When something was asked for, ever."""
        self.watcher: Watcher | None = None
        self.addresses: dict[int, str] = {}
        self.encrypted: set[int] = set()
        self.asked: list[tuple[int, Request]] = []

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def handle(self, address: str) -> int | None:
        return next((handle for handle, each in self.addresses.items() if each == address), None)

    def address(self, handle: int) -> str:
        return self.addresses[handle]

    def secured(self, handle: int) -> bool:
        return handle in self.encrypted

    def ask(self, handle: int, request: Request) -> None:
        self.asked.append((handle, request))
        self.times.append(self.clock.time())


class Rig:
    """The module, its clock, and what the central does."""

    def __init__(self, **ble: Any) -> None:
        self.bench = Bench(config(transport={"ble": {"enabled": True, **ble}}))
        self.links = FakeLinks(self.bench.clock)
        self.module = BleLatency(self.bench.services, self.links)
        self.told: list[BlePeerConnParamsEvent] = []
        self.bench.events.subscribe(BlePeerConnParamsEvent, self.told.append)

    def connect(self, handle: int = HANDLE, peer: Peer = BLE, parameters: Parameters | None = PHONE) -> None:
        self.links.addresses[handle] = peer.address
        self.module.connected(handle, parameters)

    def disconnect(self, handle: int = HANDLE) -> None:
        self.module.disconnected(handle)
        del self.links.addresses[handle]
        self.links.encrypted.discard(handle)

    def grant(self) -> None:
        """Grant what was asked for last, at the slowest interval that is in the range."""
        handle, request = self.links.asked[-1]
        self.module.updated(handle, Parameters(request.max_interval, request.latency, request.timeout))

    def refuse(self) -> None:
        self.module.refused(self.links.asked[-1][0], "the central finds them unacceptable")

    def transfer(self, peer: Peer = BLE) -> None:
        self.bench.events.submit(BleSmpTransferEvent(peer))
        self.bench.clock.advance()

    def advance(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

    def take(self) -> list[Request]:
        """What the first central was asked for since the last call."""
        taken = [request for handle, request in self.links.asked if handle == HANDLE]
        self.links.asked = [each for each in self.links.asked if each[0] != HANDLE]
        return taken

    def low(self) -> None:
        """Have low latency in force on a secured link."""
        self.connect()
        self.links.encrypted.add(HANDLE)
        self.grant()
        self.take()


def test_on_connect_7_5_ms_and_latency_0_are_asked_for() -> None:
    rig = Rig()
    rig.connect()
    assert rig.take() == [LOW]
    assert str(LOW) == "7.5 ms, latency 0"


def test_a_central_that_has_them_already_is_not_asked() -> None:
    rig = Rig()
    rig.connect(parameters=Parameters(6, 0, 42))
    assert rig.take() == []


def test_without_a_transfer_the_default_is_asked_for_after_5_s() -> None:
    rig = Rig()
    rig.low()
    rig.advance(CHECK_S - 0.1)
    assert rig.take() == []
    rig.advance(0.1)
    assert rig.take() == [DEFAULT]
    assert str(DEFAULT) == "30 to 50 ms, latency 0"


def test_while_a_transfer_runs_low_latency_stays() -> None:
    rig = Rig()
    rig.low()
    for _ in range(40):
        rig.transfer()
        rig.advance(1)
    assert rig.take() == []
    rig.advance(CHECK_S)
    assert rig.take() == [DEFAULT]


def test_a_transfer_brings_low_latency_back() -> None:
    rig = Rig()
    rig.low()
    rig.advance(CHECK_S)
    rig.grant()
    rig.advance(60)
    assert rig.take() == [DEFAULT]
    rig.transfer()
    assert rig.take() == [LOW]


def test_latency_is_never_raised_before_the_link_is_secured() -> None:
    rig = Rig(latency=10)
    rig.connect()
    rig.grant()
    rig.take()
    rig.advance(60)
    assert rig.take() == []
    rig.links.encrypted.add(HANDLE)
    rig.advance(CHECK_S)
    assert rig.take() == [Request(*DEFAULT_INTERVALS, 10, TIMEOUT)]


def test_where_no_security_is_required_it_is_not_waited_for() -> None:
    rig = Rig(security="none")
    rig.connect()
    rig.grant()
    rig.advance(CHECK_S)
    assert rig.take() == [LOW, DEFAULT]


def test_a_refusal_is_logged_once_and_not_answered_within_5_s(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smp_dfu_host")
    rig = Rig()
    rig.connect()
    rig.refuse()
    for _ in range(100):  # 20 s of an upload
        before = len(rig.links.times)
        rig.transfer()
        if len(rig.links.times) > before:
            rig.refuse()
        rig.advance(0.2)
    assert all(later - earlier >= CHECK_S for earlier, later in pairwise(rig.links.times))
    assert len(rig.links.times) == 4
    wanted = "ble AA:BB:CC:DD:EE:01: no 7.5 ms, latency 0, the central finds them unacceptable"
    assert [record.message for record in caplog.records if "interval" not in record.message] == [wanted]
    assert rig.bench.stats.groups["ble_latency"]["refused"] == 4


def test_a_default_that_is_refused_is_asked_for_at_each_check() -> None:
    rig = Rig()
    rig.low()
    for _ in range(3):
        rig.advance(CHECK_S)
        assert rig.take() == [DEFAULT]
        rig.links.asked.append((HANDLE, DEFAULT))
        rig.refuse()
        rig.take()


def test_a_mute_central_is_asked_every_5_s_while_a_transfer_runs() -> None:
    rig = Rig()
    rig.connect(parameters=None)
    for _ in range(100):
        rig.transfer()
        rig.advance(0.1)
    assert rig.take() == [LOW, LOW]


def test_disconnecting_clears_the_state() -> None:
    rig = Rig()
    rig.low()
    rig.transfer()
    rig.disconnect()
    rig.transfer()
    rig.module.updated(HANDLE, PHONE)
    rig.module.refused(HANDLE, "late")
    rig.module.disconnected(HANDLE)
    rig.advance(0)
    assert rig.bench.clock.timers == []
    rig.advance(60)
    assert rig.take() == []
    rig.connect()
    assert rig.take() == [LOW]


def test_only_the_central_whose_transfer_it_is_is_asked() -> None:
    rig = Rig()
    rig.low()
    rig.connect(OTHER, OTHER_BLE)
    rig.grant()
    rig.links.encrypted.add(OTHER)
    rig.links.asked.clear()
    for _ in range(10):
        rig.transfer()
        rig.advance(1)
    assert set(rig.links.asked) == {(OTHER, DEFAULT)}


def test_short_interval_is_what_the_file_says() -> None:
    rig = Rig(short_interval_ms=15)
    rig.connect()
    assert rig.take() == [Request(12, 12, 0, TIMEOUT)]


@pytest.mark.parametrize("value", [1, 7, 101])
def test_an_interval_that_no_link_has_is_refused(value: int) -> None:
    with pytest.raises(ConfigError, match=f"short_interval_ms = {value}: must be 0, or between 8 and 100"):
        Rig(short_interval_ms=value)


def test_a_central_that_grants_less_is_asked_for_the_default_all_the_same() -> None:
    """15 ms, as Apple's devices choose where 7.5 were wanted: it would stay so, and the latency never be used."""
    rig = Rig(latency=10)
    rig.connect()
    rig.links.encrypted.add(HANDLE)
    rig.take()
    rig.module.updated(HANDLE, Parameters(12, 0, TIMEOUT))
    for _ in range(3):
        rig.transfer()
        rig.take()
        rig.advance(CHECK_S - 1)
    assert rig.take() == []
    rig.advance(2 * CHECK_S)
    assert rig.take()[0] == Request(24, 40, 10, TIMEOUT)
    rig.module.updated(HANDLE, Parameters(30, 10, TIMEOUT))
    rig.advance(10 * CHECK_S)
    assert rig.take() == []


def test_without_a_short_interval_only_the_latency_changes_as_on_nrf_desktop() -> None:
    rig = Rig(short_interval_ms=0, latency=30)
    rig.low()
    rig.advance(CHECK_S)
    assert rig.take() == [Request(6, 6, 30, TIMEOUT)]
    rig.module.updated(HANDLE, Parameters(24, 30, TIMEOUT))
    rig.transfer()
    assert rig.take() == [Request(24, 24, 0, TIMEOUT)]


def test_switched_off_nothing_is_asked_for_and_what_is_in_force_is_still_told() -> None:
    rig = Rig(low_latency=False)
    rig.connect()
    rig.transfer()
    rig.module.updated(HANDLE, Parameters(12, 3, 400))
    rig.bench.clock.advance()
    assert rig.take() == []
    assert rig.told[-1] == BlePeerConnParamsEvent(BLE.address, 15.0, 3, 4000)
    expected = {"connected": 1, "interval_us": 15000, "latency": 3, "timeout_ms": 4000}
    assert rig.bench.stats.groups["ble_parameters"] == expected
    rig.disconnect()
    assert not any(rig.bench.stats.groups["ble_parameters"].values())


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of events: no request is repeated within 5 s, and none raises an unsecured link's latency."""

    @initialize(latency=st.integers(0, 30), short=st.sampled_from([0, 8, 15]))
    def make(self, latency: int, short: int) -> None:
        self.rig = Rig(latency=latency, short_interval_ms=short)
        self.up = False
        self.seen: list[tuple[float, Request]] = []
        self.now: Parameters | None = None

    @rule(parameters=st.sampled_from([None, PHONE, Parameters(6, 0, 42)]))
    def connect(self, parameters: Parameters | None) -> None:
        if not self.up:
            self.up, self.seen, self.now = True, [], parameters
            self.rig.connect(parameters=parameters)
            self.collect()

    @rule()
    def disconnect(self) -> None:
        if self.up:
            self.up = False
            self.rig.disconnect()

    @rule()
    def secure(self) -> None:
        if self.up:
            self.rig.links.encrypted.add(HANDLE)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.rig.advance(seconds)
        self.collect()

    @rule()
    def transfer(self) -> None:
        self.rig.transfer()
        self.collect()

    @rule(granted=st.booleans(), data=st.data())
    def answer(self, granted: bool, data: st.DataObject) -> None:
        if not self.up or not self.seen:
            return
        request = self.seen[-1][1]
        if granted:
            interval = data.draw(st.integers(request.min_interval, request.max_interval))
            self.now = Parameters(interval, request.latency, request.timeout)
            self.rig.module.updated(HANDLE, self.now)
        else:
            self.rig.module.refused(HANDLE, "no")
        self.collect()

    def collect(self) -> None:
        asked = self.rig.take()
        times = self.rig.links.times[len(self.rig.links.times) - len(asked) :]
        for at, request in zip(times, asked, strict=True):
            if self.seen and self.seen[-1][1] == request:
                assert at - self.seen[-1][0] >= CHECK_S - 1e-6
            if HANDLE not in self.rig.links.encrypted:
                assert request.latency == 0
                assert request.min_interval <= max(12, self.now.interval if self.now else 0)
            assert self.now is None or not request.met_by(self.now)
            self.seen.append((at, request))

    @invariant()
    def nothing_is_left_of_those_who_left(self) -> None:
        self.rig.advance(0)
        assert self.up or self.rig.bench.clock.timers == []


TestAnyOrder = AnyOrder.TestCase

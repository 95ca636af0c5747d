"""Which links are served and which are dropped, without D-Bus."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.transport.ble.pairing import NobodyThere, Pairing
from smp_dfu_host.transport.ble.security import Guard
from tests.fakes import FakeClock

PHONE = "phone"


class World:
    """What is the case: a `security.View`, and the guard that looks at it."""

    def __init__(self, level: str = "encrypt", policy: str = "just-works", window_in: Path | None = None) -> None:
        self.clock = FakeClock()
        self.is_encrypted: bool | None = False
        self.is_paired = False
        self.how = ""
        self.disconnected: list[str] = []
        self.removed: list[str] = []
        self.changes = 0
        self.counters = Counters(unsecured=0)
        self.pairing = Pairing(
            policy,
            NobodyThere(),
            is_central=lambda _key: True,
            address=str,
            drop=self.disconnect,
            window_in=window_in,
        )
        self.guard = Guard(level, 30, self, self.pairing, self.clock, self.counters, changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def address(self, key: str) -> str:
        return key

    def encrypted(self, key: str) -> bool | None:
        return self.is_encrypted

    def paired(self, key: str) -> bool:
        return self.is_paired

    def made(self, key: str) -> str:
        return self.how

    def disconnect(self, key: str) -> None:
        self.disconnected.append(key)

    def remove(self, key: str) -> None:
        self.removed.append(key)


def test_without_security_everybody_is_served_and_nobody_watched() -> None:
    world = World("none")
    world.guard.arrived(PHONE)
    world.guard.bonded(PHONE)
    assert world.guard.admits(PHONE)
    assert world.clock.timers == []
    world.guard.left(PHONE)
    world.guard.close()


@pytest.mark.parametrize("level", ["none", "authenticate"])
def test_a_passkey_is_put_away_once_the_bond_is_there(level: str, caplog: pytest.LogCaptureFixture) -> None:
    """Then the same passkey counts as a new one."""
    caplog.set_level("INFO")
    world = World(level, "passkey")
    world.guard.arrived(PHONE)
    for shown in (1, 2):
        assert [world.pairing.show(PHONE, 42) for _digit in range(2)] == ["", ""]
        assert caplog.text.count("type the passkey") == shown
        world.guard.bonded(PHONE)
    assert world.removed == []


def test_requests_of_a_plain_link_are_dropped_counted_and_logged_once_a_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    for _connection in range(2):
        world.guard.arrived(PHONE)
        assert [world.guard.admits(PHONE) for _ in range(3)] == [False] * 3
        world.guard.left(PHONE)
    assert world.counters["unsecured"] == 6
    assert caplog.text.count("requests dropped") == 2


def test_a_link_that_is_encrypted_is_served_until_it_falls() -> None:
    world = World()
    world.guard.arrived(PHONE)
    world.is_encrypted = True
    assert world.guard.admits(PHONE)
    assert world.changes == 1
    world.is_encrypted = False  # a new connection
    world.guard.left(PHONE)
    world.guard.arrived(PHONE)
    assert not world.guard.admits(PHONE)


def test_who_writes_before_the_connection_was_told_is_watched_all_the_same() -> None:
    world = World()
    assert not world.guard.admits(PHONE)
    assert world.clock.timers


def test_a_connection_is_judged_by_itself_though_the_end_of_the_last_was_not_told() -> None:
    world = World()
    world.guard.arrived(PHONE)
    world.is_encrypted = True
    assert world.guard.admits(PHONE)
    world.is_encrypted = False
    world.guard.arrived(PHONE)
    assert not world.guard.admits(PHONE)
    assert len(world.clock.timers) == 1


@pytest.mark.parametrize("paired", [True, False])
def test_where_the_kernel_does_not_tell_a_bond_is_wanted(paired: bool) -> None:
    world = World()
    world.is_encrypted, world.is_paired = None, paired
    assert world.guard.admits(PHONE) is paired


def test_a_link_that_is_not_secured_in_time_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.guard.arrived(PHONE)
    world.clock.advance(29.9)
    assert world.disconnected == []
    world.clock.advance(0.2)
    assert world.disconnected == [PHONE]
    assert "link not secured within 30 s" in caplog.text
    assert world.clock.timers == []


def test_a_link_that_is_secured_in_time_stays_though_nothing_is_written() -> None:
    world = World()
    world.guard.arrived(PHONE)
    world.clock.advance(20)
    world.is_encrypted = True
    world.clock.advance(100)
    assert world.disconnected == []
    assert world.clock.timers == []
    assert world.changes == 1


@pytest.mark.parametrize("level", ["authenticate", "secure"])
@pytest.mark.parametrize(("made", "served"), [("just-works", False), ("passkey", True), ("confirm", True), ("", True)])
def test_a_bond_that_is_known_to_be_just_works_is_not_authenticated(level: str, made: str, served: bool) -> None:
    """Of a bond that nothing is known of, bluetoothd's flags decide alone."""
    world = World(level, "passkey")
    world.is_paired = world.is_encrypted = True
    world.how = made
    assert world.guard.admits(PHONE) is served


def test_a_new_pairing_by_passkey_replaces_what_was_noted() -> None:
    world = World("authenticate", "passkey")
    world.is_paired = world.is_encrypted = True
    world.how = "just-works"
    world.guard.arrived(PHONE)
    world.pairing.show(PHONE, 42)
    assert world.guard.admits(PHONE)


def test_a_bond_that_the_kernel_made_without_asking_is_put_through_the_rules(tmp_path: Path) -> None:
    """The Raspberry Pi's kernel asks nobody about just-works pairings."""
    world = World(window_in=tmp_path)
    world.guard.arrived(PHONE)
    world.is_encrypted = True
    assert not world.guard.admits(PHONE)
    world.is_paired = True
    world.guard.bonded(PHONE)
    assert world.removed == [PHONE]
    assert not world.guard.admits(PHONE)


def test_a_bond_without_a_question_is_welcome_where_none_was_needed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world = World()
    world.guard.arrived(PHONE)
    world.is_paired = world.is_encrypted = True
    world.guard.bonded(PHONE)
    assert world.removed == []
    assert world.guard.admits(PHONE)
    assert "phone: bonded (just-works)" in caplog.text


def test_a_bond_of_old_needs_no_window(tmp_path: Path) -> None:
    world = World(window_in=tmp_path)
    world.is_paired = True
    world.guard.arrived(PHONE)
    world.is_encrypted = True
    world.guard.bonded(PHONE)
    assert world.guard.admits(PHONE)
    assert world.removed == []


@pytest.mark.parametrize("end", ["left", "stays"])
def test_a_bonded_central_that_does_not_encrypt_may_have_lost_its_bond(
    caplog: pytest.LogCaptureFixture, end: str
) -> None:
    world = World()
    world.is_paired = True
    world.guard.arrived(PHONE)
    if end == "stays":
        world.clock.advance(31)
    world.guard.left(PHONE)
    assert caplog.text.count("smp-dfu-host ble forget phone, then pair again") == 1


def test_close_stops_every_watch() -> None:
    world = World()
    world.guard.arrived(PHONE)
    world.guard.arrived("other")
    world.guard.close()
    assert world.clock.timers == []


def reconnect(world: World) -> None:
    world.is_encrypted = False
    world.guard.left(PHONE)
    world.guard.arrived(PHONE)


def encrypt(world: World) -> None:
    world.is_encrypted = True


def pair(world: World) -> None:
    world.is_paired = True
    world.guard.bonded(PHONE)


STEPS: tuple[Callable[[World], object], ...] = (
    reconnect,
    encrypt,
    pair,
    lambda world: world.pairing.authorize(PHONE),
    lambda world: world.clock.advance(7),
)


@given(st.lists(st.sampled_from(STEPS), max_size=20), st.sampled_from(["reject", "passkey"]))
def test_nobody_new_is_ever_served_by_a_just_works_pairing_that_is_not_allowed(
    steps: list[Callable[[World], object]], policy: str
) -> None:
    """Whatever happens in whatever order: without a bond of old and without a passkey, no request is served."""
    world = World("encrypt", policy)
    world.guard.arrived(PHONE)
    for step in steps:
        step(world)
        if world.removed:  # bluetoothd forgets it, and the connection falls
            return
        assert not world.guard.admits(PHONE)

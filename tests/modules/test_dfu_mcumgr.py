"""nRF Desktop's DFU MCUmgr module, rule by rule: one test for each rule of sections 1 to 4 and 7."""

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smp_dfu_host.config import parse
from smp_dfu_host.dispatch.events import BleSmpTransferEvent, ModuleState, ModuleStateEvent, Order
from smp_dfu_host.dispatch.hooks import Event, Notice
from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import ConfigError, MgmtError, Rc, StoreError
from smp_dfu_host.modules import options
from tests.fakes import BLE, OTHER_BLE, SERIAL, UDP, config
from tests.modules.rig import (
    DFU_COMMANDS,
    ERASE,
    IMAGE_LIST,
    IMAGE_READS,
    OTHER_COMMANDS,
    RESET,
    STATE_WRITE,
    UPLOAD,
    Command,
    Rig,
)

EACCESSDENIED = 11

# Section 1: who talks to whom


@pytest.mark.parametrize("state", [state for state in ModuleState if state is not ModuleState.READY])
def test_1_module_initialises_on_no_other_state_of_main(state: ModuleState) -> None:
    rig = Rig(ready=False)
    rig.bench.events.submit(ModuleStateEvent("main", state))
    rig.advance(0)
    assert (rig.store.calls, rig.answer(UPLOAD), rig.holder) == ([], 0, None)


def test_1_module_initialises_on_no_other_module() -> None:
    rig = Rig(ready=False)
    rig.bench.events.submit(ModuleStateEvent("ble_state", ModuleState.READY))
    rig.advance(0)
    assert rig.store.calls == []


def test_1_module_initialises_on_main_ready_and_says_so_once() -> None:
    rig = Rig(ready=False)
    assert (rig.store.calls, rig.states) == ([], [])
    rig.main_ready()
    rig.main_ready()
    assert rig.states.count(ModuleStateEvent("dfu_mcumgr", ModuleState.READY)) == 1
    rig.send(UPLOAD)
    assert len(rig.bench.clock.timers) == 1  # the hook is registered once, however often main is ready


def test_1_module_is_the_final_subscriber_of_its_event() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="has a final subscriber already"):
        rig.bench.events.subscribe(BleSmpTransferEvent, lambda _: None, Order.FINAL)


def test_1_one_transfer_event_at_most_is_in_flight() -> None:
    rig = Rig()
    for _ in range(5):
        rig.send(UPLOAD, BLE)
    assert rig.transfers == 0
    rig.advance(0)
    assert rig.transfers == 1


def test_1_next_transfer_event_follows_when_the_last_has_come_round() -> None:
    rig = Rig()
    for count in range(1, 4):
        rig.send(UPLOAD, BLE)
        rig.advance(0)
        assert rig.transfers == count


def test_1_event_is_in_flight_until_everybody_has_handled_it() -> None:
    rig = Rig()
    rig.bench.events.subscribe(BleSmpTransferEvent, lambda _: rig.send(UPLOAD, BLE) if rig.transfers < 5 else None)
    rig.send(UPLOAD, BLE)
    rig.advance(0)
    assert rig.transfers == 1


# Section 2: what the module hooks


@pytest.mark.parametrize("command", OTHER_COMMANDS + IMAGE_READS)
def test_2_1_other_commands_and_reads_pass_and_touch_nothing(command: Command) -> None:
    rig = Rig()
    rig.send(command, BLE)
    rig.advance(0)
    assert (rig.holder, rig.bench.clock.timers, rig.transfers) == (None, [], 0)


@pytest.mark.parametrize("command", OTHER_COMMANDS + IMAGE_READS)
def test_2_1_other_commands_and_reads_pass_while_another_updates(command: Command) -> None:
    rig = Rig()
    rig.send(UPLOAD, UDP)
    rig.advance(1)
    rig.send(command, BLE)
    rig.send(command, UDP)
    rig.advance(3.9)
    assert rig.holder == "udp:127.0.0.1"
    rig.advance(0.1)
    assert rig.holder is None


@pytest.mark.parametrize("command", IMAGE_READS)
def test_2_1_strict_counts_all_of_the_image_group(command: Command) -> None:
    rig = Rig(dfu={"strict": True})
    rig.send(command, UDP)
    assert rig.holder == "udp:127.0.0.1"
    assert rig.answer(command, BLE) == EACCESSDENIED


@pytest.mark.parametrize("command", OTHER_COMMANDS)
def test_2_1_strict_leaves_the_other_groups_alone(command: Command) -> None:
    rig = Rig(dfu={"strict": True})
    rig.send(command)
    assert rig.holder is None


@pytest.mark.parametrize("command", DFU_COMMANDS)
def test_2_2_dfu_command_claims_the_lock_for_the_peer_s_owner(command: Command) -> None:
    rig = Rig()
    rig.send(command, BLE)
    assert rig.holder == "ble:AA:BB:CC:DD:EE:01"


@pytest.mark.parametrize("command", DFU_COMMANDS)
def test_2_2_dfu_command_of_another_owner_is_refused(command: Command) -> None:
    rig = Rig()
    rig.send(UPLOAD, UDP)
    assert rig.answer(command, BLE) == EACCESSDENIED
    assert rig.holder == "udp:127.0.0.1"


@pytest.mark.parametrize("command", DFU_COMMANDS)
def test_2_2_refused_request_neither_prolongs_nor_shortens_the_holder_s_time(command: Command) -> None:
    rig = Rig()
    rig.send(UPLOAD, UDP)
    rig.advance(3)
    assert rig.answer(command, BLE) == EACCESSDENIED
    rig.advance(1.9)
    assert rig.holder == "udp:127.0.0.1"
    rig.advance(0.1)
    assert rig.holder is None


def test_2_2_refused_upload_gives_no_transfer_event() -> None:
    rig = Rig()
    rig.send(UPLOAD, UDP)
    assert rig.answer(UPLOAD, BLE) == EACCESSDENIED
    rig.advance(0)
    assert rig.transfers == 0


def test_2_2_request_that_an_earlier_hook_refused_touches_nothing() -> None:
    def busy(_: Notice) -> None:
        raise MgmtError(Rc.EBUSY)

    rig = Rig(ready=False)
    rig.bench.hooks.register(Event.CMD_RECV, busy)
    rig.main_ready()
    assert rig.answer(UPLOAD, BLE) == Rc.EBUSY
    rig.advance(0)
    assert (rig.holder, rig.bench.clock.timers, rig.transfers) == (None, [], 0)


@pytest.mark.parametrize("command", DFU_COMMANDS)
def test_2_2_claimed_request_restarts_the_owner_s_deadline(command: Command) -> None:
    rig = Rig()
    rig.send(UPLOAD)
    for _ in range(10):
        rig.advance(4.9)
        rig.send(command)
    assert rig.holder == "udp:127.0.0.1"
    assert len(rig.bench.clock.timers) == 1


@pytest.mark.parametrize("peer", [UDP, SERIAL])
def test_2_3_no_transfer_event_over_udp_or_serial(peer: Peer) -> None:
    rig = Rig()
    rig.send(UPLOAD, peer)
    rig.advance(0)
    assert rig.transfers == 0


@pytest.mark.parametrize("command", [STATE_WRITE, ERASE, RESET])
def test_2_3_no_transfer_event_for_anything_but_an_upload(command: Command) -> None:
    rig = Rig()
    rig.send(command, BLE)
    rig.advance(0)
    assert rig.transfers == 0


def test_2_4_deadline_warns_and_releases_the_lock(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.send(UPLOAD)
    with caplog.at_level(logging.WARNING):
        rig.advance(4.99)
        assert (rig.holder, caplog.text) == ("udp:127.0.0.1", "")
        rig.advance(0.01)
    assert rig.holder is None
    assert "udp:127.0.0.1: no DFU command for 5 s, the lock is released" in caplog.text


def test_2_4_command_that_runs_long_is_no_silence() -> None:
    # An erase on a slow disk: another process must not claim the lock in the middle of it.
    rig = Rig()
    rig.send(ERASE, done=False)
    rig.advance(12)
    assert rig.holder == "udp:127.0.0.1"
    rig.done(ERASE)
    rig.advance(5)
    assert rig.holder is None


def test_2_4_deadline_keeps_the_progress_for_the_same_owner() -> None:
    rig = Rig()
    rig.send(UPLOAD)
    counter = rig.bench.lock.counter
    rig.advance(60)
    rig.send(UPLOAD)
    assert (rig.store.calls, rig.bench.lock.counter) == (["confirm"], counter)


def test_2_4_after_the_deadline_another_owner_may_claim() -> None:
    rig = Rig()
    rig.send(UPLOAD, UDP)
    rig.advance(5)
    rig.send(UPLOAD, BLE)
    assert rig.holder == "ble:AA:BB:CC:DD:EE:01"


def test_2_4_deadline_is_configurable() -> None:
    rig = Rig(dfu={"timeout_ms": 100})
    rig.send(UPLOAD)
    rig.advance(0.1)
    assert rig.holder is None


def test_2_5_reset_that_is_carried_out_releases_the_lock_and_closes_the_uploads() -> None:
    rig = Rig()
    rig.send(UPLOAD)
    rig.send(RESET)
    assert rig.store.calls == ["confirm"]
    rig.module.reset_done()
    assert (rig.holder, rig.bench.clock.timers, rig.store.calls[-1]) == (None, [], "close")


def test_2_5_reset_without_an_owner_closes_the_uploads() -> None:
    rig = Rig()
    rig.module.reset_done()
    assert rig.store.calls == ["confirm", "close"]


def test_2_5_another_owner_may_update_after_the_reset() -> None:
    rig = Rig()
    rig.send(RESET, UDP)
    rig.module.reset_done()
    rig.main_ready()
    rig.send(UPLOAD, BLE)
    assert rig.holder == "ble:AA:BB:CC:DD:EE:01"
    rig.advance(4.9)
    assert rig.holder == "ble:AA:BB:CC:DD:EE:01"


@pytest.mark.parametrize("before", [None, UPLOAD, STATE_WRITE, ERASE, RESET])
def test_2_5_reset_of_the_lock_s_owner_is_never_refused(before: Command | None) -> None:
    rig = Rig()
    if before is not None:
        rig.send(before)
    assert rig.answer(RESET) == 0


# Section 3: the DFU lock


def test_3_a_peer_is_an_owner_by_its_identity_not_by_its_connection() -> None:
    rig = Rig()
    rig.send(UPLOAD, Peer("udp", "127.0.0.1:50123", "udp:127.0.0.1"))
    rig.send(UPLOAD, Peer("udp", "127.0.0.1:50124", "udp:127.0.0.1"))
    assert (rig.holder, rig.store.calls) == ("udp:127.0.0.1", ["confirm"])


def test_3_different_owner_drops_the_previous_one_s_upload() -> None:
    rig = Rig()
    rig.send(UPLOAD, BLE)
    rig.advance(5)
    rig.send(UPLOAD, OTHER_BLE)
    assert rig.store.calls == ["confirm", "drop ble:AA:BB:CC:DD:EE:01"]


def test_3_any_dfu_command_of_another_owner_drops_the_upload() -> None:
    rig = Rig()
    rig.send(UPLOAD, BLE)
    rig.advance(5)
    rig.send(STATE_WRITE, UDP)
    assert rig.store.calls == ["confirm", "drop ble:AA:BB:CC:DD:EE:01"]


def test_3_lock_holds_across_processes(tmp_path: Path) -> None:
    rig, other = Rig(path=tmp_path / "dfu.lock"), DfuLock(tmp_path / "dfu.lock")
    other.claim(LockOwner("local:1"))
    assert rig.answer(UPLOAD) == EACCESSDENIED
    assert rig.bench.clock.timers == []
    other.release(LockOwner("local:1"))
    assert rig.answer(UPLOAD) == 0


def test_3_owner_of_another_process_drops_the_upload_too(tmp_path: Path) -> None:
    rig, other = Rig(path=tmp_path / "dfu.lock"), DfuLock(tmp_path / "dfu.lock")
    rig.send(UPLOAD)
    counter = rig.bench.lock.counter
    rig.advance(5)
    other.claim(LockOwner("local:1"))
    other.release(LockOwner("local:1"))
    rig.send(UPLOAD)
    assert rig.store.calls == ["confirm", "drop udp:127.0.0.1"]
    assert rig.bench.lock.counter == counter + 2


def test_3_lock_file_that_cannot_be_used_refuses(tmp_path: Path) -> None:
    rig = Rig(path=tmp_path / "gone" / "dfu.lock")
    (tmp_path / "gone").touch()
    assert rig.answer(UPLOAD) == EACCESSDENIED


def test_3_without_the_lock_everybody_updates(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(dfu={"lock": False})
    for peer in (UDP, BLE, SERIAL):
        rig.send(UPLOAD, peer)
    with caplog.at_level(logging.WARNING):
        rig.advance(5)
    assert rig.store.calls == ["confirm"]
    assert caplog.text.count("no DFU command for 5 s") == 3
    rig.send(UPLOAD)
    rig.module.reset_done()
    assert rig.bench.clock.timers == []


TWO = {"udp": {"enabled": True}, "ble": {"enabled": True}}
LINE = {"serial": {"pty": "/tmp/pty"}}


@pytest.mark.parametrize(
    ("dfu", "transport", "warned"),
    [
        ({"lock": False}, TWO, True),
        ({"lock": False}, {"udp": {"enabled": True}, **LINE}, True),
        ({"lock": False}, LINE, False),
        ({"lock": False}, {"udp": {"enabled": True}}, False),
        ({"lock": True}, TWO, False),
    ],
)
def test_3_no_lock_with_two_transports_warns(
    dfu: dict[str, Any], transport: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Rig(dfu=dfu, transport=transport)
    assert ("dfu.lock = false" in caplog.text) is warned


@pytest.mark.parametrize("command", DFU_COMMANDS)
def test_3_read_only_device_refuses_every_dfu_command(command: Command) -> None:
    rig = Rig(dfu={"enabled": False})
    assert rig.answer(command) == EACCESSDENIED
    assert (rig.holder, rig.bench.clock.timers) == (None, [])


@pytest.mark.parametrize("command", OTHER_COMMANDS + IMAGE_READS)
def test_3_read_only_device_serves_the_rest(command: Command) -> None:
    assert Rig(dfu={"enabled": False}).answer(command) == 0


# Section 4: confirmation


def test_4_running_image_is_confirmed_at_start() -> None:
    assert Rig().store.calls == ["confirm"]


def test_4_confirmation_is_logged_if_it_changed_anything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.main_ready()
    assert rig.store.calls == ["confirm", "confirm"]
    assert caplog.messages == ["the running image is confirmed: [dfu] confirm_at_start"]


def test_4_running_image_is_confirmed_after_a_reset_too() -> None:
    rig = Rig()
    rig.module.reset_done()
    rig.main_ready()
    assert rig.store.calls == ["confirm", "close", "confirm"]


def test_4_confirmation_can_be_switched_off() -> None:
    assert Rig(dfu={"confirm_at_start": False}).store.calls == []


def test_4_direct_xip_confirms_nothing() -> None:
    assert Rig(bootloader={"mode": "direct-xip"}).store.calls == []


@pytest.mark.parametrize("module", ["dfu", "plain"])
def test_4_and_7_mode_decides_about_confirmation(module: str) -> None:
    made = config(smp={"module": module}, bootloader={"mode": "swap-using-move"})
    assert options.confirms(made)


def test_4_failure_to_confirm_is_logged_as_an_error_and_the_device_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(ready=False)
    rig.store.fail = StoreError("no valid image runs")
    with caplog.at_level(logging.ERROR):
        rig.main_ready()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "cannot confirm the running image: no valid image runs" in caplog.text
    assert rig.answer(UPLOAD) == 0


# Section 7: options


def test_7_no_transport_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no transport is on: set transport"):
        Rig(transport={})


@pytest.mark.parametrize(
    ("transport", "on"),
    [
        (TWO, ("ble", "udp")),
        (LINE, ("serial",)),
        ({"serial": {"device": "/dev/ttyACM0"}}, ("serial",)),
        ({"serial": {"device": "/dev/ttyACM0", "pty": "/tmp/pty"}}, ("serial",)),
    ],
)
def test_7_transports_are_those_that_are_configured(transport: dict[str, Any], on: tuple[str, ...]) -> None:
    assert options.transports(config(transport=transport)) == on


@pytest.mark.parametrize("module", ["both", "caf", ""])
def test_7_module_is_one_of_two(module: str) -> None:
    with pytest.raises(ConfigError, match=r"smp.module = .*: must be one of dfu, plain"):
        parse({"smp": {"module": module}}, Path("/"))


def test_7_another_boot_loader_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"bootloader.mode = 'b0': must be one of"):
        parse({"bootloader": {"mode": "b0"}}, Path("/"))


PEERS = [UDP, BLE, OTHER_BLE, SERIAL]


class DfuMachine(RuleBasedStateMachine):
    """Any peers, any commands, any pauses, resets and restarts of main."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.owner: str | None = None
        self.due = 0.0

    def expire(self) -> None:
        if self.owner is not None and self.rig.bench.clock.now >= self.due:
            self.owner = None

    @rule(peer=st.sampled_from(PEERS), command=st.sampled_from(DFU_COMMANDS))
    def update(self, peer: Peer, command: Command) -> None:
        passed = self.rig.answer(command, peer) == 0
        assert passed == (self.owner in (None, peer.owner))
        if passed:
            self.owner, self.due = peer.owner, self.rig.bench.clock.now + 5

    @rule(peer=st.sampled_from(PEERS), command=st.sampled_from([*OTHER_COMMANDS, IMAGE_LIST]))
    def other(self, peer: Peer, command: Command) -> None:
        assert self.rig.answer(command, peer) == 0

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 4.5, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.rig.advance(seconds)
        self.expire()

    @rule()
    def reset(self) -> None:
        self.rig.module.reset_done()
        self.rig.main_ready()
        self.owner = None

    @invariant()
    def lock_is_the_owner_s_for_five_seconds(self) -> None:
        """The lock is held by whoever updated last, until five seconds after that, and by nobody else."""
        assert self.rig.holder == self.owner
        ahead = [due for due in self.rig.bench.clock.timers if due > self.rig.bench.clock.now]
        assert ahead == [] if self.owner is None else self.rig.bench.clock.now < ahead[0] <= self.due


TestDfuMachine = DfuMachine.TestCase

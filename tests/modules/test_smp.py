"""The plain SMP module: transfer events, and nothing else (section 7)."""

import pytest

from smp_dfu_host.dispatch.events import BleSmpTransferEvent, ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.hooks import CommandReceived, Event, UploadCheck
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import ConfigError
from smp_dfu_host.modules.dfu_mcumgr import DfuMcumgr
from smp_dfu_host.modules.smp import PlainSmp
from tests.fakes import BLE, OTHER_BLE, SERIAL, UDP, Bench, at_once, config


class Rig:
    def __init__(self) -> None:
        self.bench = Bench(config(smp={"module": "plain"}))
        self.transfers: list[BleSmpTransferEvent] = []
        self.states: list[ModuleStateEvent] = []
        self.bench.events.subscribe(BleSmpTransferEvent, self.transfers.append)
        self.bench.events.subscribe(ModuleStateEvent, self.states.append)
        self.module = PlainSmp(self.bench.services)

    def main_ready(self) -> None:
        self.bench.events.submit(ModuleStateEvent("main", ModuleState.READY))
        self.bench.clock.advance()

    def chunk(self, peer: Peer) -> None:
        check = UploadCheck(peer, 0, 0, b"data", 100, b"", upgrade=False, slot=1, erase=True)
        at_once(self.bench.hooks.notify(Event.IMG_DFU_CHUNK, check))


def test_chunk_over_ble_gives_a_transfer_event_and_one_at_most_in_flight() -> None:
    rig = Rig()
    rig.main_ready()
    for count in (1, 2):
        rig.chunk(BLE)
        rig.chunk(OTHER_BLE)
        rig.bench.clock.advance()
        assert len(rig.transfers) == count


@pytest.mark.parametrize("peer", [UDP, SERIAL])
def test_chunk_over_udp_or_serial_gives_none(peer: Peer) -> None:
    rig = Rig()
    rig.main_ready()
    rig.chunk(peer)
    rig.bench.clock.advance()
    assert rig.transfers == []


def test_module_initialises_on_main_ready_once() -> None:
    rig = Rig()
    rig.chunk(BLE)
    rig.bench.clock.advance()
    assert rig.transfers == []
    rig.main_ready()
    rig.main_ready()
    assert rig.states.count(ModuleStateEvent("smp", ModuleState.READY)) == 1


def test_no_lock_no_refusal_no_confirmation() -> None:
    rig = Rig()
    rig.main_ready()
    for peer in (UDP, BLE):
        at_once(rig.bench.hooks.notify(Event.CMD_RECV, CommandReceived(1, 1, 2, peer)))
    assert (rig.bench.lock.owner, rig.bench.clock.timers, rig.bench.store.calls) == (None, [], [])


def test_reset_that_is_carried_out_closes_the_uploads() -> None:
    rig = Rig()
    rig.module.reset_done()
    assert rig.bench.store.calls == ["close"]


def test_two_modules_at_once_are_impossible() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="has a final subscriber already"):
        DfuMcumgr(rig.bench.services)


def test_no_transport_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no transport is on"):
        PlainSmp(Bench(config(transport={})).services)

"""A module on fakes, and the requests that the tables of tests are made of."""

from pathlib import Path
from typing import Any

from smp_dfu_host.dispatch.events import BleSmpTransferEvent, ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.hooks import CommandDone, CommandReceived, Event
from smp_dfu_host.dispatch.lock import DfuLock
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import MgmtError
from smp_dfu_host.modules.dfu_mcumgr import DfuMcumgr
from tests.fakes import UDP, Bench, FakeStore, at_once, config

READ, WRITE = 0, 2

UPLOAD = (1, 1, WRITE)
STATE_WRITE = (1, 0, WRITE)
ERASE = (1, 5, WRITE)
RESET = (0, 5, WRITE)
DFU_COMMANDS = [UPLOAD, STATE_WRITE, ERASE, RESET]

IMAGE_LIST = (1, 0, READ)
SLOT_INFO = (1, 6, READ)
IMAGE_READS = [IMAGE_LIST, SLOT_INFO]

ECHO = (0, 0, WRITE)
PARAMS = (0, 6, READ)
STATISTICS = (2, 0, READ)
FILE_UPLOAD = (8, 0, WRITE)
OTHER_COMMANDS = [ECHO, PARAMS, STATISTICS, FILE_UPLOAD]

Command = tuple[int, int, int]


class Rig:
    """dfu_mcumgr, initialised unless told otherwise, with its events written down."""

    def __init__(self, *, ready: bool = True, path: Path | None = None, **sections: Any) -> None:
        made = config(**sections)
        self.bench = Bench(made, lock=DfuLock(path, enabled=made.dfu.lock))
        self.transfers = 0
        self.states: list[ModuleStateEvent] = []
        self.bench.events.subscribe(BleSmpTransferEvent, self._transfer)
        self.bench.events.subscribe(ModuleStateEvent, self.states.append)
        self.module = DfuMcumgr(self.bench.services)
        if ready:
            self.main_ready()

    def _transfer(self, _event: BleSmpTransferEvent) -> None:
        self.transfers += 1

    @property
    def store(self) -> FakeStore:
        return self.bench.store

    @property
    def holder(self) -> str | None:
        owner = self.bench.lock.owner
        return None if owner is None else owner.name

    def main_ready(self) -> None:
        self.bench.events.submit(ModuleStateEvent("main", ModuleState.READY))
        self.bench.clock.advance()

    def send(self, command: Command, peer: Peer = UDP, *, done: bool = True) -> None:
        """Run the hooks of one request; raise what it is refused with. Not `done`: it still runs."""
        group, number, op = command
        try:
            at_once(self.bench.hooks.notify(Event.CMD_RECV, CommandReceived(group, number, op, peer)))
        finally:
            if done:
                self.done(command, peer)

    def done(self, command: Command, peer: Peer = UDP) -> None:
        """Run the hook of a request's end."""
        group, number, _ = command
        at_once(self.bench.hooks.notify(Event.CMD_DONE, CommandDone(group, number, 0, peer)))

    def answer(self, command: Command, peer: Peer = UDP) -> int:
        """Return the rc with which a request is refused, 0 if it passes."""
        try:
            self.send(command, peer)
        except MgmtError as exc:
            return exc.rc
        return 0

    def advance(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)

"""The state behind the live display: what each client is doing, from the server's events and hooks.

`Board` is fed in the event loop and read by the thread that draws: what it keeps of a client is one immutable value
that is replaced, so that the reader needs no lock.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from smp_dfu_host.cli.render import ClientLine
from smp_dfu_host.dispatch.events import BlePeerConnParamsEvent, EventManager, PeerJoined, PeerLeft
from smp_dfu_host.dispatch.hooks import (
    ChunkWritten,
    CommandReceived,
    DfuPending,
    DfuStopped,
    Event,
    Hooks,
    Notice,
)
from smp_dfu_host.dispatch.peer import Peer

WINDOW_S = 3.0
"""Speed is the mean over so many seconds."""
STALLED_S = 2.0
"""After so many seconds without a chunk no speed is shown."""

_COMMANDS = {
    (0, 0): "echo",
    (0, 2): "task statistics",
    (0, 3): "memory pools",
    (0, 4): "datetime",
    (0, 5): "reset",
    (0, 6): "params",
    (0, 7): "info",
    (0, 8): "boot loader info",
    (1, 0): "image state",
    (1, 1): "upload",
    (1, 5): "erase",
    (1, 6): "slot info",
    (2, 0): "statistics",
    (2, 1): "statistics",
    (3, 0): "setting",
    (3, 1): "delete setting",
    (3, 2): "commit settings",
    (3, 3): "stored settings",
    (8, 0): "file",
    (8, 1): "file status",
    (8, 2): "file hash",
    (8, 3): "hash types",
    (8, 4): "close file",
    (9, 0): "shell command",
    (10, 0): "groups",
    (10, 1): "groups",
    (10, 2): "groups",
    (10, 3): "groups",
    (63, 0): "erase storage",
}
_UPLOAD = (1, 1)


@dataclass(frozen=True, slots=True)
class _Client:
    """What is known of one client."""

    what: str = "connected"
    done: int = 0
    total: int = 0
    rate: float = 0.0
    at: float = 0.0
    """When the last chunk was written."""


class Board:
    """Who is there, and how far their uploads are.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: dict[Peer, _Client] = {}
        self._samples: dict[Peer, deque[tuple[float, int]]] = {}
        self._notes: dict[str, str] = {}
        self._intervals: dict[str, float] = {}
        """Connection intervals in ms, by the address of the central."""

    def watch(self, events: EventManager, hooks: Hooks) -> None:
        """Follow a server from now on."""
        events.subscribe(PeerJoined, lambda event: self._put(event.peer, _Client()))
        events.subscribe(PeerLeft, lambda event: self._remove(event.peer))
        events.subscribe(BlePeerConnParamsEvent, self._parameters)
        hooks.register(Event.CMD_RECV, self._command)
        hooks.register(Event.IMG_DFU_CHUNK_WRITE_COMPLETE | Event.IMG_DFU_PENDING, self._written)
        hooks.register(Event.IMG_DFU_STOPPED, self._stopped)

    def note(self, who: str, text: str) -> None:
        """Say something of somebody above all clients; an empty text says it no longer."""
        self._notes.pop(who, None)
        if text:
            self._notes[who] = text

    def lines(self) -> tuple[ClientLine, ...]:
        """Return what is to be drawn, in the order in which the clients came."""
        now = self._clock()
        notes = tuple(ClientLine(who, text) for who, text in list(self._notes.items()))
        return notes + tuple(
            ClientLine(
                self._who(peer), each.what, each.done, each.total, each.rate if now - each.at < STALLED_S else 0.0
            )
            for peer, each in list(self._clients.items())
        )

    def _who(self, peer: Peer) -> str:
        interval = self._intervals.get(peer.address) if peer.transport == "ble" else None
        return f"{peer} every {interval:g} ms" if interval else str(peer)

    def _parameters(self, event: BlePeerConnParamsEvent) -> None:
        self._intervals[event.address] = event.interval_ms

    def _put(self, peer: Peer, client: _Client) -> None:
        self._clients[peer] = client

    def _remove(self, peer: Peer) -> None:
        self._clients.pop(peer, None)
        self._samples.pop(peer, None)
        self._intervals.pop(peer.address, None)

    def _command(self, notice: Notice) -> None:
        data: CommandReceived = notice.data
        client = self._clients.get(data.peer, _Client())
        if (data.group, data.command) != _UPLOAD:
            name = _COMMANDS.get((data.group, data.command), f"group {data.group} command {data.command}")
            self._put(data.peer, _Client(f"{name}{' (write)' if data.op == 2 and data.group else ''}"))
        elif not client.total:
            self._put(data.peer, _Client("upload"))

    def _written(self, notice: Notice) -> None:
        data: ChunkWritten | DfuPending = notice.data
        now = self._clock()
        if isinstance(data, DfuPending):
            self._samples.pop(data.peer, None)
            self._put(data.peer, _Client(f"uploaded {data.size / 1000:.1f} kB"))
            return
        samples = self._samples.setdefault(data.peer, deque())
        if samples and samples[-1][1] > data.off:
            samples.clear()  # begun anew
        samples.append((now, data.off))
        while now - samples[0][0] > WINDOW_S:
            samples.popleft()
        seconds = now - samples[0][0]
        rate = (data.off - samples[0][1]) / seconds if seconds else 0.0
        self._put(data.peer, _Client(f"to slot {data.slot}", data.off, data.size, rate, now))

    def _stopped(self, notice: Notice) -> None:
        data: DfuStopped = notice.data
        client = self._clients.get(data.peer, _Client())
        self._put(data.peer, replace(client, what=f"failed: {data.reason}", total=0))

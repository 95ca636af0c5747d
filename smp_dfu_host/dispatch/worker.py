"""The one worker: requests from all transports, served one at a time in the order of their arrival.

    transports ─► put / offer ─► queue ─► Router ─► link.send_now, or outbox of the link ─► link.send
                  (packets)               (one)                    (one task each while it holds something)

Handlers therefore need no locks, as on Zephyr's work queue. A packet that finds nothing before it does not queue: it is
served where it comes in, and what has to wait meanwhile is left to the worker's task.

Replies that a link does not take at once wait in an outbox of its own, whole and in order, so that a slow peer costs
only itself: while its outbox is full, its requests rest, its `put` waits and its `offer` is refused, and all others are
served. What belongs to a link that has closed is forgotten.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

from smp_dfu_host.dispatch.begun import Begun, begin
from smp_dfu_host.dispatch.events import EventManager, PeerJoined, PeerLeft
from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.dispatch.stats import Counters, Statistics
from smp_dfu_host.errors import TransportError

log = logging.getLogger(__name__)

OUTBOX_SIZE = 32
"""Replies that may wait in one outbox. Phones keep 3 requests in flight, 24 at most (device-manager-client.md 7.4)."""


STREAM_SHARE = 8
"""Packets of one link that `put` lets wait: datagrams of others cannot wait, and would find the queue full."""

TURN_S = 0.001
"""How long requests are served before transports and senders get a turn, in seconds, if no request waits before."""

DRAIN_S = 1.0
"""How long a reset waits for replies that are still on their way, in seconds."""


class _Lane:
    """What is under way for one link."""

    __slots__ = ("_send", "forgotten", "interrupted", "link", "outbox", "packets", "resting", "sender", "traffic")

    def __init__(self, link: Link, traffic: Counters, send: Callable[["_Lane", bytes], None]) -> None:
        self.link = link
        self._send = send
        self.traffic = traffic
        """The counters of its transport: packets that came, messages that went."""
        self.packets: deque[bytes] = deque()
        """Packets to serve, the first one first."""
        self.interrupted: tuple[bytes, int] | None = None
        """The packet that a full outbox has interrupted, and the offset of its next request."""
        self.resting = 0
        """Turns that this lane has given up until its outbox has room."""
        self.forgotten = False
        """True once nobody wants its replies any more."""
        self.outbox: deque[bytes] = deque()
        self.sender: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """True while no further reply may be made."""
        return len(self.outbox) >= OUTBOX_SIZE

    def reply(self, message: bytes) -> None:
        """Send a reply."""
        self._send(self, message)

    def forget_requests(self) -> None:
        """Forget what was to be served; replies that are made still go out."""
        self.packets.clear()
        self.interrupted = None
        self.resting = 0

    def next(self) -> tuple[bytes, int]:
        """Take what is to be served next: a packet, and the offset of the request to go on with."""
        interrupted, self.interrupted = self.interrupted, None
        return interrupted or (self.packets.popleft(), 0)


class Worker:
    """Serves requests from any number of links; what transports see of it is `Inbox`.

    Args:
        router: Makes the replies.
        queue_size: Packets that may wait for their turn.
        stats: Gets counters `queue` and a gauge `inbox`, and counters for each transport, by its name.
        events: Told of peers that come and go; None: nobody is told.
    """

    def __init__(self, router: Router, queue_size: int, stats: Statistics, events: EventManager | None = None) -> None:
        self._router = router
        self._queue_size = queue_size
        self._events = events
        self._counters = stats.group("queue", "packets", "dropped", "lost")
        self._stats = stats
        self._turns: deque[_Lane] = deque()
        self._most = 0
        stats.gauge("inbox", lambda: {"waiting": len(self._turns), "most": self._most, "size": self._queue_size})
        self._lanes: dict[int, _Lane] = {}
        """By link, from its first packet until it is gone."""
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        """Wakes the task that has nothing to do; None: it is at work, about to be, or kept from it."""
        self._begun: Begun | None = None
        """What the task is to go on with before anything else."""
        self._serving = False
        self._pausing = asyncio.Lock()
        self._senders: asyncio.TaskGroup | None = None
        self._traffics: dict[str, Counters] = {}

    def joined(self, link: Link) -> None:
        """Tell the modules that a peer has connected (or was heard for the first time)."""
        log.info("%s: joined", link.peer)
        self._traffic(link)["joined"] += 1
        if self._events is not None:
            self._events.submit(PeerJoined(link.peer))

    def left(self, link: Link) -> None:
        """Forget what is under way for the link, and tell the modules."""
        log.info("%s: left", link.peer)
        self._traffic(link)["left"] += 1
        if (lane := self._lanes.get(id(link))) is not None:
            self._forget(lane)
        self._stir()
        if self._events is not None:
            self._events.submit(PeerLeft(link.peer))

    async def put(self, link: Link, packet: bytes) -> None:
        """Take one packet; wait while the queue, the link's share of it or its outbox is full.

        Returns at once if the link closes.
        """
        while not link.closed and not self.put_now(link, packet):
            await self._change()

    def put_now(self, link: Link, packet: bytes) -> bool:
        """Take one packet if nothing must be waited for; False: `put` is to be called with it next."""
        return self._take(link, packet, STREAM_SHARE)

    def offer(self, link: Link, packet: bytes) -> bool:
        """Take one packet if there is room; False when it was dropped and counted."""
        if self._take(link, packet, self._queue_size):
            return True
        self._counters["dropped"] += 1
        log.debug("%s: packet of %s bytes dropped, the queue is full", link.peer, len(packet))
        return False

    async def run(self) -> None:
        """Serve until cancelled; leaves no task behind."""
        self._task = task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            async with asyncio.TaskGroup() as self._senders:
                now = asyncio.get_running_loop().time
                began = now()
                # A handler may take for its own what was meant for the worker, and the other way round while it waits.
                while self._begun is not None or not task.cancelling():
                    if self._begun is not None:
                        begun, self._begun = self._begun, None
                        await begun
                    elif self._pausing.locked():
                        await self._change()
                        began = now()
                    elif self._turns:
                        await self._serve_next()
                    else:
                        await self._wanted()
                        began = now()
                    # A handler that waits for nothing must not keep the others waiting; what has begun goes on at once.
                    if self._begun is None and now() - began >= TURN_S:
                        await asyncio.sleep(0)
                        began = now()
                raise asyncio.CancelledError
        finally:
            self._senders = self._task = None
            self.clear()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Serve nothing meanwhile, and forget everything before and after, as a reset does.

        Waits until the request at hand is served, and for a moment until its reply and those before it are sent.
        """
        async with self._pausing:
            self._rouse()
            while self._serving:
                await self._change()
            self._turns.clear()
            for lane in self._lanes.values():
                lane.forget_requests()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self.drained()
            try:
                yield
            finally:
                self.clear()
                self._stir()  # those who wait get their turn when the pause is over

    async def drained(self) -> None:
        """Wait until every reply that was made has been sent or lost; who must not wait for ever sets a timeout."""
        while any(lane.outbox for lane in self._lanes.values()):
            await self._change()

    def clear(self) -> None:
        """Forget everything that is under way, as a reset does."""
        for lane in tuple(self._lanes.values()):
            self._forget(lane)

    def _lane(self, link: Link) -> _Lane:
        lane = self._lanes[id(link)] = _Lane(link, self._traffic(link), self._send)
        return lane

    def _take(self, link: Link, packet: bytes, share: int) -> bool:
        """Serve or queue one packet if there is room, and the link has less than its share of it."""
        lane = self._lanes.get(id(link)) or self._lane(link)
        first = self._idle is not None and not self._turns and not lane.outbox and not link.closed
        if not first and (len(self._turns) >= self._queue_size or len(lane.packets) >= share or lane.full):
            return False
        self._counters["packets"] += 1
        traffic = lane.traffic
        traffic["rx"] += 1
        traffic["rx_bytes"] += len(packet)
        if first and self._begin(lane, packet):
            self._most = self._most or 1  # it is in the queue for a moment, as far as anybody can see
            return True
        lane.packets.append(packet)
        self._turns.append(lane)
        if len(self._turns) > self._most:
            self._most = len(self._turns)
        self._rouse()
        return True

    def _begin(self, lane: _Lane, packet: bytes) -> bool:
        """Begin to serve a packet that nothing is before, here and now; False if another task runs."""
        if self._task is None or asyncio.current_task() is not None:
            return False
        self._begun = begin(self._serve(lane, packet, 0), self._task)
        if self._begun is not None:
            self._rouse()
        return True

    async def _wanted(self) -> None:
        """Wait until the task has something to do."""
        self._idle = asyncio.get_running_loop().create_future()
        try:
            await self._idle
        except asyncio.CancelledError:
            if self._begun is None:
                raise
            self._begun.cancel()  # it has taken itself for the task already, and has set itself a time limit, say
        finally:
            self._idle = None

    def _rouse(self) -> None:
        """Wake the task."""
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    async def _change(self) -> None:
        """Wait until something was queued, served, sent or forgotten."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _stir(self) -> None:
        """Wake those who wait for a change."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _serve_next(self) -> None:
        """Serve the next packet, or what is left of one, of the lane whose turn it is."""
        lane = self._turns.popleft()
        if lane.link.closed:
            self._forget(lane)
        elif lane.full:
            lane.resting += 1
            self._stir()
        else:
            self._stir()
            await self._serve(lane, *lane.next())

    async def _serve(self, lane: _Lane, packet: bytes, offset: int) -> None:
        """Serve a packet's requests from that offset on, as long as the outbox has room for replies."""
        self._serving = True
        try:
            while offset < len(packet):
                if len(lane.outbox) >= OUTBOX_SIZE:
                    lane.interrupted = packet, offset
                    lane.resting += 1
                    break
                offset = await self._router.answer(lane.link, packet, offset, lane.reply)
                if lane.forgotten:
                    break
        finally:
            self._serving = False
            if self._waiters:
                self._stir()

    def _traffic(self, link: Link) -> Counters:
        """Return the counters of a link's transport."""
        transport = link.peer.transport
        if (traffic := self._traffics.get(transport)) is None:
            traffic = self._stats.group(transport, "joined", "left", "rx", "rx_bytes", "tx", "tx_bytes")
            self._traffics[transport] = traffic
        return traffic

    def _send(self, lane: _Lane, message: bytes) -> None:
        if lane.forgotten:
            return
        lane.traffic["tx"] += 1
        lane.traffic["tx_bytes"] += len(message)
        if lane.sender is None and self._sent_at_once(lane.link, message):
            return
        lane.outbox.append(message)
        if lane.sender is None and self._senders is not None:
            lane.sender = self._senders.create_task(self._empty(lane))

    def _sent_at_once(self, link: Link, message: bytes) -> bool:
        try:
            return link.send_now(message)
        except Exception:  # a transport's fault costs its own peer, not the server
            log.exception("%s: cannot send", link.peer)
            return False

    async def _empty(self, lane: _Lane) -> None:
        """Send what is in the outbox, one message after another, until it is empty."""
        try:
            while lane.outbox and not lane.link.closed:
                await lane.link.send(lane.outbox[0])
                if lane.outbox:  # it is empty if the link left just now
                    lane.outbox.popleft()
                self._wake(lane)
        except TransportError as exc:
            log.info("%s: %s replies lost: %s", lane.link.peer, len(lane.outbox), exc)
        except Exception:  # a transport's fault costs its own peer, not the server
            log.exception("%s: cannot send", lane.link.peer)
        self._counters["lost"] += len(lane.outbox)
        lane.outbox.clear()
        lane.sender = None
        self._wake(lane)

    def _wake(self, lane: _Lane) -> None:
        """Give the lane back the turns that it gave up."""
        if lane.resting and not lane.full:
            self._turns.extend([lane] * lane.resting)
            lane.resting = 0
            self._rouse()
        self._stir()

    def _forget(self, lane: _Lane) -> None:
        self._counters["lost"] += len(lane.outbox)
        lane.forgotten = True
        lane.forget_requests()
        lane.outbox.clear()
        if lane.sender is not None:
            lane.sender.cancel()
        self._lanes.pop(id(lane.link), None)
        self._turns = deque(other for other in self._turns if other is not lane)
        self._stir()

"""Small real objects that stand in for clocks, links and stores in tests."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from smp_dfu_host.config import Config, parse
from smp_dfu_host.dispatch.events import EventManager
from smp_dfu_host.dispatch.hooks import Hooks
from smp_dfu_host.dispatch.lock import DfuLock
from smp_dfu_host.dispatch.peer import Link, Peer
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.dispatch.services import ResetRequest, Services
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import StoreError, TransportError
from smp_dfu_host.store.settings import Settings
from smp_dfu_host.store.slots import SlotStore

BLE = Peer("ble", "AA:BB:CC:DD:EE:01", "ble:AA:BB:CC:DD:EE:01")
OTHER_BLE = Peer("ble", "AA:BB:CC:DD:EE:02", "ble:AA:BB:CC:DD:EE:02")
UDP = Peer("udp", "127.0.0.1:50123", "udp:127.0.0.1")
SERIAL = Peer("serial", "/dev/ttyACM0", "serial:/dev/ttyACM0")


class FakeTimer:
    """A call that FakeClock has still to make."""

    def __init__(self, due: float, number: int, callback: Callable[[], object]) -> None:
        self.due = due
        self.number = number
        self.callback = callback
        self.cancelled = False

    def __lt__(self, other: "FakeTimer") -> bool:
        return (self.due, self.number) < (other.due, other.number)

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time that stands still until it is advanced; a `Clock`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._timers: list[FakeTimer] = []
        self._number = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[..., object], /, *args: Any) -> FakeTimer:
        self._number += 1
        timer = FakeTimer(self.now + delay_s, self._number, lambda: callback(*args))
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def timers(self) -> list[float]:
        """When calls are due that are still to come, in order."""
        return sorted(timer.due for timer in self._timers if not timer.cancelled)

    def advance(self, seconds: float = 0.0) -> None:
        """Let so much time pass, making the calls that become due, in order; 0: those that are due already."""
        end = self.now + seconds
        while self._timers and self._timers[0].due <= end:
            timer = heapq.heappop(self._timers)
            self.now = max(self.now, timer.due)
            if not timer.cancelled:
                timer.callback()
        self.now = end


class FakeLink:
    """A link that keeps what is sent; `quick` sends at once, `block` makes it slow, `fail` lose the next message."""

    def __init__(self, peer: Peer = UDP, buf_size: int = 2475, *, quick: bool = False) -> None:
        self.peer = peer
        self.buf_size = buf_size
        self.quick = quick
        self.closed = False
        self.sent: list[bytes] = []
        self.sending = 0
        self.fail: Exception | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._arrived = asyncio.Event()

    def send_now(self, message: bytes) -> bool:
        assert not self.sending, "two messages at once on one link"
        if not self.quick or not self._open.is_set() or self.closed or self.fail is not None:
            return False
        self.sent.append(message)
        self._arrived.set()
        return True

    async def send(self, message: bytes) -> None:
        assert not self.sending, "two messages at once on one link"
        self.sending += 1
        try:
            await self._open.wait()
            if self.fail is not None:
                fail, self.fail = self.fail, None
                raise fail
            if self.closed:
                raise TransportError(f"{self.peer}: the link is gone")
            self.sent.append(message)
            self._arrived.set()
        finally:
            self.sending -= 1

    def block(self) -> None:
        """Let nothing through until `unblock`."""
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    async def wait_sent(self, count: int) -> list[bytes]:
        """Wait until so many messages were sent, at most some seconds."""
        async with asyncio.timeout(5):
            while len(self.sent) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.sent


@dataclass
class FakeStore:
    """What the modules see of the slot store."""

    calls: list[str] = field(default_factory=list)
    fail: StoreError | None = None

    def confirm_running(self) -> bool:
        self.calls.append("confirm")
        if self.fail is not None:
            raise self.fail
        return self.calls.count("confirm") == 1

    def drop_upload(self, owner: str) -> None:
        self.calls.append(f"drop {owner}")

    def close_uploads(self) -> None:
        self.calls.append("close")


def config(**sections: Any) -> Config:
    """Return a configuration with UDP on, changed by sections as in the file: `config(dfu={"lock": False})`."""
    return parse({"transport": {"udp": {"enabled": True}}, **sections}, Path("/"))


@dataclass
class Bench:
    """Services made of fakes, to build groups and modules on."""

    config: Config = field(default_factory=config)
    clock: FakeClock = field(default_factory=FakeClock)
    store: FakeStore = field(default_factory=FakeStore)
    lock: DfuLock = field(default_factory=DfuLock)
    hooks: Hooks = field(default_factory=Hooks)
    stats: Statistics = field(default_factory=Statistics)
    resets: list[ResetRequest] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.events = EventManager(self.clock)

    @property
    def services(self) -> Services:
        store = cast("SlotStore", self.store)
        ours = (self.config, store, self.hooks, self.events, self.stats, self.clock, self.resets.append, self.lock)
        return Services(*ours, settings=self.settings)


def at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, outside of any event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("it waits for something")


async def answers(router: Router, link: Link, packet: bytes) -> list[bytes]:
    """Return the replies to a packet."""
    replies, offset = list[bytes](), 0
    while offset < len(packet):
        offset = await router.answer(link, packet, offset, replies.append)
    return replies

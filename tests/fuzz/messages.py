"""Requests of any bytes to a router with all groups, on a real store.

Every request up to and including the one that stops its packet gets exactly one answer, with its own sequence number,
and none makes the router say "failed". The device is made anew whenever an input has changed its files, so that every
finding can be had again from its input alone.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import cbor2

from smp_dfu_host.dispatch.events import ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.lock import DfuLock
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.modules.dfu_mcumgr import DfuMcumgr
from smp_dfu_host.server import group_kinds
from smp_dfu_host.store.settings import Settings
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.wire.header import Header, Op
from tests.client import walk
from tests.fakes import Bench, FakeLink, FakeStore, answers
from tests.fuzz.recorded import frames
from tests.fuzz.wire import cut, sewn
from tests.store.builders import FLASH, config, hash_of, image

ECHO = (0, 0)
"""Group and command that change nothing, although they are written."""
RUNNING, UPDATE = image((1, 0, 0)), image((2, 0, 0), b"another payload" * 20)
SECTIONS: dict[str, Any] = {
    "flash": FLASH,
    "image": {"factory": "factory.bin"},
    "transport": {"udp": {"enabled": True}},
    "fs": {"folder": "files"},
    "shell": {"command": [{"name": "yes", "run": ["true"], "arguments": [".*"]}]},
    "settings": {"roots": ["app", "zephyr"]},
}


def check_answers(packet: bytes, replies: list[bytes]) -> None:
    """Demand one answer for each request up to and including the one that stops the packet, in order."""
    sent = walk(packet)
    stops = [bare_rc(reply) != 0 for reply in replies]
    served = stops.index(True) + 1 if True in stops else len(sent)
    assert len(replies) == served, f"{len(replies)} answers, {len(sent)} requests, {served} to be answered"
    for asked, reply in zip(sent, replies, strict=False):
        op = Op.READ_RSP if asked.op == Op.READ else Op.WRITE_RSP
        assert walk(reply) == [asked._replace(op=op)], f"{asked} was answered by {reply.hex()}"
        assert len(reply) == Header.SIZE + int.from_bytes(reply[2:4], "big")


def bare_rc(reply: bytes) -> int:
    """Return the `rc` of a reply that is an error of SMP's own; 0 for others."""
    body = cbor2.loads(reply[Header.SIZE :], str_errors="replace")
    return int(body.get("rc", 0))


class Device:
    """All groups behind a router, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kinds = group_kinds()
        self._writers = {(kind.id, row.command) for kind in self._kinds for row in kind.rows if row.op == Op.WRITE}
        self._writers.remove(ECHO)
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "a.txt").write_bytes(b"a file that is there")
        (folder / "factory.bin").write_bytes(RUNNING)
        self._config = config(folder, **SECTIONS)
        store = SlotStore(self._config)
        store.boot()
        store.confirm_running()
        self._kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self._folders = sorted(path for path in folder.rglob("*") if path.is_dir())
        self.renew()

    def renew(self) -> None:
        """Make the device as it was at first."""
        shutil.rmtree(self._folder)
        for path in (self._folder, *self._folders):
            path.mkdir()
        for path, content in self._kept.items():
            path.write_bytes(content)
        store = SlotStore(self._config)
        settings, lock = Settings(store.layout.settings), DfuLock(store.layout.lock)
        self._parts = Bench(config=self._config, store=cast("FakeStore", store), settings=settings, lock=lock)
        services = self._parts.services
        DfuMcumgr(services)
        self._router = Router([kind(services) for kind in self._kinds], self._parts.hooks, self._parts.stats)
        self._parts.events.submit(ModuleStateEvent("main", ModuleState.READY))
        self._parts.clock.advance()

    async def ask(self, packet: bytes) -> list[bytes]:
        """Return the replies to a packet."""
        return await answers(self._router, FakeLink(buf_size=1024), packet)

    async def serve(self, packets: list[bytes]) -> None:
        """Serve packets and check their answers; afterwards the device is as before."""
        try:
            for packet in packets:
                check_answers(packet, await self.ask(packet))
            assert self.failures == 0, "a request failed in a way that is not documented; the log has the traceback"
        finally:
            self._parts.clock.advance(60)  # files that were read are closed
            if any(map(self._changes, packets)):
                self.renew()

    def _changes(self, packet: bytes) -> bool:
        """Tell whether serving a packet may leave anything changed."""
        return any(asked.op == Op.WRITE and (asked.group, asked.command) in self._writers for asked in walk(packet))

    @property
    def failures(self) -> int:
        """How many requests raised what no request may raise."""
        return self._parts.stats.group("smp")["failures"]


class OneThread(asyncio.SelectorEventLoop):
    """A loop that has no other threads: what would leave it runs at once, which is faster and always in one order."""

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: object) -> asyncio.Future[Any]:
        """Run it now."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # the caller's, as from a thread
            future.set_exception(exc)
        return future


@contextmanager
def requests_to_all_groups(folder: Path) -> Iterator[Callable[[bytes], None]]:
    """Give what serves an input's packets, which are the pieces of `cut`, to a device that is as new."""
    device = Device(folder)
    with asyncio.Runner(loop_factory=OneThread) as runner:
        loop = runner.get_loop()
        yield lambda data: loop.run_until_complete(device.serve(list(cut(data))))


def request_seeds() -> Iterator[bytes]:
    """Return the recorded requests, and a whole update."""
    for frame in frames():
        if len(frame) < 250:
            yield sewn((frame,))
    yield sewn(update())


def update() -> list[bytes]:
    """Return the requests of an upload, a test, a confirm and a reset."""
    chunks = [UPDATE[at : at + 150] for at in range(0, len(UPDATE), 150)]
    bodies: list[tuple[int, int, dict[str, object]]] = [
        (1, 1, {"off": number * 150, "data": chunk, **({} if number else {"len": len(UPDATE), "image": 0})})
        for number, chunk in enumerate(chunks)
    ]
    bodies += [(1, 0, {"hash": hash_of(UPDATE), "confirm": False}), (1, 0, {"confirm": True}), (0, 5, {})]
    return [
        Header(Op.WRITE, 1, 0, len(payload), group, number, command).pack() + payload
        for number, (group, command, body) in enumerate(bodies)
        for payload in (cbor2.dumps(body),)
    ]

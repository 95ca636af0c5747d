"""Load: `scripts/load [SECONDS] [--json]`; many peers at once against one server, and one that is slow.

    UDP         PEERS peers, each with a command of its own and WINDOW requests under way
    pty         one peer that writes as fast as it can and reads SLOW_BYTES every SLOW_S seconds
    burst       then, BURST requests at once that take the server a while

Every request must be answered, without an error and in order; the 99th percentile of the UDP peers' round trips must be
at most FACTOR times the number of peers times the median of an unloaded server; the queue keeps to its size, as the
server tells it. The slow peer's own writes must come to a stand while it does not read. What the burst has too much is
dropped and counted, by the server or by the kernel. Memory and descriptors stay as they were. The exit status is 1 if
something does not hold.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import cbor2

from tests.client import HEADER, READ, WRITE, Client, LineChannel, UdpChannel, rc
from tests.leaks import descriptors, resident
from tests.target import Target, make_image, running

Command = tuple[int, int, int, Mapping[str, object]]
"""Operation, group, command and body."""
COMMANDS: Sequence[Command] = (
    (WRITE, 0, 0, {"d": "x" * 32}),
    (READ, 0, 2, {}),
    (READ, 0, 4, {}),
    (READ, 0, 6, {}),
    (READ, 0, 7, {"format": "s"}),
    (READ, 0, 8, {}),
    (READ, 1, 0, {}),
    (READ, 1, 6, {}),
    (READ, 2, 0, {"name": "smp"}),
    (READ, 2, 1, {}),
    (WRITE, 3, 2, {}),
    (READ, 8, 1, {"name": "/lfs1/file"}),
    (READ, 8, 0, {"name": "/lfs1/file", "off": 0}),
    (READ, 10, 0, {}),
    (READ, 10, 1, {}),
    (READ, 10, 2, {}),
)
"""One for each peer, over all groups that are served unless asked for otherwise."""
PEERS = len(COMMANDS)
WINDOW = 1
FACTOR = 5
UNLOADED = 30
"""Requests of each peer that are measured while nobody else is there."""
SLOW_BYTES, SLOW_S = 512, 0.02
SLOW_LIMIT = 400
"""Most requests of the slow peer that may be under way: an outbox, and what a pty holds each way."""
BURST = 200
GROWTH, DESCRIPTORS = 4 << 20, 4
ANSWER_S = 30.0
CONFIG = """
store = "store"
transport.udp = { enabled = true, port = 0 }
transport.serial = { pty = "pty" }
fs.folder = "files"
image.factory = "factory.bin"
"""


@dataclass(slots=True)
class Found:
    """What came out."""

    unloaded_s: list[float] = field(default_factory=list)
    loaded_s: list[float] = field(default_factory=list)
    slow: int = 0
    """Requests of the slow peer."""
    slow_most: int = 0
    """Most of them under way."""
    wrong: list[str] = field(default_factory=list)
    told: dict[str, float] = field(default_factory=dict)


def request(number: int, command: Command) -> bytes:
    """Return a request with that sequence number."""
    op, group, which, body = command
    payload = cbor2.dumps(body)
    return HEADER.pack(8 | op, 0, len(payload), group, number % 256, which) + payload


def fault(number: int, command: Command, answer: bytes) -> list[str]:
    """Return what is wrong with the answer to a request."""
    _, _, _, group, sequence, which = HEADER.unpack_from(answer)
    if (group, sequence, which) != (command[1], number % 256, command[2]):
        return [f"{command[:3]} number {number}: answer of {group}/{which} number {sequence}"]
    body = cbor2.loads(answer[HEADER.size :])
    return [f"{command[:3]}: {body}"] if rc(body) else []


async def peer(
    address: tuple[str, int], command: Command, until: float, trips_s: list[float], wrong: list[str]
) -> None:
    """Ask the same again and again, with WINDOW requests under way; until the time is up, or so many if negative."""
    channel = UdpChannel(*address)
    sent: list[float] = []
    answered = 0
    try:
        while True:
            more = time.monotonic() < until if until > 0 else len(sent) < -until
            if more and len(sent) - answered < (WINDOW if until > 0 else 1):
                sent.append(time.perf_counter())
                await channel.send(request(len(sent) - 1, command))
                continue
            if answered == len(sent):
                return
            async with asyncio.timeout(ANSWER_S):
                answer = await channel.receive()
            trips_s.append(time.perf_counter() - sent[answered])
            wrong += fault(answered, command, answer)
            answered += 1
    finally:
        channel.close()


async def slow(pty: Path, until: float, found: Found) -> None:
    """Write as fast as the line takes it, read slowly; in the end read what is left."""
    channel = LineChannel(pty)
    command: Command = (WRITE, 0, 0, {"d": "y" * 200})
    answered = 0

    async def write() -> None:
        while time.monotonic() < until:
            await channel.send(request(found.slow, command))
            found.slow += 1

    writing = asyncio.create_task(write())
    try:
        while not writing.done() or answered < found.slow:
            async with asyncio.timeout(ANSWER_S):
                answer = await channel.receive()
            found.wrong += fault(answered, command, answer)
            answered += 1
            found.slow_most = max(found.slow_most, found.slow - answered)
            if not writing.done():
                await asyncio.sleep(SLOW_S * len(answer) / SLOW_BYTES)
        await writing
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        channel.close()


def kernel_drops(port: int) -> int:
    """Return how many datagrams the kernel has dropped because a socket was full (proc(5), /proc/net/udp)."""
    rows = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
    return sum(int(row[12]) for row in rows if int(row[1].partition(":")[2], 16) == port)


async def counters(address: tuple[str, int], name: str) -> dict[str, int]:
    """Return a group of the server's statistics."""
    channel = UdpChannel(*address)
    try:
        return dict((await Client(channel).read(2, 0, {"name": name}))["fields"])
    finally:
        channel.close()


async def burst(address: tuple[str, int], found: Found) -> None:
    """Ask for more at once than the queue holds; what is not answered must have been counted."""
    command: Command = (READ, 1, 0, {})
    before, lost = (await counters(address, "queue"))["dropped"], kernel_drops(address[1])
    channel = UdpChannel(*address)
    answers: list[bytes] = []
    try:
        for number in range(BURST):
            await channel.send(request(number, command))
        with suppress(TimeoutError):
            while len(answers) < BURST:
                async with asyncio.timeout(2):
                    answers.append(await channel.receive())
    finally:
        channel.close()
    dropped, lost = (await counters(address, "queue"))["dropped"] - before, kernel_drops(address[1]) - lost
    numbers = [answer[6] for answer in answers]
    found.told |= {"burst_answered": len(answers), "burst_dropped": dropped, "burst_lost_by_kernel": lost}
    if numbers != sorted(numbers):
        found.wrong.append(f"burst: answers out of order: {numbers}")
    if len(answers) + dropped + lost != BURST:
        found.wrong.append(f"burst of {BURST}: {len(answers)} answered, {dropped} dropped, {lost} lost by the kernel")
    if not dropped:
        found.wrong.append(f"burst of {BURST}: nothing was dropped, the queue was not full")


async def load(target: Target, folder: Path, seconds: float) -> Found:
    """Load a server; return what came out."""
    found = Found()
    process = Path("/proc") / str(target.process.pid)
    for command in COMMANDS:
        await peer(target.udp, command, -UNLOADED, found.unloaded_s, found.wrong)
    before = resident(process), sum(descriptors(process).values())
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for command in COMMANDS:
            group.create_task(peer(target.udp, command, until, found.loaded_s, found.wrong))
        group.create_task(slow(folder / "pty", until, found))
    await burst(target.udp, found)
    judge(found, await counters(target.udp, "inbox"))
    after = resident(process), sum(descriptors(process).values())
    found.told |= {"growth_bytes": after[0] - before[0], "descriptors": after[1] - before[1]}
    if after[0] - before[0] > GROWTH or after[1] - before[1] > DESCRIPTORS:
        found.wrong.append(f"bytes and descriptors: {before}, then {after}; limits {GROWTH} and {DESCRIPTORS}")
    return found


def judge(found: Found, inbox: Mapping[str, int]) -> None:
    """Hold order and bounds, which do not depend on the machine's speed, against their limits; tell the times."""
    median, p99 = statistics.median(found.unloaded_s), statistics.quantiles(found.loaded_s, n=100)[98]
    found.told |= {
        "requests": len(found.loaded_s),
        "unloaded_ms": median * 1000,
        "p50_ms": statistics.median(found.loaded_s) * 1000,
        "p99_ms": p99 * 1000,
        "p99_ratio": p99 / (PEERS * median),
        "p99_limit": FACTOR,
        "queue_most": inbox["most"],
        "queue_size": inbox["size"],
        "slow_requests": found.slow,
        "slow_most": found.slow_most,
    }
    if inbox["most"] > inbox["size"]:
        found.wrong.append(f"queue: {inbox}")
    if found.slow_most > SLOW_LIMIT:
        found.wrong.append(f"slow peer: {found.slow_most} requests under way, limit is {SLOW_LIMIT}")


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Target]:
    """Run a server to be loaded."""
    (folder / "load.toml").write_text(CONFIG)
    make_image(folder / "factory.bin", os.urandom(20_000), "1.0.0")
    (folder / "files").mkdir()
    (folder / "files" / "file").write_bytes(bytes(1000))
    async with running(folder / "load.toml") as target:
        yield target


async def run(folder: Path, seconds: float) -> Found:
    """Load a server of its own in a folder."""
    async with server(folder) as target:
        return await load(target, folder, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="load-") as folder:
        found = asyncio.run(run(Path(folder), options.seconds))
    if found.told["p99_ratio"] > FACTOR:
        found.wrong.append(f"p99 is {found.told['p99_ratio']:.1f} times peers times unloaded median, limit is {FACTOR}")
    if options.json:
        print(json.dumps({"load": found.told, "wrong": found.wrong[:20]}))
    else:
        print("".join(f"{name:22} {value:12.3f}\n" for name, value in found.told.items()), end="")
        print("nothing wrong" if not found.wrong else "WRONG:\n" + "\n".join(found.wrong[:20]))
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())

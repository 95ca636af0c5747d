"""Soak: `scripts/soak MINUTES`; mixed clients at full speed against one real server, over UDP and a pty.

    updater     uploads, tests, resets, then confirms or resets again for the revert, over UDP
    files       uploads a file, reads it back, compares, over UDP
    line        echoes and lists over the pty; goes away in the middle of a packet and comes back
    victim      a process of its own that uploads files over UDP until it is killed

All the time the log must say nothing that is ERROR or a traceback; memory and descriptors must stay as they were after
the first tenth of the time; at the end a server that is started anew must boot, and its slots must be valid. A line a
minute says how far it is, the last one sums up. The exit status is 1 if something does not hold.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.client import IMAGE, Client, line_client, rc, udp_client
from tests.leaks import descriptors, resident
from tests.target import Target, make_image, running, start

GROWTH = 8 << 20
"""Bytes by which the server's memory may grow after it has warmed up."""
DESCRIPTORS = 8
"""Descriptors that may be open beside those after the warm-up; what is under way at a look."""
FILES = 8
STUCK_S = 20
"""Longest that a client stays at one thing; a request that a reset has swallowed may have a longer time limit."""
CONFIG = """
store = "store"
dfu.confirm_at_start = false
transport.udp = { enabled = true, port = 0 }
transport.serial = { pty = "pty" }
fs.folder = "files"
"""
_ERRORS = re.compile(r"ERROR|Traceback")


@dataclass
class Soak:
    """What the clients share."""

    target: Target
    pty: Path
    images: tuple[bytes, ...]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    """What was done how often; `lost` are requests that a reset left without an answer."""


async def update(soak: Soak, client: Client) -> None:
    """Update, and keep the new image or go back."""
    if any(each.get("pending") or (each["active"] and not each["confirmed"]) for each in await client.images()):
        await reset(soak, client)  # an update that lost an answer half-way: no slot is free until it has ended
        return
    image = soak.chance.choice(soak.images)
    async for _ in client.upload(image, 1400):
        soak.done["chunks"] += 1
    soak.done["uploads"] += 1
    candidate = next((each for each in await client.images() if each["slot"] == 1), None)
    if candidate is None or rc(await client.mark(candidate["hash"], confirm=False)) != 0:
        return
    await reset(soak, client)
    if soak.chance.random() < 0.5:
        await client.mark(None, confirm=True)
        soak.done["confirmed"] += 1
    else:
        await reset(soak, client)
        soak.done["reverted"] += 1


async def reset(soak: Soak, client: Client) -> None:
    """Reset, and wait until the server answers again."""
    await client.reset()
    await asyncio.sleep(0.5)  # longer than reset.delay_ms; before that the old life answers
    await client.images()
    soak.done["resets"] += 1


async def transfer(soak: Soak, client: Client) -> None:
    """Upload a file, read it back, and compare."""
    name, data = f"/lfs1/{soak.chance.randrange(FILES)}", soak.chance.randbytes(soak.chance.randrange(1, 20_000))
    offset = 0
    while offset < len(data):
        part = {"name": name, "off": offset, "data": data[offset : offset + 1024]}
        reply = await client.write(8, 0, part if offset else {**part, "len": len(data)})
        if rc(reply) != 0:
            return  # a reset came in between, or another client's transfer
        offset = reply["off"]
    found = b""
    while len(found) < len(data):
        reply = await client.read(8, 0, {"name": name, "off": len(found)})
        if rc(reply) != 0 or not reply["data"]:
            return
        found += reply["data"]
    assert found == data, f"{name}: {len(found)} bytes came back otherwise than they went"
    soak.done["files"] += 1


async def chat(soak: Soak, client: Client) -> None:
    """Echo and list over the pty."""
    for _ in range(20):
        text = "x" * soak.chance.randrange(1, 300)
        assert await client.echo(text) == text
        soak.done["echoes"] += 1
    assert "images" in await client.read(IMAGE, 0)


async def by_udp(soak: Soak, what: Callable[[Soak, Client], Awaitable[None]]) -> None:
    """Do something over a socket of its own."""
    async with udp_client(*soak.target.udp, timeout_s=3) as client, asyncio.timeout(STUCK_S):
        await what(soak, client)


async def by_line(soak: Soak) -> None:
    """Do something over the pty; now and then leave half a packet behind."""
    async with line_client(soak.pty, timeout_s=3) as client:
        await chat(soak, client)
        if soak.chance.random() < 0.2:
            await client.channel.write(b"\x06\x09ABAIAAAG")  # type: ignore[attr-defined]
            soak.done["disconnects"] += 1


async def kill_a_client(soak: Soak) -> None:
    """Have a client upload in a process of its own, and kill it."""
    host, port = soak.target.udp
    command = (sys.executable, "-m", "tests.soak", "--victim", host, str(port))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await asyncio.sleep(soak.chance.uniform(1, 4))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    soak.done["kills"] += 1


async def victim(host: str, port: int) -> None:
    """Upload files for ever."""
    async with udp_client(host, port) as client:
        while True:
            for offset in range(0, 100_000, 1000):
                part = {"name": "/lfs1/victim", "off": offset, "data": os.urandom(1000)}
                await client.write(8, 0, part if offset else {**part, "len": 100_000})


async def again(soak: Soak, what: Callable[[], Awaitable[None]]) -> None:
    """Do something for ever; a request that a reset swallows is no fault."""
    while True:
        try:
            await what()
        except (TimeoutError, OSError):
            soak.done["lost"] += 1
        await asyncio.sleep(0)


async def work(soak: Soak) -> None:
    """Run all clients for ever; the first that finds a fault ends all."""
    async with asyncio.TaskGroup() as group:
        group.create_task(again(soak, lambda: by_udp(soak, update)))
        group.create_task(again(soak, lambda: by_udp(soak, transfer)))
        group.create_task(again(soak, lambda: by_line(soak)))
        group.create_task(again(soak, lambda: kill_a_client(soak)))


async def watch(soak: Soak, seconds: float) -> list[str]:
    """Look at the server until the time is up; return what does not hold."""
    process = Path("/proc") / str(soak.target.process.pid)
    begun, first = time.monotonic(), None
    wrong: list[str] = []
    while (now := time.monotonic() - begun) < seconds and not wrong:
        await asyncio.sleep(min(60.0, max(1.0, seconds / 10), seconds - now))
        memory, opened = resident(process), sum(descriptors(process).values())
        first = first or (memory, opened)
        print(
            f"soak {(time.monotonic() - begun) / 60:.1f} min: {memory >> 10} KiB, {opened} open, {dict(soak.done)}",
            flush=True,
        )
        if memory - first[0] > GROWTH:
            wrong.append(f"memory grew from {first[0]} to {memory} bytes, limit is {GROWTH}")
        if opened - first[1] > DESCRIPTORS:
            wrong.append(f"descriptors grew from {first[1]} to {opened}, limit is {DESCRIPTORS}")
        wrong += errors(soak.target.log)
    return wrong


def errors(log: Path) -> list[str]:
    """Return the lines of a log that no client may cause."""
    return [line for line in log.read_text(errors="replace").splitlines() if _ERRORS.search(line)]


async def slots_are_valid(config: Path) -> list[str]:
    """Start anew on the same store; return what is wrong with its slots."""
    async with running(config) as target, udp_client(*target.udp) as client:
        return faulty(await client.images())


def faulty(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with an image list: one image must run, and be one that boots."""
    active = [each for each in images if each.get("active")]
    return [] if len(active) == 1 and active[0].get("bootable") else [f"no image runs: {images}"]


async def soak(folder: Path, seconds: float, seed: int) -> tuple[Counter[str], list[str]]:
    """Soak a server in a folder; return what was done, and what does not hold."""
    config = folder / "soak.toml"
    factory = make_image(folder / "factory.bin", os.urandom(20_000), "1.0.0")
    config.write_text(f'{CONFIG}\n[image]\nfactory = "factory.bin"\n')
    images = tuple(make_image(folder / f"{number}.bin", os.urandom(40_000), f"{number}.0.0") for number in (2, 3, 4))
    target = await start(config)
    try:
        shared = Soak(target, folder / "pty", (*images, factory), random.Random(seed))
        clients = asyncio.create_task(work(shared))
        watcher = asyncio.create_task(watch(shared, seconds))
        await asyncio.wait((clients, watcher), return_when=asyncio.FIRST_COMPLETED)
        for task in (clients, watcher):
            task.cancel()
        outcomes = await asyncio.gather(clients, watcher, return_exceptions=True)
    finally:
        await target.stop()
    faults = [repr(each) for each in outcomes if isinstance(each, Exception)]
    faults += outcomes[1] if isinstance(outcomes[1], list) else []
    return shared.done, faults + errors(target.log) + await slots_are_valid(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--victim", nargs=2, metavar=("HOST", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.victim:
        asyncio.run(victim(options.victim[0], int(options.victim[1])))
    print(f"soak: {options.minutes:g} minutes, --seed {options.seed}", flush=True)
    with TemporaryDirectory() as folder:
        done, wrong = asyncio.run(soak(Path(folder), options.minutes * 60, options.seed))
    print(f"soak: {dict(done)}; {'nothing wrong' if not wrong else 'WRONG:'}")
    print("".join(f"  {line}\n" for line in wrong[:20]), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

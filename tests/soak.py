"""Soak: `scripts/soak MINUTES`; mixed clients at full speed against one real server, over UDP and a pty.

    updater     uploads, tests, resets, then confirms or resets again for the revert, over UDP
    files       uploads a file, reads it back, compares, over UDP
    line        echoes and lists over the pty; goes away in the middle of a packet and comes back
    victim      a process of its own that uploads files over UDP until it is killed

All the time each client must get on: who finishes no round for a minute is named, and the soak has failed. The log must
say nothing that is ERROR or a traceback. Memory and descriptors must stay as they were at the first look, after a
minute or a tenth of the time. At the end a server that is started anew must boot, and its slots must be valid. A line
a minute says how far it is, the last one sums up. The exit status is 1 if something does not hold.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.client import udp_client
from tests.leaks import descriptors, resident
from tests.soak_clients import CLIENTS, Progress, Soak, work
from tests.target import make_image, running, start

GROWTH = 8 << 20
"""Bytes by which the server's memory may grow after it has warmed up."""
DESCRIPTORS = 8
"""Descriptors that may be open beside those after the warm-up; what is under way at a look."""
CONFIG = """
store = "store"
dfu.confirm_at_start = false
transport.udp = { enabled = true, port = 0 }
transport.serial = { pty = "pty" }
fs.folder = "files"
"""
_ERRORS = re.compile(r"ERROR|Traceback")


async def watch(soak: Soak, seconds: float) -> list[str]:
    """Look at the server until the time is up; return what does not hold."""
    process = Path("/proc") / str(soak.target.process.pid)
    begun, first = time.monotonic(), None
    wrong: list[str] = []
    while (now := time.monotonic() - begun) < seconds and not wrong:
        wrong += await still(soak.progress, min(60.0, max(1.0, seconds / 10), seconds - now))
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


async def still(progress: Progress, seconds: float) -> list[str]:
    """Wait for so long; return at once what is to be said of a client that stands still."""
    end = time.monotonic() + seconds
    while not (said := progress.look()) and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(1.0, left))
    return said


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
    images = {"1.0.0": factory}
    for version in ("2.0.0", "3.0.0", "4.0.0"):
        images[version] = make_image(folder / f"{version}.bin", os.urandom(40_000), version)
    target = await start(config)
    try:
        shared = Soak(target, folder / "pty", images, random.Random(seed), Progress(CLIENTS))
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
    print(f"soak: longest without a finished round, in s: {shared.progress.longest}")
    return shared.done, faults + errors(target.log) + await slots_are_valid(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args(arguments)
    print(f"soak: {options.minutes:g} minutes, --seed {options.seed}", flush=True)
    with TemporaryDirectory() as folder:
        done, wrong = asyncio.run(soak(Path(folder), options.minutes * 60, options.seed))
    print(f"soak: {dict(done)}; {'nothing wrong' if not wrong else 'WRONG:'}")
    print("".join(f"  {line}\n" for line in wrong[:20]), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

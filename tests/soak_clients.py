"""The clients of tests/soak.py: each does its rounds for ever, and who stands still is named."""

import asyncio
import os
import random
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.client import IMAGE, Client, line_client, rc, udp_client
from tests.target import Target

FILES = 8
STUCK_S = 20
"""Longest that a client stays at one round."""
ANSWER_S = 1
"""How long a client waits for an answer; a reset swallows requests, and whoever waits long does not soak."""
PROGRESS_S = 60
"""Longest that a client may go without finishing a round."""


class Progress:
    """When each client has finished a round, in seconds of the clock; all begin now."""

    def __init__(self, clients: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._finished = dict.fromkeys(clients, clock())
        self.longest = dict.fromkeys(clients, 0.0)
        """The longest that each has gone without."""

    def finish(self, client: str) -> None:
        """Note that a client has finished a round."""
        self.look()
        self._finished[client] = self._clock()

    def look(self) -> list[str]:
        """Return what is to be said of clients that stand still."""
        for client, finished in self._finished.items():
            self.longest[client] = max(self.longest[client], round(self._clock() - finished, 1))
        still = [client for client, longest in self.longest.items() if longest > PROGRESS_S]
        return [f"{client} finished nothing for {self.longest[client]} s, limit is {PROGRESS_S} s" for client in still]


@dataclass
class Soak:
    """What the clients share."""

    target: Target
    pty: Path
    images: Mapping[str, bytes]
    """By their versions."""
    chance: random.Random
    progress: Progress
    sequence: int = 0
    """Number of the last request on the line; an answer that is late meets the next client there."""
    done: Counter[str] = field(default_factory=Counter)
    """What was done how often; `lost by` a client are rounds that a reset left without an answer."""


async def update(soak: Soak, client: Client) -> bool:
    """Update, and keep the new image or go back."""
    images = await client.images()
    if any(each.get("pending") or (each["active"] and not each["confirmed"]) for each in images):
        await reset(soak, client)  # an update that lost an answer half-way: no slot is free until it has ended
        return False
    old = await runs(client)
    new = soak.chance.choice([version for version in soak.images if version != old])
    async for _ in client.upload(soak.images[new], 1400):
        soak.done["chunks"] += 1
    soak.done["uploads"] += 1
    candidate = next(each for each in await client.images() if each["slot"] == 1)
    assert candidate["version"] == new, f"{candidate} was uploaded as {new}"
    assert rc(reply := await client.mark(candidate["hash"], confirm=False)) == 0, f"test of {new}: {reply}"
    await reset(soak, client)
    assert await runs(client) == new, f"{new} was to be tested: {await client.images()}"
    if soak.chance.random() < 0.5:
        assert rc(reply := await client.mark(None, confirm=True)) == 0, f"confirmation of {new}: {reply}"
        soak.done["confirmed"] += 1
    else:
        await reset(soak, client)
        assert await runs(client) == old, f"{old} was to come back: {await client.images()}"
        soak.done["reverted"] += 1
    return True


async def runs(client: Client) -> str:
    """Return the version that runs."""
    return str(next(each["version"] for each in await client.images() if each["active"]))


async def reset(soak: Soak, client: Client) -> None:
    """Reset, and wait until the server answers in its next life.

    Time alone does not tell: on a busy machine the old life may answer long after reset.delay_ms, and then take the
    next request with it.
    """
    lives = await boots(client)
    await client.reset()
    while await boots(client) == lives:  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0.05)
    soak.done["resets"] += 1


async def boots(client: Client) -> int:
    """Return how often the boot loader has run; a reset swallows requests, so this asks until it is answered."""
    while True:
        with suppress(TimeoutError):
            return int((await client.read(2, 0, {"name": "flash"}, timeout_s=ANSWER_S))["fields"]["boots"])


async def transfer(soak: Soak, client: Client) -> bool:
    """Upload a file, read it back, and compare."""
    name, data = f"/lfs1/{soak.chance.randrange(FILES)}", soak.chance.randbytes(soak.chance.randrange(1, 20_000))
    offset = 0
    while offset < len(data):
        part = {"name": name, "off": offset, "data": data[offset : offset + 1024]}
        reply = await client.write(8, 0, part if offset else {**part, "len": len(data)})
        if rc(reply) != 0:
            return False  # a reset came in between, or another client's transfer
        offset = reply["off"]
    found = b""
    while len(found) < len(data):
        reply = await client.read(8, 0, {"name": name, "off": len(found)})
        if rc(reply) != 0 or not reply["data"]:
            return False
        found += reply["data"]
    assert found == data, f"{name}: {len(found)} bytes came back otherwise than they went"
    soak.done["files"] += 1
    return True


async def chat(soak: Soak, client: Client) -> None:
    """Echo and list over the pty."""
    for _ in range(20):
        text = "x" * soak.chance.randrange(1, 300)
        assert (found := await client.echo(text)) == text, f"{text} came back as {found}, number {client.sequence}"
        soak.done["echoes"] += 1
    assert "images" in await client.read(IMAGE, 0)


async def by_udp(soak: Soak, what: Callable[[Soak, Client], Awaitable[bool]]) -> bool:
    """Do something over a socket of its own."""
    async with udp_client(*soak.target.udp, timeout_s=ANSWER_S) as client, asyncio.timeout(STUCK_S):
        return await what(soak, client)


async def by_line(soak: Soak) -> bool:
    """Do something over the pty; now and then leave half a packet behind."""
    options = {"timeout_s": ANSWER_S, "sequence": soak.sequence}
    async with line_client(soak.pty, **options) as client, asyncio.timeout(STUCK_S):
        try:
            await chat(soak, client)
        finally:
            soak.sequence = client.sequence
        if soak.chance.random() < 0.2:
            await client.channel.write(b"\x06\x09ABAIAAAG")  # type: ignore[attr-defined]
            soak.done["disconnects"] += 1
    return True


async def kill_a_client(soak: Soak) -> bool:
    """Have a client upload in a process of its own, and kill it in the middle of that."""
    host, port = soak.target.udp
    command = (sys.executable, "-m", "tests.soak_clients", host, str(port))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        async with asyncio.timeout(STUCK_S):
            assert process.stdout is not None
            assert await process.stdout.readline(), "the victim ended before it was killed"
        await asyncio.sleep(soak.chance.uniform(0, 2))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    soak.done["kills"] += 1
    return True


async def victim(host: str, port: int) -> None:
    """Upload files for ever; say so when it has begun."""
    async with udp_client(host, port, timeout_s=ANSWER_S) as client:
        while True:
            with suppress(TimeoutError):
                for offset in range(0, 100_000, 1000):
                    part = {"name": "/lfs1/victim", "off": offset, "data": os.urandom(1000)}
                    await client.write(8, 0, part if offset else {**part, "len": 100_000})
                    if not offset:
                        print("uploading", flush=True)


CLIENTS: Mapping[str, Callable[[Soak], Awaitable[bool]]] = {
    "updater": lambda soak: by_udp(soak, update),
    "files": lambda soak: by_udp(soak, transfer),
    "line": by_line,
    "victim": kill_a_client,
}
"""Each does a round, and returns whether that came to its end."""


async def again(soak: Soak, name: str) -> None:
    """Do a client's rounds for ever; a request that a reset swallows is no fault."""
    while True:
        try:
            if await CLIENTS[name](soak):
                soak.progress.finish(name)
        except (TimeoutError, OSError):
            soak.done[f"lost by {name}"] += 1
        await asyncio.sleep(0)


async def work(soak: Soak) -> None:
    """Run all clients for ever; the first that finds a fault ends all."""
    async with asyncio.TaskGroup() as group:
        for name in CLIENTS:
            group.create_task(again(soak, name))


if __name__ == "__main__":
    asyncio.run(victim(sys.argv[1], int(sys.argv[2])))

"""`kill -9` of a real server while settings and files are written: what was answered is there afterwards, whole."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from tests.client import Client, udp_client
from tests.target import start

KILLS = 8
CONFIG = """
store = "store"
transport.udp = { enabled = true, port = 0 }
fs.folder = "files"
"""
SETTINGS, FILES = 3, 8
SAVE = 3


@pytest.mark.slow
async def test_what_was_saved_is_not_lost_by_kill_9(tmp_path: Path) -> None:
    config = tmp_path / "target.toml"
    config.write_text(CONFIG)
    chance = random.Random(1)
    saved = written = 0
    target = await start(config)
    try:
        for _ in range(KILLS):
            counts = Counts()
            async with udp_client(*target.udp) as client:
                count = asyncio.create_task(counts.run(client, saved, written))
                await asyncio.wait_for(counts.reached.wait(), 30)
                await asyncio.sleep(chance.uniform(0, 0.02))  # somewhere in the middle of the next ones
                await target.kill()
                count.cancel()
                with suppress(asyncio.CancelledError):
                    await count
            target = await start(config)
            async with udp_client(*target.udp) as client:
                found = int((await client.read(SETTINGS, 0, {"name": "app/count"}))["val"])
                size = (await client.read(FILES, 1, {"name": "/lfs1/log"}))["len"]
            assert found in (counts.saved, counts.saved + 1)
            assert size in (counts.written, counts.written + 5)
            saved, written = found, size
    finally:
        await target.stop()


class Counts:
    """Counts in a setting and in a file, and how far the answers say that it came."""

    def __init__(self) -> None:
        self.saved = 0
        self.written = 0
        self.reached = asyncio.Event()

    async def run(self, client: Client, saved: int, written: int) -> None:
        self.saved, self.written = saved, written
        for number in range(10_000):
            assert await client.write(SETTINGS, 0, {"name": "app/count", "val": b"%d" % (self.saved + 1)}) == {}
            assert await client.write(SETTINGS, SAVE, {}) == {}
            self.saved += 1
            body = {"name": "/lfs1/log", "off": self.written, "data": b"12345", "len": 1 << 20}
            self.written = (await client.write(FILES, 0, body))["off"]
            if number == 5:
                self.reached.set()

"""`kill -9` of a real server at random moments of uploads: what was answered is not lost.

    SMP_KILLS=50 python -m pytest tests/faults/test_kill.py -s

One store sees all the kills. Each round uploads another image until the kill, which comes between an answer and the
next, or while a chunk is on its way; then a new server on the same store must have every byte that was answered, go on
from there, and end with an image that is right.
"""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.client import Client, udp_client
from tests.target import Target, make_image, running, start

KILLS = int(os.environ.get("SMP_KILLS", "50"))
"""How many uploads are interrupted."""

SEED = int(os.environ.get("SMP_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
"""Printed; give it as SMP_SEED to repeat a run as far as the clock allows."""

CONFIG = """
store = "store"
transport.udp = { enabled = true, port = 0 }
"""


class Upload:
    """An upload that is going to be cut off, and how far it came."""

    def __init__(self, image: bytes, size: int, stop_at: int) -> None:
        self.image = image
        self.size = size
        self.answered = 0
        """Bytes that the server said it has."""
        self.stop = asyncio.Event()
        """Set when it has come as far as it should."""
        self._stop_at = stop_at

    async def run(self, client: Client) -> None:
        async for offset in client.upload(self.image, self.size):
            self.answered = offset
            if self.answered >= self._stop_at:
                self.stop.set()
        self.stop.set()


@pytest.mark.slow
async def test_nothing_that_was_answered_is_lost_by_kill_9(tmp_path: Path) -> None:
    print(f"\n{KILLS} kills, SMP_SEED={SEED}")
    chance = random.Random(SEED)
    config = tmp_path / "target.toml"
    config.write_text(CONFIG)
    base = make_image(tmp_path / "image.bin", bytes(30_000), "1.2.3")
    target = await start(config)
    try:
        for number in range(KILLS):
            image = another(base, number)
            answered = await upload_until_killed(target, image, chance)
            read_slots(config)
            target = await start(config)
            resumed = await finish(target, image, answered, f"SMP_SEED={SEED} kill {number}")
            print(f"kill {number}: {answered} of {len(image)} bytes answered, {resumed} found")
    finally:
        await target.stop()


async def upload_until_killed(target: Target, image: bytes, chance: random.Random) -> int:
    """Upload until the server is killed under it, at any moment; return how many bytes were answered."""
    size = chance.choice((200, 400, 1000))
    upload = Upload(image, size, chance.randrange(len(image) + size))
    async with udp_client(*target.udp) as client:
        running_upload = asyncio.create_task(upload.run(client))
        stop = asyncio.create_task(upload.stop.wait())
        await asyncio.wait([running_upload, stop], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(chance.random() * 0.005)  # a random moment: nothing is waited for
        await target.kill()
        stop.cancel()
        running_upload.cancel()
        with suppress(asyncio.CancelledError):
            await running_upload
    return upload.answered


async def finish(target: Target, image: bytes, answered: int, label: str) -> int:
    """Go on with the upload by its hash; return where the new server took it up."""
    async with udp_client(*target.udp) as client:
        if await uploaded_hash(client) == image_hash(image):
            return len(image)  # the last chunk was written before the kill, and perhaps answered
        offsets = [offset async for offset in client.upload(image)]
        assert answered <= offsets[0], f"{label}: {answered} bytes were answered, {offsets[0]} are left"
        assert offsets[-1] == len(image), label
        assert await uploaded_hash(client) == image_hash(image), label
        return offsets[0]


async def uploaded_hash(client: Client) -> bytes | None:
    """Return the hash of what is in the second slot, None if there is no image."""
    return next((bytes(entry["hash"]) for entry in await client.images() if entry["slot"] == 1), None)


def another(image: bytes, number: int) -> bytes:
    """Return the image with another payload, and the hash that belongs to it."""
    size = 0x200 + 30_000
    body = image[: size - 4] + number.to_bytes(4, "big")
    return body + image[size:].replace(image_hash(image), hashlib.sha256(body).digest())


def image_hash(image: bytes) -> bytes:
    """Return the hash of an image without protected TLVs: of header and payload."""
    return hashlib.sha256(image[: 0x200 + 30_000]).digest()


def read_slots(config: Path) -> None:
    """Read the slots by the command that users have; the server is dead."""
    command = [sys.executable, "-m", "smp_dfu_host", "slots", "--json", "--config", str(config)]
    json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


async def test_killed_server_leaves_the_pty_and_the_store_to_the_next(tmp_path: Path) -> None:
    config = tmp_path / "target.toml"
    config.write_text(CONFIG + 'transport.serial.pty = "line"\n')
    first = await start(config)
    await first.kill()
    assert (tmp_path / "line").is_symlink()
    async with running(config) as second, udp_client(*second.udp) as client:
        assert await client.echo("back") == "back"
    assert not (tmp_path / "line").is_symlink()

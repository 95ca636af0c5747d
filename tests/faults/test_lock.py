"""The DFU lock between real processes: two peers over UDP and a pty, and the command line beside them.

nrf-desktop-dfu.md section 3. Who holds the lock is found out only by what peers are told.
"""

import asyncio
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.client import EACCESSDENIED, Client, line_client, rc, udp_client
from tests.target import Target, make_image, running

CHUNK = 400


@dataclass(frozen=True, slots=True)
class Stage:
    """A running target, two peers, and the image that each wants to upload."""

    target: Target
    config: Path
    first: Client
    """By UDP."""
    second: Client
    """By the pty."""
    image: bytes
    other: bytes
    timeout_s: float
    """Of the lock."""


@asynccontextmanager
async def stage(folder: Path, timeout_ms: int) -> AsyncIterator[Stage]:
    config, line = folder / "target.toml", folder / "line"
    config.write_text(
        f"""
        store = "store"
        dfu.timeout_ms = {timeout_ms}
        transport.udp = {{ enabled = true, port = 0 }}
        transport.serial.pty = "line"
        """
    )
    image = make_image(folder / "image.bin", bytes(20_000), "1.0.0")
    other = make_image(folder / "other.bin", bytes(20_001), "2.0.0")
    async with running(config) as target, udp_client(*target.udp) as first, line_client(line) as second:
        yield Stage(target, config, first, second, image, other, timeout_ms / 1000)


async def go_on(client: Client, image: bytes, offset: int) -> int:
    """Send the chunk at the offset; return the next one that the server wants."""
    reply = await client.chunk(image, offset, CHUNK)
    assert rc(reply) == 0, reply
    return int(reply["off"])


async def test_second_peer_may_read_but_not_write_or_reset(tmp_path: Path) -> None:
    async with stage(tmp_path, 60_000) as at:
        offset = (await at.first.begin(at.image, CHUNK))["off"]
        assert rc(await at.second.begin(at.other, CHUNK)) == EACCESSDENIED
        assert rc(await at.second.mark(None, confirm=True)) == EACCESSDENIED
        assert rc(await at.second.write(1, 5, {"slot": 1})) == EACCESSDENIED
        assert rc(await at.second.reset()) == EACCESSDENIED
        assert [entry["slot"] for entry in await at.second.images()] == [0]
        assert await at.second.echo("still") == "still"
        assert await go_on(at.first, at.image, offset) == offset + CHUNK


async def test_second_process_may_read_but_not_write(tmp_path: Path) -> None:
    async with stage(tmp_path, 60_000) as at:
        offset = (await at.first.begin(at.image, CHUNK))["off"]
        for refused in (["load", str(tmp_path / "other.bin")], ["erase"], ["confirm"]):
            done = await command(at.config, *refused)
            assert done.returncode == 1, refused
            assert "lock" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert (await command(at.config, "--json")).returncode == 0
        assert await go_on(at.first, at.image, offset) == offset + CHUNK


async def command(config: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `slots ...` as a process of its own."""
    whole = [sys.executable, "-m", "smp_dfu_host", "slots", *arguments, "--config", str(config)]
    return await asyncio.to_thread(subprocess.run, whole, capture_output=True, text=True)


@pytest.mark.slow
async def test_second_takes_over_after_5_s_of_silence_and_the_first_begins_anew(tmp_path: Path) -> None:
    """Retries neither keep the first one's lock alive nor free it early."""
    async with stage(tmp_path, 5000) as at:
        offset = (await at.first.begin(at.image, CHUNK))["off"]
        for _ in range(3):
            offset = await go_on(at.first, at.image, offset)
        silent_since = time.monotonic()
        refused_at: list[float] = []
        while rc(reply := await at.second.begin(at.other, CHUNK)) == EACCESSDENIED:
            refused_at.append(time.monotonic() - silent_since)
            assert refused_at[-1] < 8, "the retries keep the lock alive"
            await asyncio.sleep(1 if len(refused_at) < 4 else 0.1)  # the second one's own pace
        taken_at = time.monotonic() - silent_since
        assert (rc(reply), reply["off"]) == (0, CHUNK)
        assert 4.9 < taken_at < 7, "freed early, or late"
        assert rc(await at.first.chunk(at.image, offset, CHUNK)) == EACCESSDENIED
        await asyncio.sleep(5.5)  # now the second one is silent
        assert (await at.first.begin(at.image, CHUNK))["off"] == CHUNK, "the upload must start from 0"


@pytest.mark.parametrize("silence", [0.5, 2.0], ids=["inside", "after"])
async def test_first_that_comes_back_with_nobody_between_goes_on(tmp_path: Path, silence: float) -> None:
    async with stage(tmp_path, 1000) as at:
        offset = (await at.first.begin(at.image, CHUNK))["off"]
        offset = await go_on(at.first, at.image, offset)
        await asyncio.sleep(silence * at.timeout_s)  # the silence is what is tested
        async with udp_client(*at.target.udp) as again:  # another port: the same peer
            assert (await again.begin(at.image, CHUNK))["off"] == offset
            assert await go_on(again, at.image, offset) == offset + CHUNK


async def test_killed_holder_frees_the_lock_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path, 60_000) as at:
        holder = await hold_the_lock(tmp_path / "store" / "dfu.lock")
        assert rc(await at.first.begin(at.image, CHUNK)) == EACCESSDENIED
        holder.kill()
        await holder.wait()
        assert rc(await at.first.begin(at.image, CHUNK)) == 0


async def test_killed_server_frees_the_lock_for_the_command_line_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path, 60_000) as at:
        assert rc(await at.first.begin(at.image, CHUNK)) == 0
        assert (await command(at.config, "erase")).returncode == 1
        await at.target.kill()
        assert (await command(at.config, "erase")).returncode == 0


HOLDER = """
import sys
from pathlib import Path
from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
lock = DfuLock(Path(sys.argv[1]))
lock.claim(LockOwner("local:test"))
print("held", flush=True)
sys.stdin.read()
"""


async def hold_the_lock(path: Path) -> Process:
    """Start a process that claims the lock and keeps it."""
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(path), stdin=PIPE, stdout=PIPE)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    return holder

"""`scripts/demo`: smpclient, which we did not write, updates a target that runs as a process of its own.

Three times, each in a store of its own that is thrown away afterwards:

1. `confirm_at_start = false`: the update is confirmed by the client, and stays.
2. the same without the confirm: the next reset takes the old image back.
3. the default: the target confirms what it runs, as nRF Desktop does.

Everything that is claimed is checked; the exit status is 1 if something is not as it should be.
"""

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from smp.image_management import ImageState
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.transport.udp import SMPUDPTransport

from tests.target import Key, Target, make_image, make_key, running

IMAGE_SIZE = 200_000
"""Bytes of payload in each of the two images."""

BACK_S = 30.0
"""The target must be back after a reset within so long, even on a busy machine; in seconds."""

FALL = b": left"
"""In the target's log where it drops a link."""

console = Console(highlight=False)


class DemoError(Exception):
    """Something is not as it should be; the message says what."""


class Udp(SMPUDPTransport):
    """smpclient's UDP transport at an address with a port."""

    async def connect(self, address: str, timeout_s: float, port: int = 1337) -> None:
        """Connect to `HOST:PORT`."""
        host, _, number = address.rpartition(":")
        await super().connect(host, timeout_s, int(number))


@dataclass(frozen=True, slots=True)
class Scene:
    """One run: a target's folder and the two images."""

    folder: Path
    old: bytes
    new: bytes

    @property
    def config(self) -> Path:
        """The target's configuration file."""
        return self.folder / "target.toml"


@asynccontextmanager
async def client(target: Target, timeout_s: float = 5.0) -> AsyncIterator[SMPClient]:
    """Connect an smpclient to the target."""
    host, port = target.udp
    connected = SMPClient(Udp(), f"{host}:{port}", timeout_s)
    await connected.connect()
    try:
        yield connected
    finally:
        await connected.disconnect()


async def images(target: Target, timeout_s: float = 5.0) -> list[ImageState]:
    """Ask for the list of images."""
    async with client(target, timeout_s) as asking:
        answer = await asking.request(ImageStatesRead())
        if not success(answer):
            raise DemoError(f"the image list was refused: {answer}")
        return answer.images


async def upload(target: Target, image: bytes) -> float:
    """Upload the image with a progress bar; return the speed in kB/s."""
    columns = (TextColumn("  upload"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    began = time.monotonic()
    async with client(target) as uploading:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("upload", total=len(image))
            async for offset in uploading.upload(image, upgrade=False):
                progress.update(bar, completed=offset)
    return len(image) / 1000 / (time.monotonic() - began)


async def mark(target: Target, image_hash: bytes | None, *, confirm: bool) -> list[ImageState]:
    """Mark an image for a test boot, or confirm; return the list of images after it."""
    async with client(target) as marking:
        answer = await marking.request(ImageStatesWrite(hash=image_hash, confirm=confirm))
        if not success(answer):
            raise DemoError(f"{'confirm' if confirm else 'test'} was refused: {answer}")
        return answer.images


async def reset(target: Target) -> float:
    """Reset the target; return after how many seconds it answers again."""
    falls = target.log.read_bytes().count(FALL)
    async with client(target) as resetting:
        await resetting.request(ResetWrite())
    began = time.monotonic()
    async with asyncio.timeout(BACK_S):
        # Until it falls it answers as before. UDP does not tell a client when that is; its log does.
        while target.log.read_bytes().count(FALL) == falls:  # noqa: ASYNC110  (another process writes the log)
            await asyncio.sleep(0.02)
        while not await answers(target):
            pass
    return time.monotonic() - began


async def answers(target: Target) -> bool:
    """Tell whether the target answers just now."""
    try:
        await images(target, 0.2)
    except TimeoutError:
        return False
    return True


def show(scene: Scene, title: str) -> None:
    """Draw the slots, by the command that users have."""
    console.print(f"[bold]{title}[/]")
    command = [sys.executable, "-m", "smp_dfu_host", "slots", "--config", str(scene.config)]
    sys.stdout.flush()
    subprocess.run(command, check=True, env={**os.environ, **({"FORCE_COLOR": "1"} if console.is_terminal else {})})


def say(words: str) -> None:
    """Tell what was just done."""
    console.print(f"  {words}")


def expect(found: list[ImageState], version: str, *, confirmed: bool, when: str) -> None:
    """Check which image runs, and whether it is confirmed."""
    running_now = next((image for image in found if image.active), None)
    if running_now is None:
        raise DemoError(f"{when}: no image is active in {found}")
    got = (running_now.version, bool(running_now.confirmed))
    if got != (version, confirmed):
        raise DemoError(f"{when}: version and confirmed are {got}, should be {(version, confirmed)}")
    say(f"{when}: version {version} runs, confirmed: {str(confirmed).lower()}")


async def test_boot(target: Target, scene: Scene) -> tuple[float, float]:
    """Upload, mark for test, reset; return the speed in kB/s and the seconds of the reset."""
    speed = await upload(target, scene.new)
    waiting = [image for image in await images(target) if not image.active]
    if len(waiting) != 1:
        raise DemoError(f"one image should wait in the other slot, found {waiting}")
    await mark(target, waiting[0].hash, confirm=False)
    say("marked for a test boot; reset")
    return speed, await reset(target)


async def confirmed_by_client(target: Target, scene: Scene) -> str:
    """Run 1: the client confirms; return the line that says how it went."""
    began = time.monotonic()
    expect(await images(target), "1.0.0", confirmed=True, when="before")
    speed, away_s = await test_boot(target, scene)
    expect(await images(target), "2.0.0", confirmed=False, when="after the reset")
    expect(await mark(target, None, confirm=True), "2.0.0", confirmed=True, when="after the confirm")
    took_s = time.monotonic() - began
    await reset(target)
    expect(await images(target), "2.0.0", confirmed=True, when="after one more reset")
    return (
        f"updated 1.0.0 to 2.0.0 over UDP in {took_s:.1f} s: {len(scene.new)} bytes at {speed:.0f} kB/s, "
        f"back {away_s:.1f} s after the reset"
    )


async def reverted(target: Target, scene: Scene) -> str:
    """Run 2: nobody confirms; return the line that says how it went."""
    await test_boot(target, scene)
    expect(await images(target), "2.0.0", confirmed=False, when="after the reset")
    say("not confirmed; reset")
    await reset(target)
    expect(await images(target), "1.0.0", confirmed=True, when="after the second reset")
    return "without the confirm 1.0.0 came back at the next reset"


async def confirmed_at_start(target: Target, scene: Scene) -> str:
    """Run 3: the target confirms by itself; return the line that says how it went."""
    await test_boot(target, scene)
    expect(await images(target), "2.0.0", confirmed=True, when="after the reset")
    return "with confirm_at_start it was confirmed after the reset"


async def demonstrate(folder: Path) -> list[str]:
    """Do the three runs; return a line about each."""
    key = make_key(folder)
    old = make_image(folder / "v1.bin", os.urandom(IMAGE_SIZE), "1.0.0", key)
    new = make_image(folder / "v2.bin", os.urandom(IMAGE_SIZE), "2.0.0", key)
    lines = []
    for title, run, at_start in (
        ("1. The client confirms", confirmed_by_client, False),
        ("2. Nobody confirms", reverted, False),
        ("3. The target confirms what it runs (the default)", confirmed_at_start, True),
    ):
        console.rule(f"[bold]{title}[/]", align="left")
        scene = prepare(folder / title[0], key, old, new, at_start=at_start)
        async with running(scene.config) as target:
            show(scene, "the slots before")
            lines.append(await run(target, scene))
            show(scene, "the slots after")
    return lines


def prepare(folder: Path, key: Key, old: bytes, new: bytes, *, at_start: bool) -> Scene:
    """Make a folder with the configuration of a target whose factory image is the old one."""
    folder.mkdir()
    scene = Scene(folder, old, new)
    (folder / "factory.bin").write_bytes(old)
    scene.config.write_text(
        f"""
        store = "store"
        dfu.confirm_at_start = {str(at_start).lower()}
        bootloader.keys = ["{key.public}"]
        image.factory = "factory.bin"
        transport.udp = {{ enabled = true, port = 0 }}
        """
    )
    return scene


def main() -> int:
    """Run the demo; return the exit status."""
    logging.getLogger("smpclient").setLevel(logging.CRITICAL)  # it logs each time-out while the target is away
    with tempfile.TemporaryDirectory(prefix="smp-dfu-host-demo-") as folder:
        try:
            lines = asyncio.run(demonstrate(Path(folder)))
        except (DemoError, TimeoutError, RuntimeError) as exc:
            print(f"demo: FAILED: {exc}", file=sys.stderr)
            for log in Path(folder).glob("*/*.log"):
                print(f"--- {log.relative_to(folder)}\n{log.read_text()}", file=sys.stderr)
            return 1
    print("demo: " + "; ".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

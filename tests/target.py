"""A real target as a process of its own, and the images for it; what the demo and the fault tests work with."""

import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_S = 60.0
"""A target that is not ready by then is broken, even on a busy machine; in seconds."""


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key pair in PEM files."""

    private: Path
    public: Path


def make_key(folder: Path, kind: str = "ecdsa-p256") -> Key:
    """Make a key pair with imgtool."""
    key = Key(folder / "signing-key.pem", folder / "public-key.pem")
    imgtool("keygen", "-k", key.private, "-t", kind)
    imgtool("getpub", "-k", key.private, "-e", "pem", "-o", key.public)
    return key


def make_image(path: Path, payload: bytes, version: str, key: Key | None = None) -> bytes:
    """Make an image with imgtool for the default slots, signed or with a hash alone; return its bytes."""
    raw = path.with_suffix(".payload")
    raw.write_bytes(payload)
    signing = () if key is None else ("-k", key.private)
    layout = ("--header-size", "0x200", "--pad-header", "--align", "8", "--slot-size", str(118 * 4096))
    imgtool("sign", *signing, "--version", version, *layout, raw, path)
    return path.read_bytes()


def imgtool(*arguments: str | Path) -> None:
    """Run imgtool as users do."""
    command = [sys.executable, "-c", "from imgtool.main import imgtool; imgtool()", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=DEVNULL, capture_output=True)


@dataclass(frozen=True, slots=True)
class Target:
    """A running server."""

    process: Process
    ready: Mapping[str, Any]
    """Its ready line."""
    log: Path
    """Where its messages go."""

    @property
    def udp(self) -> tuple[str, int]:
        """Where it listens."""
        where = next(entry for entry in self.ready["transports"] if entry["transport"] == "udp")
        return str(where["host"]), int(where["port"])

    async def kill(self) -> None:
        """Kill it on the spot, as a crash would."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """Ask it to end; return its exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(20):
                return await self.process.wait()
        except TimeoutError:
            await self.kill()
            raise


async def start(config: Path, *arguments: str) -> Target:
    """Start a server; return when it says that it is ready."""
    log = config.with_suffix(".log")
    with log.open("ab") as messages:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "smp_dfu_host", "serve", "--config", str(config), *arguments),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=messages,
        )
    target = Target(process, await _ready_line(process, log), log)
    assert target.ready["ready"], f"{target.ready}"
    return target


@asynccontextmanager
async def running(config: Path, *arguments: str) -> AsyncIterator[Target]:
    """Start a server and end it afterwards, if it still runs."""
    target = await start(config, *arguments)
    try:
        yield target
    finally:
        await target.stop()


async def _ready_line(process: Process, log: Path) -> Mapping[str, Any]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            line = await process.stdout.readline()
        return dict(json.loads(line))
    except (TimeoutError, ValueError) as exc:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise RuntimeError(f"the server did not get ready:\n{log.read_text()}") from exc

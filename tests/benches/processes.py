"""The servers that `scripts/bench smp` compares, as processes: what they use, and how to reach them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from tests.benches.channels import Channel, PtyChannel, UdpChannel
from tests.leaks import descriptors, resident
from tests.mcuboot.images import make_image, pem

SECTOR = 4096
SPARE = 32
"""Sectors of a slot beside the image: the trailer, which grows with the slot, and one to move into."""
END_S = 30
CONFIG = """
store = "store"
smp.uvloop = {uvloop}
transport.udp = {{ enabled = true, port = 0 }}
transport.serial = {{ pty = "target.pty" }}
bootloader.keys = ["key.pem"]
image.factory = "factory.bin"
flash = {{ slots = ["{sector}x{sectors}"], max_sectors = {sectors} }}
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A server process."""

    process: subprocess.Popen[str]
    transports: Sequence[dict[str, Any]]

    @property
    def cpu_s(self) -> float:
        """Processor time of all its threads so far, in seconds; exact, unlike what /proc/PID/stat counts."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3) of another process

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return resident(Path(f"/proc/{self.process.pid}"))

    @property
    def descriptors(self) -> int:
        """Open descriptors."""
        return sum(descriptors(Path(f"/proc/{self.process.pid}")).values())

    def where(self, transport: str) -> dict[str, Any]:
        """Return what the ready line says of `udp` or `serial`."""
        return next(each for each in self.transports if each["transport"] == transport)

    def open(self, transport: str) -> Channel:
        """Return a client's end: `udp` or `serial`."""
        where = self.where(transport)
        return UdpChannel(where["host"], where["port"]) if transport == "udp" else PtyChannel(Path(where["path"]))


@contextmanager
def serving(command: Sequence[str], log: Path) -> Iterator[Served]:
    """Run a server that prints a ready line, and end it."""
    with log.open("a") as messages:
        process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, text=True
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} did not get ready:\n{log.read_text()}")
        yield Served(process, json.loads(line)["transports"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_S)
        process.stdout.close()


def reflector_command(folder: Path) -> list[str]:
    """Return how to start the reflector, with its pty in a folder."""
    return ["-m", "tests.benches.reflector", str(folder / "reflector.pty")]


class TargetFolder:
    """A target's folder: a configuration, a key, and images that its boot loader takes.

    Args:
        folder: Where it is made.
        largest: Of the images, in bytes.
        uvloop: Whether the target runs on uvloop.
    """

    def __init__(self, folder: Path, largest: int, *, uvloop: bool = False) -> None:
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.folder = folder
        self.config = folder / "target.toml"
        self.config.write_text(
            CONFIG.format(sector=SECTOR, sectors=largest // SECTOR + SPARE, uvloop=str(uvloop).lower())
        )
        (folder / "key.pem").write_bytes(pem(self._key))
        (folder / "factory.bin").write_bytes(self.image(64 * 1024))

    def image(self, size: int) -> bytes:
        """Return a fresh image of that size, but for a few bytes."""
        return make_image((1, 0, 0, 0), os.urandom(size - 256), key=self._key)

    def command(self, *python: str) -> list[str]:
        """Return how to start the target."""
        return [*python, "-m", "smp_dfu_host", "serve", "--config", str(self.config)]

"""A target in this process, with small slots, for phones that reach it by radio."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from smp_dfu_host.config import Config, parse
from smp_dfu_host.server import Server
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.transport.loopback import LoopbackTransport
from tests.apps.phone import IMAGE, OS, READ, RESET, STATE, WRITE, Phone, Reply, body_of, frame
from tests.fakes import SERIAL
from tests.store.builders import image

FLASH = {"sector_size": 4096, "sectors": 8, "max_sectors": 16}
FLAGS = ("active", "confirmed", "pending", "permanent")
QUIET_S = 6.0
"""After so long without its requests a phone owns the DFU lock no more."""
RAM_LOAD, RAM = 0x20, 0x20000000
OLD, NEW, LOADER = 1, 2, 9
"""Major versions of what runs at first, of the update, and of the firmware loader."""


class Device:
    """A running target.

    Args:
        transport: Where phones connect.
        mode: Its boot loader's.
    """

    def __init__(self, transport: LoopbackTransport, mode: str) -> None:
        self.transport = transport
        self.mode = mode

    def update(self, size: int = 12_000) -> bytes:
        """Return an image for it, of about that size and a version that is higher than the running one."""
        return made(self.mode, NEW, bytes(range(250)) * (size // 250))

    def older(self) -> bytes:
        """Return an image of a version that is lower than the running one."""
        return made(self.mode, OLD - 1, b"older" * 100)

    async def images(self) -> list[Reply]:
        """Return the image list, as somebody at its serial port reads it."""
        return list((await self._ask(READ, IMAGE, STATE, {}))["images"])

    async def running(self) -> str:
        """Return version and flags of what runs: `2.0.0 active confirmed`."""
        slot = next(slot for slot in await self.images() if slot["active"])
        return " ".join([slot["version"], *(flag for flag in FLAGS if slot[flag])])

    async def reset(self, boot_mode: int = 0) -> None:
        """Have it reset, as somebody at its serial port does once no update is going on; return when it is back."""
        await asyncio.sleep(QUIET_S)
        person = Phone(self.transport, peer=SERIAL)
        await person.link(10)
        request = frame(WRITE, OS, RESET, {"boot_mode": boot_mode} if boot_mode else {}, 0)
        body_of(request, await person.exchange(request, 10))
        await person.radio.dropped.wait()
        await person.link(10)
        await person.unlink()

    async def _ask(self, op: int, group: int, command: int, body: Reply) -> Reply:
        person = Phone(self.transport, peer=SERIAL)
        await person.link(10)
        request = frame(op, group, command, body, 0)
        try:
            return body_of(request, await person.exchange(request, 10))
        finally:
            await person.unlink()


def _load(config: Config, image: bytes) -> None:
    """Put the firmware loader where it belongs."""
    SlotStore(config).load(1, image)


def made(mode: str, version: int, payload: bytes) -> bytes:
    """Return an image for a boot loader of that mode."""
    if "ram-load" in mode:
        return image((version, 0, 0), payload, flags=RAM_LOAD, load_addr=RAM)
    return image((version, 0, 0), payload)


@asynccontextmanager
async def device(folder: Path, mode: str = "swap-using-move", /, **sections: Any) -> AsyncIterator[Device]:
    """Run a target that does not confirm by itself, on a new store in a folder."""
    (folder / "factory.bin").write_bytes(made(mode, OLD, b"factory" * 100))
    table = {
        "store": "store",
        "flash": FLASH,
        "bootloader": {"mode": mode},
        "image": {"factory": "factory.bin"},
        "dfu": {"confirm_at_start": False},
        "transport": {"udp": {"enabled": True, "port": 0}},
        **sections,
    }
    config = parse(table, folder)
    if mode == "firmware-loader":
        await asyncio.to_thread(_load, config, made(mode, LOADER, b"loader" * 100))
    transport, ready = LoopbackTransport(config.smp.buf_size), asyncio.Event()
    server = Server(config, on_ready=lambda _line: ready.set(), transports=[transport])
    running = asyncio.create_task(server.run())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        running.result()
    try:
        yield Device(transport, mode)
    finally:
        running.cancel()
        await asyncio.wait((running,))

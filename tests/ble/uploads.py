"""A whole target in this process, and a central that uploads to it over ATT, for tests that cut it off."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smp_dfu_host.config import Config, parse
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.server import Server
from smp_dfu_host.store.factory import make_image
from smp_dfu_host.store.layout import Layout
from smp_dfu_host.transport.ble import hci
from tests.ble.conftest import CENTRAL, SERVER, eventually
from tests.ble.raw_central import RawCentral
from tests.client import Client

CONNECT_S = 8.0
LOOKED_S = 2.0
"""From a pairing until bluetoothd has looked for services: one second, and it says nothing of it."""
ANSWER_S = 30.0
"""Longest wait for an answer on the emulated processor."""


class LostError(Exception):
    """The connection has ended."""


class RawChannel:
    """SMP's frames over a raw central (see `tests.client.Channel`)."""

    def __init__(self, central: RawCentral) -> None:
        self._central = central

    async def send(self, frame: bytes) -> None:
        self._central.notifications.clear()
        try:
            await self._central.send(frame)
        except OSError as exc:
            raise LostError from exc

    async def receive(self) -> bytes:
        head = await self._received(8)
        frame = await self._received(8 + int.from_bytes(head[2:4], "big"))
        self._central.notifications.clear()
        return frame

    async def _received(self, size: int) -> bytes:
        waiting = asyncio.ensure_future(self._central.received(size, ANSWER_S))
        ended = asyncio.ensure_future(self._central.closed.wait())
        try:
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return await waiting
        finally:
            waiting.cancel()
            ended.cancel()
        raise LostError

    def close(self) -> None:
        self._central.close()


@asynccontextmanager
async def phone(controller: int = CENTRAL, to: int = SERVER) -> AsyncIterator[tuple[Client, RawCentral]]:
    """Connect, pair or encrypt, and subscribe, as an app does; return when the link is down, unless it was killed."""
    async with await connected(controller, to) as central:
        yield Client(RawChannel(central), timeout_s=ANSWER_S), central
    if not central.killed:
        await eventually(lambda: fallen(to))  # the next connection would be one over the same link


async def pair(controller: int = CENTRAL, to: int = SERVER) -> None:
    """Pair, and stay until bluetoothd has wanted to connect, too, and has found the channel taken (see `disputes`)."""
    async with phone(controller, to):
        await asyncio.sleep(LOOKED_S)


async def connected(controller: int, to: int) -> RawCentral:
    """Connect and set up."""
    central = await RawCentral(controller).connect(to, timeout_s=CONNECT_S)
    try:
        return await central.setup()
    except BaseException:
        central.close()
        raise


async def fallen(to: int) -> bool:
    """Tell whether nobody is connected to a controller, as the kernel has it."""
    return not hci.incoming(f"hci{to}")


@dataclass(frozen=True)
class Running:
    """A target, and what is in its slots."""

    config: Config

    @property
    def waiting(self) -> bytes:
        """The bytes of slot 1."""
        return Layout.from_config(self.config).slot(1).read_bytes()


@asynccontextmanager
async def target(folder: Path, controller: int = SERVER) -> AsyncIterator[Running]:
    """Run a target in this process."""
    ready: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    table = {
        "store": f"store{controller}",
        "flash": {"sectors": 16, "max_sectors": 16},
        "transport": {"ble": {"enabled": True, "adapter": f"hci{controller}"}},
    }
    config = parse(table, folder)
    serving = asyncio.create_task(Server(config, on_ready=ready.put_nowait).run())
    try:
        async with asyncio.timeout(60):
            await ready.get()
        yield Running(config)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled(), serving.exception()


def image(size: int) -> bytes:
    """An image that is no other."""
    return make_image(ImageVersion(2, 0, 0, random.getrandbits(32)), os.urandom(size))


async def upload(client: Client, new: bytes, until: float = 1.0) -> int:
    """Upload as far as that share of the image at least; return the first offset that was answered."""
    first = -1
    async for offset in client.upload(new):
        first = offset if first < 0 else first
        if offset >= until * len(new):
            break
    return first


async def finish(new: bytes, running: Running, controller: int = CENTRAL, to: int = SERVER) -> int:
    """Go on with an upload in a new connection, and compare; return the first offset that was answered."""
    async with phone(controller, to) as (client, _):
        first = await upload(client, new)
    assert running.waiting[: len(new)] == new
    return first

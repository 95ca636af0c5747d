"""The `buf_size` that params tells is what each transport really takes: clients fill it, and a phone app's upload dies
of the first frame that is not answered (device-manager-client.md 5.4)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cbor2
import pytest

from smp_dfu_host.config import parse
from smp_dfu_host.server import Server
from smp_dfu_host.transport.serial import FRAMINGS
from tests.apps.test_needs import filled
from tests.client import HEADER, Channel, LineChannel, UdpChannel

PARAMS = bytes.fromhex("08 00 0001 0000 07 06 a0")


class RawChannel(LineChannel):
    """A pty without framing."""

    async def send(self, frame: bytes) -> None:
        await self.write(frame)

    async def receive(self) -> bytes:
        head = await self.exactly(HEADER.size)
        return head + await self.exactly(HEADER.unpack(head)[2])


@asynccontextmanager
async def connected(folder: Path, transport: str, buf_size: int) -> AsyncIterator[Channel]:
    """Run a server that is reached by UDP, or by a pty in that framing; give a client's end."""
    serial = {} if transport == "udp" else {"pty": "line", "framing": transport}
    table = {"smp": {"buf_size": buf_size}, "flash": {"sectors": 8, "max_sectors": 16}, "store": "store"}
    config = parse(
        {**table, "transport": {"udp": {"enabled": transport == "udp", "port": 0}, "serial": serial}}, folder
    )
    ready: asyncio.Queue[str | int] = asyncio.Queue()
    server = Server(config, on_ready=lambda line: ready.put_nowait(line["transports"][0].get("port", 0)))
    running = asyncio.create_task(server.run())
    async with asyncio.timeout(10):
        port = await ready.get()
    kind = RawChannel if transport == "raw" else LineChannel
    channel: Channel = UdpChannel("127.0.0.1", int(port)) if transport == "udp" else kind(folder / "line")
    try:
        yield channel
    finally:
        channel.close()
        running.cancel()
        await asyncio.wait([running])


async def asked(channel: Channel, request: bytes) -> dict[str, int | str]:
    async with asyncio.timeout(5):
        await channel.send(request)
        return dict(cbor2.loads((await channel.receive())[HEADER.size :]))


@pytest.mark.parametrize("buf_size", [96, 384, 1500, 2475, 2500])
@pytest.mark.parametrize("transport", ["udp", *FRAMINGS])
async def test_frame_of_the_size_that_params_tells_is_answered(tmp_path: Path, transport: str, buf_size: int) -> None:
    async with connected(tmp_path, transport, buf_size) as channel:
        told = int((await asked(channel, PARAMS))["buf_size"])
        assert told == (min(buf_size, 1500) if transport == "udp" else buf_size)  # what a datagram brings is cut there
        assert await asked(channel, filled(told)) == {"r": "here"}

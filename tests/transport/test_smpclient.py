"""The client that we did not write updates a real server, by each of the wired transports."""

import asyncio
import os
from pathlib import Path

import pytest
from smp.image_management import ImageState
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, ResetWrite
from smpclient.transport.serial import SMPSerialTransport

from tests.demo import Udp
from tests.target import Target, make_image, running

CONFIG = """
store = "store"
dfu.confirm_at_start = false
transport.udp = { enabled = true, port = 0 }
transport.serial.pty = "line"
"""


def connect(transport: str, target: Target, folder: Path) -> SMPClient:
    if transport == "pty":
        return SMPClient(SMPSerialTransport(), str(folder / "line"), 5.0)
    host, port = target.udp
    return SMPClient(Udp(), f"{host}:{port}", 5.0)


@pytest.mark.parametrize("transport", ["udp", "pty"])
async def test_whole_update(tmp_path: Path, transport: str) -> None:
    (tmp_path / "target.toml").write_text(CONFIG)
    image = make_image(tmp_path / "image.bin", os.urandom(60_000), "2.0.0")
    async with running(tmp_path / "target.toml") as target:
        client = connect(transport, target, tmp_path)
        await client.connect()
        assert [offset async for offset in client.upload(image)][-1] == len(image)
        waiting = (await images(client))[1]
        assert success(await client.request(ImageStatesWrite(hash=waiting.hash)))
        assert success(await client.request(ResetWrite()))
        assert (await rebooted(client, "2.0.0")).confirmed is False
        assert success(await client.request(ImageStatesWrite(confirm=True)))
        assert (await images(client))[0].confirmed is True
        await client.disconnect()


@pytest.mark.parametrize("transport", ["udp", "pty"])
async def test_largest_message_that_the_client_sends(tmp_path: Path, transport: str) -> None:
    (tmp_path / "target.toml").write_text(CONFIG)
    async with running(tmp_path / "target.toml") as target:
        client = connect(transport, target, tmp_path)
        await client.connect()
        room = client._transport.max_unencoded_size
        text = "x" * (room - len(EchoWrite(d="").BYTES) - 2)
        assert len(EchoWrite(d=text).BYTES) == room
        answer = await client.request(EchoWrite(d=text))
        assert success(answer)
        assert answer.r == text
        await client.disconnect()


async def images(client: SMPClient, timeout_s: float = 5.0) -> list[ImageState]:
    answer = await client.request(ImageStatesRead(), timeout_s)
    assert success(answer)
    return answer.images


async def rebooted(client: SMPClient, version: str) -> ImageState:
    """Ask until that version runs; return what is said about it."""
    async with asyncio.timeout(30):
        while True:
            try:
                first = (await images(client, 0.5))[0]
            except TimeoutError:
                continue
            if first.active and first.version == version:
                return first

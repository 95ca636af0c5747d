"""smpmgr, the command line on top of smpclient: a whole update as its users type it, and what else it can ask."""

import asyncio
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.clients import run
from tests.clients.server import server
from tests.target import make_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("smpmgr") is None, reason="smpmgr installs on Python 3.11 alone: see pyproject.toml"),
]

BACK_S = 60.0


@pytest.fixture
def host() -> str:
    """Return an address of this machine for us alone: smpmgr knows no port but the protocol's own."""
    return f"127.{os.getpid() >> 16 & 255}.{os.getpid() >> 8 & 255}.{max(os.getpid() & 255, 2)}"


def running_image(said: str) -> str:
    """Return the version of the active image in the list that it prints, and whether that is confirmed."""
    for each in said.split("ImageState(")[1:]:
        if "active=True" in each:
            version = re.findall(r"version='([0-9.]+)'", each)[0]
            return f"{version} {'confirmed' if 'confirmed=True' in each else 'on trial'}"
    return said


async def back(*how: str) -> str:
    """Ask until the device answers; return what runs."""
    async with asyncio.timeout(BACK_S):
        while True:
            try:
                return running_image(await asyncio.to_thread(run, "smpmgr", *how, "image", "state-read"))
            except AssertionError:
                continue


@pytest.mark.parametrize("transport", ["udp", "pty"])
async def test_whole_update(tmp_path: Path, host: str, transport: str) -> None:
    make_image(tmp_path / "image.bin", bytes(range(256)) * 100, "2.0.0")
    async with server(tmp_path, host=host, port=1337):
        how = ("--timeout", "10", *(("--ip", host) if transport == "udp" else ("--port", str(tmp_path / "line"))))
        said = run("smpmgr", *how, "upgrade", "--slot", "1", str(tmp_path / "image.bin"))
        assert await back(*how) == "2.0.0 on trial", said
        run("smpmgr", *how, "image", "state-write", "--confirm")
        run("smpmgr", *how, "os", "reset")
        assert await back(*how) == "2.0.0 confirmed"


async def test_files_statistics_groups_and_shell(tmp_path: Path) -> None:
    (tmp_path / "note").write_bytes(os.urandom(5000))
    async with server(tmp_path):
        how = ("smpmgr", "--timeout", "10", "--port", str(tmp_path / "line"))
        run(*how, "file", "upload", str(tmp_path / "note"), "/lfs1/note")
        run(*how, "file", "download", "/lfs1/note", str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "note").read_bytes()
        assert "requests" in run(*how, "statistics", "fetch-all")
        assert "63" in run(*how, "enum", "get-supported-groups")
        assert "hello you" in run(*how, "shell", "greet you")

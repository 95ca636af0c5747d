"""mcumgr-toolkit: all that it can do, an update and files included, over UDP and over a pty in both framings."""

from pathlib import Path

import pytest

from tests.clients import run
from tests.clients.drive_toolkit import methods
from tests.clients.server import address, server
from tests.target import make_image


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", "console", "raw"])
async def test_everything_works(tmp_path: Path, transport: str) -> None:
    make_image(tmp_path / "image.bin", bytes(range(256)) * 100, "2.0.0")
    async with server(tmp_path, "raw" if transport == "raw" else "console") as target:
        where = address(target, transport, tmp_path)
        said = run("tests.clients.drive_toolkit", transport, where, str(tmp_path / "image.bin")).split("\n")
    assert {line.removesuffix(": ok") for line in said if line.endswith(": ok")} == methods()

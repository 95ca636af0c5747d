"""smpclient: every request that it has, over UDP and over a pty, in both versions of the protocol."""

from pathlib import Path

import pytest

from tests.clients import run
from tests.clients.drive_smpclient import request_kinds
from tests.clients.server import address, server
from tests.target import make_image


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("transport", ["udp", "pty"])
async def test_every_request_is_answered(tmp_path: Path, transport: str, version: str) -> None:
    make_image(tmp_path / "image.bin", bytes(range(256)) * 100, "2.0.0")
    async with server(tmp_path) as target:
        where = address(target, transport, tmp_path)
        image = str(tmp_path / "image.bin")
        said = run("tests.clients.drive_smpclient", transport, where, image, version).split("\n")
    answered = {line.removesuffix(": ok") for line in said if line.endswith(": ok")}
    assert answered == {*request_kinds(), "transfers"}

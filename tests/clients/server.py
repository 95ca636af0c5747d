"""The server that clients are tried on: every group has something to answer with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.target import Target, running

CONFIG = """
store = "store"
dfu.confirm_at_start = false
transport.udp = {{ enabled = true, host = "{host}", port = {port} }}
transport.serial = {{ pty = "line", framing = "{framing}" }}
fs.folder = "files"
shell.command = [{{ name = "greet", run = ["echo", "hello"], arguments = ["[a-z]+"] }}]
"""


@asynccontextmanager
async def server(
    folder: Path, framing: str = "console", host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Target]:
    """Run a server with UDP, a pty in that framing, files, settings and a shell command."""
    (folder / "target.toml").write_text(CONFIG.format(framing=framing, host=host, port=port))
    async with running(folder / "target.toml") as target:
        yield target


def address(target: Target, transport: str, folder: Path) -> str:
    """Return where a client finds it: `HOST:PORT` or the pty's path."""
    host, port = target.udp
    return f"{host}:{port}" if transport == "udp" else str(folder / "line")

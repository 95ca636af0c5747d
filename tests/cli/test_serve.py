"""`serve` as a process: ready line, end, live display."""

import asyncio
import gc
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.cli.serve import Endpoint, overrides, settled
from smp_dfu_host.config import load, override
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.store.factory import make_image
from tests.cli.conftest import SMALL, Cli
from tests.client import line_client, udp_client

START_S = 30.0
UDP = ("--udp", "127.0.0.1:0")


class Served:
    """A server that says that it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, line: dict[str, Any]) -> None:
        self.process = process
        self.line = line

    @property
    def port(self) -> int:
        return next(int(each["port"]) for each in self.line["transports"] if each["transport"] == "udp")

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(START_S):
            return await self.process.wait()


async def start(
    cli: Cli, *args: str, stderr: int = asyncio.subprocess.DEVNULL, **options: Any
) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "smp_dfu_host", "serve", "--config", str(cli.config), *args]
    options.setdefault("stdout", asyncio.subprocess.PIPE)
    return await asyncio.create_subprocess_exec(*command, stderr=stderr, **options)


@asynccontextmanager
async def served(cli: Cli, *args: str, stderr: int = asyncio.subprocess.DEVNULL) -> AsyncIterator[Served]:
    process = await start(cli, *args, stderr=stderr)
    assert process.stdout
    try:
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline()
        yield Served(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def failed(cli: Cli, *args: str, **options: Any) -> tuple[int, list[str]]:
    process = await start(cli, *args, stderr=asyncio.subprocess.PIPE, **options)
    async with asyncio.timeout(START_S):
        out, err = await process.communicate()
    assert not out
    assert process.returncode is not None
    return process.returncode, err.decode().splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ready_line_on_stdout_and_a_clean_end(cli: Cli, number: signal.Signals) -> None:
    async with served(cli, *UDP, "--name", "Target") as server:
        assert server.line["ready"] is True
        assert server.line["name"] == "Target"
        assert server.line["store"] == str(cli.store)
        assert server.line["mode"] == "swap-using-move"
        async with udp_client("127.0.0.1", server.port) as client:
            assert await client.echo() == "hello"
        assert await server.end(number) == 0


async def test_ready_line_on_a_descriptor(cli: Cli, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = await start(cli, "--pty", str(tmp_path / "tty"), "--ready-fd", str(writer), pass_fds=[writer])
    os.close(writer)
    try:
        line = json.loads(await asyncio.to_thread(os.read, reader, 4096))
        assert line["transports"] == [{"transport": "serial", "path": str(tmp_path / "tty")}]
        async with line_client(tmp_path / "tty") as client:
            assert await client.echo() == "hello"
        process.terminate()
        out, _ = await process.communicate()
    finally:
        os.close(reader)
    assert out == b""
    assert process.returncode == 0


async def test_update_on_uvloop(cli: Cli, tmp_path: Path) -> None:
    """Over UDP and a pty: what waits, what does not, a reset, and the end."""
    pytest.importorskip("uvloop")
    cli.configure(f"{SMALL}[smp]\nuvloop = true\n[reset]\ndelay_ms = 50\n")
    image = make_image(ImageVersion(2, 0, 0), bytes(8000))
    async with served(cli, *UDP, "--pty", str(tmp_path / "tty")) as server:
        async with udp_client("127.0.0.1", server.port) as client:
            assert [off async for off in client.upload(image)][-1] == len(image)
            (_, arrived) = await client.images()
            await client.mark(arrived["hash"], confirm=True)
            assert await client.reset() == {}
        async with line_client(tmp_path / "tty", timeout_s=1) as client:
            version = "1.0.0"
            while version != "2.0.0":
                with suppress(TimeoutError):  # what comes while it resets is lost
                    version = (await client.images())[0]["version"]
        assert await server.end(signal.SIGTERM) == 0


async def test_uvloop_that_is_not_there_is_one_clear_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "uvloop.py").write_text("raise ImportError")
    cli.configure(f"{SMALL}[smp]\nuvloop = true\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "hidden")}
    code, lines = await failed(cli, *UDP, env=environment)
    assert code == 2
    assert lines == ["smp-dfu-host: smp.uvloop = true: uvloop is not installed; pip install 'smp-dfu-host[uvloop]'"]


async def test_live_display_on_a_terminal(cli: Cli) -> None:
    """A line per client, with a bar during an upload; the terminal gets no bare log."""
    mine, terminal = pty.openpty()
    os.set_blocking(mine, False)
    image = make_image(ImageVersion(2, 0, 0), bytes(8000))
    async with served(cli, *UDP, stderr=terminal) as server, udp_client("127.0.0.1", server.port) as client:
        os.close(terminal)
        assert await client.begin(image) == {"off": 400}
        assert await client.chunk(image, 400, 1000) == {"off": 1400}
        text = await shown(mine, ["udp 127.0.0.1", "to slot 1", "17 %", "━"])
        assert "no client yet" in text
        assert await server.end(signal.SIGINT) == 0
    os.close(mine)


def test_another_level_is_not_stopped_by_the_policy_in_the_file(cli: Cli) -> None:
    cli.configure('[transport.ble]\npairing = "just-works"')
    config = load(cli.config)
    given = dict.fromkeys(("name", "udp", "serial", "pty", "ble", "adapter"))
    for dotted, value in overrides({**given, "ble_security": "secure", "ble_pairing": "confirm"}):
        config = override(config, dotted, value)
    assert (config.transport.ble.security, config.transport.ble.policy) == ("secure", "confirm")


async def shown(terminal: int, words: Sequence[str]) -> str:
    """Read what is drawn until all the words have been."""
    text = b""
    async with asyncio.timeout(START_S):
        while not all(word.encode() in text for word in words):
            try:
                text += os.read(terminal, 65536)
            except BlockingIOError:
                await asyncio.sleep(0.01)
    return text.decode()


async def test_second_server_on_a_store_is_refused(cli: Cli) -> None:
    async with served(cli, *UDP) as server:
        status, lines = await failed(cli, *UDP)
        assert status == 1
        assert len(lines) == 1
        assert f"(process {server.process.pid})" in lines[0]


async def test_port_that_is_taken_is_one_clear_line(cli: Cli, tmp_path: Path) -> None:
    async with served(cli, *UDP) as server:
        status, lines = await failed(cli, "--udp", f"127.0.0.1:{server.port}", "--store", str(tmp_path / "other"))
        assert status == 1
        assert str(server.port) in lines[-1]


async def test_no_transport_is_a_configuration_error(cli: Cli) -> None:
    status, lines = await failed(cli)
    assert status == 2
    assert lines == [
        "smp-dfu-host: no transport is enabled: give --udp, --serial, --pty or --ble, or enable one in the file"
    ]


async def test_local_commands_respect_the_upload_of_a_client(cli: Cli) -> None:
    image = make_image(ImageVersion(2, 0, 0), bytes(8000))
    async with served(cli, *UDP) as server, udp_client("127.0.0.1", server.port) as client:
        await client.begin(image)
        refused = await asyncio.to_thread(cli, "slots", "erase")
        assert refused.exit_code == 1
        assert "udp:127.0.0.1" in refused.stderr
        assert (await asyncio.to_thread(cli, "slots")).exit_code == 0
        assert (await asyncio.to_thread(cli, "boot")).exit_code == 1


async def test_off_the_air_line_says_why(cli: Cli) -> None:
    cli("slots")
    (cli.store / "slot0.bin").write_bytes(b"\xff" * 32768)
    async with served(cli, *UDP) as server:
        assert server.line["ready"] is False
        assert "slots load FILE" in server.line["reason"]
        assert (await asyncio.to_thread(cli, "slots", "load", cli.image("3.0.0"))).exit_code == 0
        assert server.process.stdout
        async with asyncio.timeout(START_S):
            assert json.loads(await server.process.stdout.readline())["ready"] is True


def test_endpoint_takes_addresses_of_both_kinds() -> None:
    convert = Endpoint().convert
    assert convert("127.0.0.1:1337", None, None) == ("127.0.0.1", 1337)
    assert convert("[::1]:0", None, None) == ("::1", 0)


def test_options_become_configuration() -> None:
    given = {
        "name": None,
        "udp": ("h", 1),
        "serial": None,
        "pty": "p",
        "ble": False,
        "adapter": "hci1",
        "ble_security": None,
        "ble_pairing": None,
    }
    assert dict(overrides(given)) == {
        "transport.udp.enabled": True,
        "transport.udp.host": "h",
        "transport.udp.port": 1,
        "transport.serial.pty": "p",
        "transport.ble.enabled": False,
        "transport.ble.adapter": "hci1",
    }


def test_what_is_there_when_the_target_is_ready_is_left_to_itself_by_the_garbage_collector() -> None:
    told: list[object] = []
    try:
        settled(told.append)({"ready": True})
        assert (told, gc.get_freeze_count() > 0) == ([{"ready": True}], True)
    finally:
        gc.unfreeze()

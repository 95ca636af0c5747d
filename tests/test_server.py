"""The composition root: power, resets, and transports that come and go."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.config import Config, parse
from smp_dfu_host.errors import ConfigError, PluginError, StoreError, TransportError
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.server import Server, group_kinds, served_kinds
from smp_dfu_host.store.factory import make_image
from smp_dfu_host.store.slots import SlotStore
from tests.client import Client, udp_client

UDP = {"udp": {"enabled": True, "port": 0}}
V2 = make_image(ImageVersion(2, 0, 0), bytes(3000))


def config(folder: Path, **sections: Any) -> Config:
    """Return a small target that answers by UDP."""
    table = {
        "store": "store",
        "flash": {"sectors": 8, "max_sectors": 16},
        "dfu": {"confirm_at_start": False},
        "reset": {"delay_ms": 50},
        "transport": UDP,
        **sections,
    }
    return parse(table, folder)


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[asyncio.Queue[Mapping[str, Any]]]:
    """Run a server; give its ready lines."""
    lines: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(Server(config, on_ready=lines.put_nowait).run())
    try:
        yield lines
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


async def line(lines: asyncio.Queue[Mapping[str, Any]]) -> Mapping[str, Any]:
    async with asyncio.timeout(10):
        return await lines.get()


@asynccontextmanager
async def client(config: Config) -> AsyncIterator[Client]:
    async with serving(config) as lines:
        where = (await line(lines))["transports"][0]
        async with udp_client(where["host"], where["port"]) as connected:
            yield connected


async def running_version(client: Client) -> str:
    return str(next(image["version"] for image in await client.images() if image["active"]))


async def back(client: Client) -> None:
    """Wait until the target answers again."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.echo("back", timeout_s=0.1)
            except TimeoutError:
                continue
            return


async def gone(client: Client) -> None:
    """Wait until the target does not answer any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                await client.echo("still there", timeout_s=0.05)
            except TimeoutError:
                return


async def reset(client: Client) -> None:
    """Reset, and wait until the target has gone and come back."""
    assert await client.reset() == {}
    await gone(client)
    await back(client)


async def test_ready_line_says_what_is_served_where(tmp_path: Path) -> None:
    async with serving(config(tmp_path, name="My Pi")) as lines:
        ready = await line(lines)
    assert (ready["ready"], ready["name"], ready["mode"]) == (True, "My Pi", "swap-using-move")
    assert ready["store"] == str(tmp_path / "store")
    assert [where["transport"] for where in ready["transports"]] == ["udp"]
    assert ready["transports"][0]["port"] > 0


async def test_reset_swaps_and_reverts(tmp_path: Path) -> None:
    async with client(config(tmp_path)) as device:
        offsets = [off async for off in device.upload(V2)]
        assert offsets[-1] == len(V2)
        assert "err" not in await device.mark((await device.images())[1]["hash"], confirm=False)
        await reset(device)
        assert await running_version(device) == "2.0.0"
        assert not (await device.images())[0]["confirmed"]
        await reset(device)
        assert await running_version(device) == "0.0.0"


async def test_running_image_is_confirmed_at_start_and_after_a_reset(tmp_path: Path) -> None:
    async with client(config(tmp_path, dfu={})) as device:
        assert (await device.images())[0]["confirmed"]
        assert [off async for off in device.upload(V2)]
        await device.mark((await device.images())[1]["hash"], confirm=False)
        await reset(device)
        assert await running_version(device) == "2.0.0"
        assert (await device.images())[0]["confirmed"]


async def test_requests_are_served_until_the_reset(tmp_path: Path) -> None:
    async with client(config(tmp_path, reset={"delay_ms": 10_000})) as device:
        await device.reset()
        await device.reset()
        assert await device.echo("still here") == "still here"


async def test_reset_into_the_boot_loader_runs_the_firmware_loader(tmp_path: Path) -> None:
    made = config(tmp_path, bootloader={"mode": "firmware-loader"})
    SlotStore(made).load(1, V2)
    async with client(made) as device:
        assert await running_version(device) == "0.0.0"
        assert await device.write(0, 5, {"boot_mode": 1}) == {}
        await gone(device)
        await back(device)
        assert await running_version(device) == "2.0.0"
        await reset(device)
        assert await running_version(device) == "0.0.0"


async def test_upload_does_not_survive_a_reset(tmp_path: Path) -> None:
    async with client(config(tmp_path)) as device:
        await device.begin(V2)
        await reset(device)
        assert (await device.chunk(V2, 400))["off"] == 0


async def test_second_server_on_a_store_is_refused(tmp_path: Path) -> None:
    async with serving(config(tmp_path)) as lines:
        await line(lines)
        with pytest.raises(StoreError, match="a server runs on this store already"):
            await Server(config(tmp_path)).run()


async def test_transport_that_cannot_open_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file, not a link of ours")
    both = config(tmp_path, transport={**UDP, "serial": {"pty": str(taken)}})
    async with serving(both) as lines:
        assert [where["transport"] for where in (await line(lines))["transports"]] == ["udp"]
    assert f"serial: {taken}" in caplog.text


async def test_no_transport_that_opens_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(TransportError, match=r"serial: .*taken"):
        await Server(config(tmp_path, transport={"serial": {"pty": str(taken)}})).run()
    assert "taken" not in caplog.text  # whoever runs the server says it; twice would be once too often


async def test_no_transport_at_all_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no transport is enabled"):
        Server(config(tmp_path, transport={}))


async def test_plain_module_has_no_lock_and_confirms_nothing(tmp_path: Path) -> None:
    async with client(config(tmp_path, smp={"module": "plain"})) as device:
        assert (await device.begin(V2))["off"] == 400
        assert not (tmp_path / "store" / "dfu.lock").exists()


def broken(folder: Path, **sections: Any) -> Config:
    """Return a target whose slots hold nothing that boots."""
    made = config(folder, **sections)
    store = SlotStore(made)
    store.layout.slot(0).write_bytes(store.layout.blank())
    return made


async def test_target_without_an_image_ends_if_configured(tmp_path: Path) -> None:
    lines: list[Mapping[str, Any]] = []
    dead = broken(tmp_path, bootloader={"on_failure": "exit"})
    assert await Server(dead, on_ready=lines.append).run() == 1
    assert [ready["ready"] for ready in lines] == [False]
    assert "slots load FILE --slot 0" in lines[0]["reason"]


async def test_target_without_an_image_waits_off_the_air_until_one_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smp_dfu_host.server.WATCH_S", 0.01)
    dead = broken(tmp_path)
    async with serving(dead) as lines:
        assert not (await line(lines))["ready"]
        SlotStore(dead).load(0, V2)
        where = (await line(lines))["transports"][0]
        async with udp_client(where["host"], where["port"]) as device:
            assert await running_version(device) == "2.0.0"


async def test_cancellation_closes_the_transports(tmp_path: Path) -> None:
    link = tmp_path / "pty"
    async with serving(config(tmp_path, transport={"serial": {"pty": str(link)}})) as lines:
        await line(lines)
        assert link.is_symlink()
    assert not link.is_symlink()


async def test_only_the_groups_that_are_configured_are_served(tmp_path: Path) -> None:
    async with client(config(tmp_path, smp={"groups": ["os_mgmt"]})) as device:
        assert await device.echo("here") == "here"
        assert await device.read(1, 0) == {"rc": 8}


async def test_groups_that_lack_an_option_are_not_served(tmp_path: Path) -> None:
    async with client(config(tmp_path)) as device:
        assert (await device.read(10, 1))["groups"] == [10, 1, 0, 3, 2, 63]
    parts = {"fs": {"folder": "files"}, "shell": {"command": [{"name": "x", "run": ["true"]}]}}
    async with client(config(tmp_path, **parts)) as device:
        assert (await device.read(10, 1))["groups"] == [10, 8, 1, 0, 3, 9, 2, 63]


@pytest.mark.parametrize(("name", "option"), [("fs_mgmt", "fs.folder"), ("shell_mgmt", "shell.command")])
def test_group_that_is_asked_for_and_lacks_an_option_is_a_configuration_error(
    tmp_path: Path, name: str, option: str
) -> None:
    with pytest.raises(ConfigError, match=rf"smp\.groups: {name} needs {option}"):
        served_kinds(config(tmp_path, smp={"groups": ["os_mgmt", name]}))


async def test_every_part_counts_and_every_count_can_be_read(tmp_path: Path) -> None:
    async with client(config(tmp_path)) as device:
        names = (await device.read(2, 1))["stat_list"]
        assert names == ["flash", "lock", "upload", "smp", "queue", "inbox", "udp"]
        told = {name: (await device.read(2, 0, {"name": name}))["fields"] for name in names}
    assert told["flash"]["boots"] == 1
    assert told["udp"]["joined"] == 1
    assert told["udp"]["rx"] == told["udp"]["tx"] + 1 == 8
    assert told["udp"]["rx_bytes"] > 8 * 9
    assert told["inbox"] == {"waiting": 0, "most": 1, "size": 64}


async def test_programs_are_told_of_events_and_refuse(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    run = ["/bin/sh", "-c", f'echo "$SMP_EVENT $SMP_SIZE" > {told}']
    hooks = [{"on": "reset", "run": ["false"]}, {"on": "image-pending", "run": run, "timeout_ms": 20_000}]
    async with client(config(tmp_path, hook=hooks)) as device:
        assert await device.reset() == {"rc": 1}
        assert [off async for off in device.upload(V2)][-1] == len(V2)
        assert await asyncio.to_thread(told.read_text) == f"image-pending {len(V2)}\n"
        counted = (await device.read(2, 0, {"name": "hook"}))["fields"]
        assert (counted["run"], counted["dropped"]) == (2, 0)


async def test_program_that_is_missing_is_a_configuration_error(tmp_path: Path) -> None:
    server = Server(config(tmp_path, hook=[{"on": "reset", "run": ["/none"]}]))
    with pytest.raises(ConfigError, match=r"hook\[0\].run\[0\] = '/none': is not there"):
        await server.run()


async def test_settings_survive_a_reset_when_saved(tmp_path: Path) -> None:
    async with client(config(tmp_path)) as device:
        for name in ("app/saved", "app/forgotten"):
            assert await device.write(3, 0, {"name": name, "val": b"1"}) == {}
        assert await device.write(3, 3, {"name": "app/saved"}) == {}
        await reset(device)
        assert (await device.read(2, 0, {"name": "flash"}))["fields"]["boots"] == 2
        assert await device.read(3, 0, {"name": "app/saved"}) == {"val": b"1"}
        assert await device.read(3, 0, {"name": "app/forgotten"}) == {"err": {"group": 3, "rc": 3}}


def test_groups_come_in_the_order_that_is_asked_for() -> None:
    assert [kind.id for kind in group_kinds(["img_mgmt", "os_mgmt"])] == [1, 0]


def test_group_that_is_not_installed_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"smp\.groups: nobody not installed; there are .*os_mgmt"):
        group_kinds(["nobody", "os_mgmt"])


def test_group_that_is_no_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smp_dfu_host.plugins.load", lambda _kind: {"stranger": Path})
    with pytest.raises(PluginError, match="entry point stranger: Path is no"):
        group_kinds()

"""`ble`: who is bonded, who may bond, and what the Bluetooth side of a running server is doing.

The server and these commands meet in the store: it writes what it does to `ble.json`, they write until when new
centrals may bond. Bonds are bluetoothd's.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from smp_dfu_host.cli import render
from smp_dfu_host.cli.checks import running_server
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.render import Fact
from smp_dfu_host.config import Config
from smp_dfu_host.errors import ConfigError, StoreError, TransportError
from smp_dfu_host.transport.ble import status as ble_status
from smp_dfu_host.transport.ble import window

if TYPE_CHECKING:
    from smp_dfu_host.transport.ble.bluez_bonds import Bond
    from smp_dfu_host.transport.ble.bluez_bus import Bus

LOOK_S = 1.0
"""How often `ble pair` looks for new bonds, in seconds."""

T = TypeVar("T")


@click.group()
def ble() -> None:
    """Pair centrals with a running server; list and forget bonds."""


@ble.command()
@click.option("--for", "seconds", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds.")
@shared_options
def pair(seconds: int) -> None:
    """Let new centrals bond with the running server for a while.

    Ctrl-C ends it early. Matters where [transport.ble] pairing_window = true.
    """
    config = the_config()
    said = running(config)
    if not said:
        raise StoreError(f"{config.store}: no server with Bluetooth runs on this store; start one: serve --ble")
    if said["pairing"] in ("", "reject"):
        raise ConfigError(
            f"the server lets nobody bond: security = {said['security']}, pairing = {said['pairing'] or 'auto'}"
        )
    if not said["pairing_window"]:
        click.echo("The server needs no window: [transport.ble] pairing_window = false.")
    asyncio.run(_with_bus(lambda bus: _pair(bus, config, str(said["adapter"]), seconds)))


@ble.command()
@json_option
@shared_options
def bonds(as_json: bool) -> None:
    """List what is bonded with the adapter. Centrals of ours, and everything else."""
    found = asyncio.run(_with_bus(lambda bus: _bonds(bus, the_config())))
    if as_json:
        show_json([_as_json(bond) for bond in found])
    else:
        show(render.facts(_bond_facts(found) or [Fact("bonds", "none")]))


@ble.command()
@click.argument("address", required=False)
@click.option("--all", "everyone", is_flag=True, help="Every central of ours; other devices only by their address.")
@shared_options
def forget(address: str | None, everyone: bool) -> None:
    """Remove the bond with the central at ADDRESS. If it is connected, it is disconnected."""
    if bool(address) is everyone:
        raise click.UsageError("give an ADDRESS, or --all")
    config = the_config()
    for bond in asyncio.run(_with_bus(lambda bus: _forget(bus, config, address))):
        click.echo(f"forgot {bond.address} ({bond.name})")


@ble.command()
@json_option
@shared_options
def status(as_json: bool) -> None:
    """Show adapter, advertising, connected centrals and bonds."""
    config = the_config()
    said = running(config)
    found = asyncio.run(_with_bus(lambda bus: _bonds(bus, config)))
    server = said or asyncio.run(_host())
    if as_json:
        show_json({"running": bool(said), **server, "bonds": [_as_json(bond) for bond in found]})
        return
    rows = _status_facts(said) if said else _host_facts(server)
    show(render.facts([*rows, *(_bond_facts(found) or [Fact("bonds", "none")])]))


def running(config: Config) -> Mapping[str, Any]:
    """Return what the server that runs on the store says of its Bluetooth side; empty if there is none."""
    written = ble_status.read(config.store)
    return written.status if written.pid and running_server(config.store) else {}


async def _with_bus(work: "Callable[[Bus], Awaitable[T]]") -> T:
    from smp_dfu_host.transport.ble.bluez_bus import Bus  # slow to import, and needed by nothing else

    bus = await Bus.open()
    try:
        return await work(bus)
    finally:
        await bus.close()


async def _host() -> Mapping[str, Any]:
    """Return what can be said without a server: bluetoothd's version, and its adapters."""
    from smp_dfu_host.transport.ble.probe import look

    host = await look()
    adapters = [{"adapter": each.name, "address": each.address, "powered": each.powered} for each in host.adapters]
    return {"bluez": ".".join(map(str, host.version or ())), "adapters": adapters}


async def _bonds(bus: "Bus", config: Config, adapter: str | None = None) -> "tuple[Bond, ...]":
    from smp_dfu_host.transport.ble.bluez_bonds import bonds

    chosen = adapter or running(config).get("adapter") or config.transport.ble.adapter
    return await bonds(bus, str(chosen), ble_status.read(config.store).bonds)


async def _forget(bus: "Bus", config: Config, address: str | None) -> "list[Bond]":
    from smp_dfu_host.transport.ble.bluez_bonds import forget

    found = await _bonds(bus, config)
    if address:
        chosen = [bond for bond in found if bond.address == address.upper()]
        if not chosen:
            raise TransportError(f"{address} is not bonded; there is {', '.join(b.address for b in found) or 'nobody'}")
    else:
        chosen = [bond for bond in found if bond.made is not None]
    for bond in chosen:
        await forget(bus, bond)
    return chosen


async def _pair(bus: "Bus", config: Config, adapter: str, seconds: int) -> None:
    """Keep the window open, and say who comes in by it."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
    known = {bond.address for bond in await _bonds(bus, config, adapter)}
    window.open_window(config.store, seconds)
    console = Console(highlight=False)
    click.echo(f"New centrals may bond for {seconds} s.")
    try:
        with console.status("") as countdown:
            while not ended.is_set() and (left_s := window.remaining(config.store)):
                countdown.update(f"{left_s:.0f} s left; Ctrl-C ends it")
                await _either(ended, min(LOOK_S, left_s))
                for bond in await _bonds(bus, config, adapter):
                    if bond.address not in known:
                        known.add(bond.address)
                        console.print(f"bonded: {bond.address} ({bond.name})", markup=False)
    finally:
        window.close_window(config.store)
    click.echo("The window is closed.")


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _as_json(bond: "Bond") -> dict[str, object]:
    said = asdict(bond)
    del said["path"]
    return {**said, "ours": bond.made is not None, "made": bond.made or None}


def _bond_facts(found: "Sequence[Bond]") -> list[Fact]:
    return [Fact(bond.address, _bond_text(bond)) for bond in found]


def _bond_text(bond: "Bond") -> str:
    how = f", by {bond.made}" if bond.made else ""
    whose = f"bonded{how}" if bond.made is not None else "bonded, never a central of ours"
    return f"{bond.name}: {whose}{', connected' if bond.connected else ''}"


def _status_facts(said: Mapping[str, Any]) -> list[Fact]:
    window_text = ", in a window" if said["pairing_window"] else ""
    air = f"every {said['advertising_interval']}" if said["advertising"] else "no"
    return [
        Fact("adapter", f"{said['adapter']} {said['address']}"),
        Fact("BlueZ", said["bluez"] or "of unknown version"),
        Fact("security", f"{said['security']}; pairing {said['pairing'] or 'as BlueZ likes'}{window_text}"),
        Fact("advertising", air),
        *(Fact("central", _central_text(each)) for each in said["centrals"]),
    ]


def _host_facts(said: Mapping[str, Any]) -> list[Fact]:
    return [
        Fact("server", "none with Bluetooth runs on this store"),
        Fact("BlueZ", said["bluez"] or "of unknown version"),
        *(
            Fact("adapter", f"{each['adapter']} {each['address']}, {'on' if each['powered'] else 'off'}")
            for each in said["adapters"]
        ),
    ]


def _central_text(said: Mapping[str, Any]) -> str:
    interval = f", interval {said['interval_ms']:g} ms" if said["interval_ms"] is not None else ""
    latency = f", latency {said['latency']}" if said["latency"] is not None else ""
    return f"{said['address']}, MTU {said['mtu']}, security {said['security']}{interval}{latency}"

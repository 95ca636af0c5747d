"""What a target needs of the host besides Bluetooth: one function a check, each returns a `Check`."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from smp_dfu_host.cli.render import Check, Level
from smp_dfu_host.config import Config, SerialConfig, UdpConfig
from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.layout import Layout
from smp_dfu_host.store.occupancy import unoccupied
from smp_dfu_host.store.slots import SlotStore


def configuration(path: Path | None) -> Check:
    """Say which configuration file is in use; that it can be read was settled when it was loaded."""
    return Check("configuration", Level.GOOD, str(path) if path else "defaults; there is no file")


def store_folder(folder: Path) -> Check:
    """Check that the store's folder can be written, or made."""
    if folder.is_dir():
        if os.access(folder, os.W_OK | os.X_OK):
            return Check("store", Level.GOOD, f"{folder} is writable")
        return Check(
            "store", Level.BAD, f"{folder} is not writable", "give it to this user, or choose another: --store DIR"
        )
    above = next((each for each in folder.parents if each.exists()), Path("/"))
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return Check("store", Level.GOOD, f"{folder} will be made by the first start")
    return Check("store", Level.BAD, f"{folder} cannot be made in {above}", "choose another folder: --store DIR")


def udp_port(config: UdpConfig) -> Check:
    """Check that the UDP port can be had, by binding it for a moment."""
    where = f"{config.host} port {config.port}"
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as exc:
        if isinstance(exc, socket.gaierror):
            return Check(
                "UDP", Level.BAD, f"{config.host}: {exc.strerror}", "name an address of this host: --udp HOST:PORT"
            )
        todo = "end what uses it (a running target?), or choose another: --udp HOST:PORT"
        return Check("UDP", Level.BAD, f"{where} is taken or not ours: {exc.strerror}", todo)
    return Check("UDP", Level.GOOD, f"{where} is free")


def serial_lines(config: SerialConfig) -> Iterator[Check]:
    """Check the tty if one is configured, and that a pseudo terminal can be made."""
    if config.device is not None:
        yield _tty(config.device)
    yield _pty(config.pty)


def _tty(device: Path) -> Check:
    name = f"serial {device}"
    if not device.exists():
        return Check(name, Level.BAD, "is not there", "plug it in, or name another: --serial DEV")
    if not os.access(device, os.R_OK | os.W_OK):
        return Check(name, Level.BAD, "may not be opened by this user", f"add the user to the group {_group(device)}")
    return Check(name, Level.GOOD, "may be opened")


def _group(device: Path) -> str:
    try:
        return device.group()
    except KeyError:  # a group without a name
        return str(device.stat().st_gid)


def _pty(link: Path | None) -> Check:
    try:
        for end in os.openpty():
            os.close(end)
    except OSError as exc:
        return Check("pty", Level.BAD, f"none to be had: {exc.strerror}", "mount devpts on /dev/pts")
    if link is None:
        return Check("pty", Level.GOOD, "can be made")
    if os.access(link.parent, os.W_OK | os.X_OK):
        return Check("pty", Level.GOOD, f"can be made and linked to {link}")
    return Check("pty", Level.BAD, f"{link.parent} is not writable", "choose another path: --pty PATH")


def running_server(folder: Path) -> Check | None:
    """Say that a server runs on the store, or return None."""
    try:
        with unoccupied(folder):
            return None
    except StoreError as exc:
        return Check("server", Level.GOOD, str(exc).partition(";")[0])


def host_checks(config: Config, path: Path | None) -> list[Check]:
    """Run every check of this file but that of the slots."""
    found = [configuration(path), store_folder(config.store)]
    udp = udp_port(config.transport.udp)
    if server := running_server(config.store):
        found.append(server)
        if udp.level is Level.BAD:
            udp = Check(udp.name, Level.GOOD, f"{udp.found}; most likely by the server that runs")
    return [*found, udp, *serial_lines(config.transport.serial)]


def slots_readable(config: Config) -> Iterator[Check]:
    """Check that the slots of an existing store can be read, and that an image boots; makes no store."""
    layout = Layout.from_config(config)
    if not any(layout.slot(slot).exists() for slot in layout.slots):
        yield Check("slots", Level.SKIPPED, "there are none yet; the first start makes them")
        return
    try:
        preview = SlotStore(config).preview_boot()
    except StoreError as exc:
        yield Check("slots", Level.BAD, str(exc), "put back the slots' files, or choose another store: --store DIR")
        return
    if preview.ok:
        yield Check("slots", Level.GOOD, "; ".join(preview.actions))
    else:
        todo = "load one: smp-dfu-host slots load FILE --slot 0"
        yield Check("slots", Level.BAD, f"no image boots: {'; '.join(preview.actions)}", todo)

"""The servers that `scripts/bench ble` compares, each a process: python -m tests.benches.ble_servers KIND ADAPTER.

bare      bless as it comes: WriteValue in, and one fixed notification of 20 bytes for every complete frame
acquire   the same over AcquireWrite's and AcquireNotify's sockets, without D-Bus
long      our target with every WriteValue taken apart by dbus-next
target    our target

`ready` is printed when it is on the air. With `--profile`, SIGTERM has it print, as JSON, the share of its time that
went into D-Bus: dbus-next, and our code that does its work.
"""

import asyncio
import cProfile
import json
import pstats
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from smp_dfu_host.config import parse
from smp_dfu_host.server import Server
from smp_dfu_host.transport.ble.advertising import FAST
from smp_dfu_host.transport.ble.link import SMP_CHARACTERISTIC, SMP_SERVICE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # dbus-next's own, of things that Python 3.13 deprecates
    from bless.backends.attribute import GATTAttributePermissions
    from bless.backends.bluezdbus.server import BlessServerBlueZDBus
    from bless.backends.characteristic import GATTCharacteristicProperties
    from dbus_next.constants import PropertyAccess
    from dbus_next.message import Message
    from dbus_next.service import dbus_property

    from smp_dfu_host.transport.ble import bluez_gatt
    from smp_dfu_host.transport.ble.bluez_bus import Bus

ANSWER = bytes(20)
HEADER = 8
DBUS = ("/dbus_next/", "/bluez_bus.py", "/bluez_frames.py")
"""Files whose work is D-Bus."""
IDLE = ("poll", "select", "epoll")
"""Functions in which nothing is done."""


class Frames:
    """Counts complete frames, by the length in their headers."""

    def __init__(self, complete: Callable[[], None]) -> None:
        self._buffer = bytearray()
        self._complete = complete

    def feed(self, value: bytes) -> None:
        self._buffer += value
        while len(self._buffer) >= HEADER:
            size = HEADER + int.from_bytes(self._buffer[2:4], "big")
            if len(self._buffer) < size:
                return
            del self._buffer[:size]
            self._complete()


async def bare(adapter: str, ready: Callable[[], None]) -> None:
    """Serve by bless alone."""
    server = BlessServerBlueZDBus("bare", adapter=adapter)
    properties = GATTCharacteristicProperties.write_without_response | GATTCharacteristicProperties.notify
    await server.add_new_service(SMP_SERVICE)
    await server.add_new_characteristic(
        SMP_SERVICE, SMP_CHARACTERISTIC, properties, None, GATTAttributePermissions.writeable
    )

    characteristic = server.get_characteristic(SMP_CHARACTERISTIC)
    assert characteristic

    def complete() -> None:
        characteristic.value = bytearray(ANSWER)
        server.update_value(SMP_SERVICE, SMP_CHARACTERISTIC)

    frames = Frames(complete)
    server.write_request_func = lambda _characteristic, value: frames.feed(bytes(value))
    await server.start()
    ready()
    await asyncio.Event().wait()


class Acquired(bluez_gatt.Characteristic):
    """A characteristic that is written and notified by sockets."""

    @dbus_property(access=PropertyAccess.READ)  # type: ignore[untyped-decorator]
    def WriteAcquired(self) -> "b":  # type: ignore[name-defined]  # noqa: F821, N802
        return False


class Sockets:
    """Answers AcquireWrite and AcquireNotify of one central."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ours: dict[str, socket.socket] = {}
        self._frames = Frames(self._complete)

    def called(self, message: Message) -> bool:
        if message.member not in ("AcquireWrite", "AcquireNotify"):
            return False
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._ours[str(message.member)] = ours
        self._bus.answer(message, "hq", [0, message.body[0]["mtu"].value], [theirs.fileno()])
        theirs.close()
        if message.member == "AcquireWrite":
            asyncio.get_running_loop().add_reader(ours, self._readable, ours)
        return True

    def _complete(self) -> None:
        self._ours["AcquireNotify"].send(ANSWER)

    def _readable(self, ours: socket.socket) -> None:
        with suppress(BlockingIOError):
            while value := ours.recv(512):
                self._frames.feed(value)
            asyncio.get_running_loop().remove_reader(ours)


async def acquire(adapter: str, ready: Callable[[], None]) -> None:
    """Serve by sockets."""
    setattr(bluez_gatt, "Characteristic", Acquired)  # noqa: B010  (a type is assigned)
    bus = await Bus.open()
    path = f"/org/bluez/{adapter}"
    server = bluez_gatt.GattServer("acquire", bus, path, bluez_gatt.FLAGS["none"], lambda _value, _options: None)
    await server.populate()
    bus.add_message_handler(Sockets(bus).called)
    await server.register()
    await server.advertise(FAST)
    ready()
    await asyncio.Event().wait()


async def target(adapter: str, ready: Callable[[], None]) -> None:
    """Serve as the product does, without security, as the others."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ble = {"enabled": True, "adapter": adapter, "security": "none"}
        config = parse({"store": "store", "transport": {"ble": ble}}, Path(folder))
        await Server(config, on_ready=lambda _line: ready()).run()


async def long(adapter: str, ready: Callable[[], None]) -> None:
    """The same without the shorter way of writes."""
    setattr(Bus, "take_writes", lambda *_: None)  # noqa: B010  (a method is assigned)
    await target(adapter, ready)


KINDS: Mapping[str, Callable[[str, Callable[[], None]], Awaitable[None]]] = {
    "bare": bare,
    "acquire": acquire,
    "target": target,
    "long": long,
}


async def serve(kind: str, adapter: str) -> None:
    """Serve until SIGTERM."""
    serving = asyncio.ensure_future(KINDS[kind](adapter, partial(print, "ready", flush=True)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def dbus_share(profile: cProfile.Profile) -> float:
    """Return the share of D-Bus, with the built-in functions that it calls, in the time that was not idle."""
    total = dbus = 0.0
    table: Mapping[
        tuple[str, int, str], tuple[int, int, float, float, Mapping[tuple[str, int, str], tuple[float, ...]]]
    ]
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, own, _, callers) in table.items():
        if any(word in name for word in IDLE):
            continue
        total += own
        if any(part in file for part in DBUS):
            dbus += own
        elif file == "~":  # built-in functions count where they are called from
            dbus += sum(spent[2] for (at, _, _), spent in callers.items() if any(part in at for part in DBUS))
    return dbus / total


def main(arguments: list[str]) -> None:
    """Run one."""
    kind, adapter, *options = arguments
    if "--profile" not in options:
        asyncio.run(serve(kind, adapter))
        return
    with cProfile.Profile() as profile:
        asyncio.run(serve(kind, adapter))
    print(json.dumps({"dbus": dbus_share(profile)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

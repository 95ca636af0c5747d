"""`scripts/bench ble [--json] [--bluez 5.66|5.82]`: an upload over Bluetooth LE, beside servers that do little.

Runs in the virtual machine (scripts/ble-vm), where everything shares one emulated processor: only ratios mean anything.
The servers (tests/benches/ble_servers.py) run all at once, each on its own controller; one client, which speaks ATT
itself, sends each of them the same requests of an upload, in turns, with WINDOW of them under way. The numbers are
medians of ROUNDS. No security: a bare bless server cannot ask for any on write commands.

speed          bytes of the image per second, in kB, first to last answer
ratio          of the speed to that of the bare bless server
cpu_ms         processor time of the server for each write command
dbus_share     of the server's time that goes into D-Bus, by a run under a profiler, which makes Python's share larger

The exit status is 1 if `ratio` of our target is below 0.85 for any size of frame.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
import warnings
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import pack

import cbor2

from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.store.factory import make_image
from tests.benches.requests import upload_requests
from tests.ble.raw_central import RawCentral
from tests.ble.vm_packages import SUITES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # dbus-next's own, of things that Python 3.13 deprecates
    from smp_dfu_host.transport.ble.bluez_bus import Bus
    from smp_dfu_host.transport.ble.bluez_version import bluez_version

KINDS = ("bare", "acquire", "long", "target")
CLIENT = 0
"""The client's controller; the servers have those that follow, in the order of KINDS."""
CONTROLLERS = 1 + len(KINDS)
MTU = 247
FRAMES = (MTU - 3, 2475)
"""Sizes of a request: what fits into one write command, and the server's buffer, in eleven of them."""
WINDOW = 4
"""Requests under way: those of nRF Connect Device Manager at its default."""
IMAGE_SIZE = int(os.environ.get("BENCH_BLE_SIZE", "60000"))
ROUNDS = int(os.environ.get("BENCH_BLE_ROUNDS", "5"))
LIMIT = 0.85
READY_S, ANSWER_S = 300.0, 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One upload."""

    speed: float
    """kB/s."""
    cpu_ms: float
    """Of the server, for each write command."""


async def warm_up(central: RawCentral) -> None:
    """Ask for MCUmgr's parameters: a server that acquires its sockets gets a burst wrong if that comes first."""
    await central.send(pack(">BBHHBB", 0, 0, 1, 0, 0xFF, 6) + cbor2.dumps({}))
    await central.received_count(1, ANSWER_S)


async def send_all(central: RawCentral, requests: Sequence[bytes]) -> None:
    """Send the first request, and when it is answered the others; every answer is one notification."""
    central.notifications.clear()
    await central.send(requests[0])
    await central.received_count(1, ANSWER_S)
    for number, request in enumerate(requests[1:], start=1):
        await central.received_count(number + 1 - WINDOW, ANSWER_S)
        await central.send(request)
    await central.received_count(len(requests), ANSWER_S)


class Peripheral:
    """A server process."""

    def __init__(self, kind: str, process: Process) -> None:
        self.kind = kind
        self.process = process
        self.controller = CLIENT + 1 + KINDS.index(kind)

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def measure(self, frame: int) -> Sample:
        """Upload a fresh image."""
        image = make_image(ImageVersion(1, 0, 0), os.urandom(IMAGE_SIZE))
        requests = upload_requests(image, frame)
        async with await RawCentral(CLIENT, MTU).connect(self.controller, ANSWER_S) as central:
            await central.setup(secure=False)
            await warm_up(central)
            used, began = self.cpu_s, time.perf_counter()
            await send_all(central, requests)
            seconds, used = time.perf_counter() - began, self.cpu_s - used
            if self.kind in ("target", "long"):
                last = cbor2.loads(central.notifications[-1][8:])
                assert last["off"] == len(image), last
        writes = sum(-(-len(request) // (MTU - 3)) for request in requests)
        return Sample(len(image) / 1000 / seconds, used * 1000 / writes)


@asynccontextmanager
async def running(kind: str, *options: str) -> AsyncIterator[Peripheral]:
    """Start a server, and end it."""
    controller = CLIENT + 1 + KINDS.index(kind)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "tests.benches.ble_servers", kind, f"hci{controller}", *options),
        stdin=DEVNULL,
        stdout=PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            line = await process.stdout.readline()
        assert line == b"ready\n", f"{kind}: {line!r}"
        yield Peripheral(kind, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def shares() -> dict[str, float]:
    """Return the share of D-Bus in the time of each server that uses it."""
    found = {}
    for kind in ("bare", "long", "target"):
        async with running(kind, "--profile") as server:
            await server.measure(FRAMES[1])
            server.process.terminate()
            assert server.process.stdout is not None
            found[kind] = float(json.loads(await server.process.stdout.readline())["dbus"])
    return found


async def speeds() -> list[Mapping[str, object]]:
    """Measure every server with every size of frame, in turns."""
    samples: dict[tuple[int, str], list[Sample]] = {(frame, kind): [] for frame in FRAMES for kind in KINDS}
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(kind)) for kind in KINDS]
        for _ in range(ROUNDS):
            for frame in FRAMES:
                for server in servers:
                    began = time.monotonic()
                    sample = await server.measure(frame)
                    samples[frame, server.kind].append(sample)
                    took = f"in {time.monotonic() - began:.1f} s with the connection"
                    print(f"{frame} {server.kind} {sample.speed:.1f} kB/s {took}", file=sys.stderr, flush=True)
    rows: list[Mapping[str, object]] = []
    for (frame, kind), each in samples.items():
        speed = statistics.median(sample.speed for sample in each)
        bare = statistics.median(sample.speed for sample in samples[frame, "bare"])
        cpu_ms = statistics.median(sample.cpu_ms for sample in each)
        rows.append({"frame": frame, "server": kind, "speed": speed, "ratio": speed / bare, "cpu_ms": cpu_ms})
    return rows


async def installed() -> str:
    """BlueZ's version."""
    bus = await Bus.open()
    try:
        version = await bluez_version(bus)
    finally:
        await bus.close()
    return ".".join(map(str, version or ()))


async def measure() -> dict[str, object]:
    """Measure everything."""
    rows = await speeds()
    ratio = min(float(str(row["ratio"])) for row in rows if row["server"] == "target")
    return {
        "bench": "ble",
        "bluez": await installed(),
        "ratio": ratio,
        "ratio_limit": LIMIT,
        "window": WINDOW,
        "mtu": MTU,
        "image": IMAGE_SIZE,
        "rounds": ROUNDS,
        "servers": rows,
        "dbus_share": await shares(),
    }


def run(arguments: Sequence[str]) -> int:
    """Measure and print, in the virtual machine; return the exit status."""
    parser = argparse.ArgumentParser("scripts/bench ble")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bluez", choices=SUITES, help="version of BlueZ; default: that of scripts/ble-vm")
    options = parser.parse_args(arguments)
    if not Path("/run/ble-vm").is_dir():
        machine = ["--controllers", str(CONTROLLERS), "--timeout", "3000"]
        machine += ["--bluez", options.bluez] if options.bluez else []
        command = ["scripts/ble-vm", *machine, "--", sys.executable, "-m", "tests.benches.ble", *arguments]
        os.execvp(command[0], command)
    result = asyncio.run(measure())
    if options.json:
        print(json.dumps(result))
        return int(float(str(result["ratio"])) < LIMIT)
    for row in result["servers"]:  # type: ignore[attr-defined]
        numbers = f"{row['speed']:7.1f} kB/s  ratio {row['ratio']:.2f}  cpu {row['cpu_ms']:.2f} ms a write"
        print(f"frames of {row['frame']:4} B  {row['server']:8} {numbers}")
    print(f"BlueZ {result['bluez']}, share of D-Bus {result['dbus_share']}")
    return int(float(str(result["ratio"])) < LIMIT)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

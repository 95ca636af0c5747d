"""`scripts/bench smp [--json | --profile | --uploads N]`: echoes and uploads over UDP and a pty, beside a reflector.

The reflector (tests/benches/reflector.py) decodes and answers, and does nothing else; our target receives signed
images, checks them and has them on the disk. Both run all the time as processes of their own, and one client measures
them in turns. The numbers are medians of ROUNDS, ratios those of the ratios of each round, so that what else the
machine does hurts both.

    echo, pty_echo          round trips per second, one at a time, of a client on asyncio (tests/benches/clients.py)
    upload, pty_upload      bytes of an image per second, one request at a time, of that client
    *_replay                the same of a client that encodes and reads nothing meanwhile (tests/benches/channels.py):
                            nearly all of the time is the server's
    *_window                likewise over UDP with WINDOW requests under way: the server never waits for the client

ratios          ours to the reflector's, as rates
cpu_ratios      the same, as the reflector's processor time to ours
linear          what a byte costs in an upload of 8 MiB, to what it costs in the size where it costs least
above_mb        resident memory beyond that of a bare Python that has imported what our target has
start_s         from the start of the process to its first answer, each

The exit status is 1 if a limit is passed. `--uvloop` has the target run on uvloop. `--uploads N` looks instead whether
memory and descriptors stay as they are; `--profile` tells where the target's time goes.
"""

import argparse
import json
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cbor2

from tests.benches.channels import Exchange
from tests.benches.clients import exchange
from tests.benches.processes import Served, TargetFolder, reflector_command, serving
from tests.benches.requests import HEADER, TEXT, echo_requests, upload_requests

SERVERS = ("reflector", "target")
TRANSPORTS = ("udp", "serial")
KIB = 1024
MIB = 1024 * KIB
IMAGE_SIZE = MIB
SIZES = tuple(size * KIB for size in (64, 128, 256, 512, 1024, 2048, 4096, 8192))
ROUNDS = 5
ECHOES, PTY_ECHOES = 2000, 500
WINDOW = 4
"""Phones keep 3 or 4 requests under way."""
UDP_FRAME = 1472
"""What fits into an Ethernet frame beside the headers of IP and UDP."""
PTY_FRAME = 2475
"""The target's default buffer (`[smp] buf_size`)."""
LIMITS = {"echo": 0.6, "upload": 0.6, "pty_upload": 0.5}
"""A bare asyncio server and client make about 9,000 round trips and 11 MB a second over UDP on a machine like CI's."""
LINEAR_LIMIT = 1.5
ABOVE_LIMIT_MB = 30.0
GROWTH_LIMIT = MIB
"""Bytes by which the target may grow in many uploads, after the first tenth of them."""
BARE = """
import contextlib, importlib, os, sys
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured."""

    name: str
    transport: str
    window: int = 1
    image: bool = False
    """True: an upload; else echoes."""
    replayed: bool = True
    """False: the client makes each request when it is its turn, and reads each answer."""

    @property
    def frame(self) -> int:
        """Most bytes of a request."""
        return UDP_FRAME if self.transport == "udp" else PTY_FRAME


ECHO_WINDOW = Load("echo_window", "udp", WINDOW)
UPLOAD_WINDOW = Load("upload_window", "udp", WINDOW, image=True)
LOADS = (
    Load("echo", "udp", replayed=False),
    Load("upload", "udp", image=True, replayed=False),
    Load("pty_echo", "serial", replayed=False),
    Load("pty_upload", "serial", image=True, replayed=False),
    Load("echo_replay", "udp"),
    Load("upload_replay", "udp", image=True),
    Load("pty_echo_replay", "serial"),
    Load("pty_upload_replay", "serial", image=True),
    ECHO_WINDOW,
    UPLOAD_WINDOW,
)


@dataclass(slots=True)
class Samples:
    """What came out for one load on one server."""

    rates: list[float] = field(default_factory=list)
    """Round trips, or MiB of the image, per second."""
    cpu_s: list[float] = field(default_factory=list)
    """The server's processor time for one of those, in seconds."""
    trips_s: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Return the medians."""
        cuts = statistics.quantiles(self.trips_s, n=100)
        return {
            "rate": statistics.median(self.rates),
            "cpu_ms": statistics.median(self.cpu_s) * 1000,
            "p50_ms": cuts[49] * 1000,
            "p99_ms": cuts[98] * 1000,
        }


def measure(server: Served, load: Load, samples: Samples, image: bytes) -> None:
    """Do it once."""
    count = ECHOES if load.transport == "udp" else PTY_ECHOES
    if load.replayed:
        found, used = replay(server, load, upload_requests(image, load.frame) if load.image else echo_requests(count))
    else:
        used = server.cpu_s
        found = exchange(
            server.where(load.transport),
            lambda client: client.upload(image, load.frame) if load.image else client.echo(count),
        )
        used = server.cpu_s - used
    check(found.answers, len(image) if load.image else None)
    work = len(image) / MIB if load.image else count
    samples.rates.append(work / found.seconds)
    samples.cpu_s.append(used / work)
    samples.trips_s += found.trips_s


def replay(server: Served, load: Load, requests: Sequence[bytes]) -> tuple[Exchange, float]:
    """Send requests that are made already; return the answers and the server's processor time, in seconds."""
    channel = server.open(load.transport)
    try:
        used = server.cpu_s
        found = channel.exchange(requests, load.window)
        return found, server.cpu_s - used
    finally:
        channel.close()


def check(answers: Sequence[bytes], size: int | None) -> None:
    """Check that every request has its answer, in order, and that an upload of that size came to its end."""
    bodies = [cbor2.loads(answer[HEADER.size :]) for answer in answers]
    assert [answer[6] for answer in answers] == [number % 256 for number in range(len(answers))]
    if size is None:
        assert all(body == {"r": TEXT} for body in bodies)
    else:
        assert all("off" in body for body in bodies), next(body for body in bodies if "off" not in body)
        assert bodies[-1]["off"] == size


def compare(
    targets: Mapping[str, TargetFolder], servers: Mapping[tuple[str, str], Served]
) -> dict[Load, dict[str, Samples]]:
    """Measure every load on every server, in turns; the first round is to warm up and does not count.

    Args:
        targets: Make the images, by transport.
        servers: By name and transport; one process for each, because a peer who has updated keeps the others waiting.
    """
    for round_number in range(1 + ROUNDS):
        if round_number <= 1:
            found = {load: {name: Samples() for name in SERVERS} for load in LOADS}
        for load in LOADS:
            image = targets[load.transport].image(IMAGE_SIZE)
            for name in SERVERS:
                measure(servers[name, load.transport], load, found[load][name], image)
    return found


def rows(found: Mapping[Load, Mapping[str, Samples]]) -> list[dict[str, object]]:
    """Return a row for each load and server."""
    return [
        {"load": load.name, "server": name, "unit": "MiB" if load.image else "trips", **samples.row()}
        for load, each in found.items()
        for name, samples in each.items()
    ]


def by_round(mine: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios."""
    return statistics.median(one / other for one, other in zip(mine, others, strict=True))


def by_size(folder: Path) -> list[dict[str, float]]:
    """Return what uploads of each size cost on a target of its own with slots for the largest."""
    target = TargetFolder(folder, max(SIZES))
    samples = {size: Samples() for size in SIZES}
    with serving(target.command(), folder / "log") as server:
        for size in SIZES * ROUNDS:
            measure(server, UPLOAD_WINDOW, samples[size], target.image(size))
    found = {size: each.row() for size, each in samples.items()}
    return [{"size": size, "ms_per_mib": 1000 / row["rate"], **row} for size, row in found.items()]


def start_s(command: Sequence[str], log: Path) -> float:
    """Return how long it takes from the start of a server to its first answer, in seconds."""
    began = time.perf_counter()
    with serving(command, log) as server:
        channel = server.open("udp")
        channel.exchange(echo_requests(1), 1)
        channel.close()
        return time.perf_counter() - began


def bare_memory(target: TargetFolder) -> int:
    """Return the resident bytes of a Python that has imported what a target imports, and is nothing else."""
    log = target.folder / "imports"
    with serving(target.command("-X", "importtime"), log):
        pass
    lines = [line.split("|") for line in log.read_text().splitlines() if line.startswith("import time:")]
    names = {fields[2].strip() for fields in lines[1:]}
    libraries = sorted(name for name in names if name.partition(".")[0] not in ("smp_dfu_host", "__main__"))
    return int(subprocess.run([sys.executable, "-c", BARE, *libraries], check=True, capture_output=True).stdout)


def measure_all(folder: Path, *, uvloop: bool) -> dict[str, object]:
    """Measure everything."""
    log = folder / "log"
    targets = {transport: TargetFolder(folder / transport, IMAGE_SIZE, uvloop=uvloop) for transport in TRANSPORTS}
    commands = {
        (name, transport): targets[transport].command() if name == "target" else reflector_command(folder / transport)
        for name in SERVERS
        for transport in TRANSPORTS
    }
    starts = {name: [start_s(commands[name, "udp"], log) for _ in range(ROUNDS)] for name in SERVERS}
    with ExitStack() as stack:
        servers = {which: stack.enter_context(serving(command, log)) for which, command in commands.items()}
        found = compare(targets, servers)
        memory = servers["target", "udp"].memory
    bare = bare_memory(targets["udp"])
    sizes = by_size(folder / "large")
    ratios = {load.name: by_round(each["target"].rates, each["reflector"].rates) for load, each in found.items()}
    cpu_ratios = {load.name: by_round(each["reflector"].cpu_s, each["target"].cpu_s) for load, each in found.items()}
    return {
        "bench": "smp",
        "ratios": ratios,
        "cpu_ratios": cpu_ratios,
        "limits": LIMITS,
        "linear": sizes[-1]["ms_per_mib"] / min(row["ms_per_mib"] for row in sizes),
        "linear_limit": LINEAR_LIMIT,
        "resident_mb": memory / 1e6,
        "above_mb": (memory - bare) / 1e6,
        "above_limit_mb": ABOVE_LIMIT_MB,
        "start_s": {name: statistics.median(each) for name, each in starts.items()},
        "rows": rows(found),
        "sizes": sizes,
    }


def passed(result: Mapping[str, Any]) -> bool:
    """Tell whether no limit is passed."""
    ratios, limits = result["ratios"], result["limits"]
    fast = all(ratios[name] >= limit for name, limit in limits.items())
    return fast and result["linear"] <= LINEAR_LIMIT and result["above_mb"] <= ABOVE_LIMIT_MB


def show(result: Mapping[str, Any]) -> None:
    """Print it for people."""
    for row in result["rows"]:
        numbers = f"p50 {row['p50_ms']:7.3f} ms  p99 {row['p99_ms']:7.3f} ms  cpu {row['cpu_ms']:8.4f} ms"
        print(f"{row['load']:17} {row['server']:9} {row['rate']:9.2f} {row['unit']:>5}/s  {numbers} each")
    for name, ratio in result["ratios"].items():
        limit = f" (at least {LIMITS[name]})" if name in LIMITS else ""
        print(f"{name:17} ratio {ratio:.2f}{limit}, cpu {result['cpu_ratios'][name]:.2f}")
    for row in result["sizes"]:
        print(f"upload of {row['size'] // KIB:4} KiB: {row['ms_per_mib']:7.1f} ms, cpu {row['cpu_ms']:7.1f} ms a MiB")
    print(f"linear {result['linear']:.2f} (at most {LINEAR_LIMIT})")
    print(f"memory {result['resident_mb']:.1f} MB, {result['above_mb']:.1f} above bare (at most {ABOVE_LIMIT_MB})")
    print(f"start to first answer {result['start_s']}")


def grow(folder: Path, uploads: int) -> dict[str, object]:
    """Upload often, and look whether the target grows."""
    target = TargetFolder(folder / "target", IMAGE_SIZE)
    seen: list[tuple[int, int]] = []
    with serving(target.command(), folder / "log") as server:
        for _ in range(uploads):
            measure(server, UPLOAD_WINDOW, Samples(), target.image(IMAGE_SIZE))
            seen.append((server.memory, server.descriptors))
    memory, opened = seen[uploads // 10]
    return {
        "bench": "smp uploads",
        "uploads": uploads,
        "memory_mb": [seen[uploads * part // 10 - 1][0] / 1e6 for part in range(1, 11)],
        "growth_mb": (seen[-1][0] - memory) / 1e6,
        "growth_limit_mb": GROWTH_LIMIT / 1e6,
        "descriptors": seen[-1][1] - opened,
    }


def profile(folder: Path, lines: int) -> None:
    """Print where the target's time goes, for echoes and for uploads over UDP."""
    target = TargetFolder(folder / "target", IMAGE_SIZE)
    for load in (ECHO_WINDOW, UPLOAD_WINDOW):
        out = folder / f"{load.name}.profile"
        with serving(target.command("-m", "cProfile", "-o", str(out)), folder / "log") as server:
            for _ in range(ROUNDS):
                measure(server, load, Samples(), target.image(IMAGE_SIZE))
        print(f"== {load.name}")
        pstats.Stats(str(out)).sort_stats("tottime").print_stats(lines)


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench smp", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--profile", type=int, nargs="?", const=25, metavar="LINES")
    parser.add_argument("--uploads", type=int, metavar="N")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if options.profile:
            profile(folder, options.profile)
            return 0
        if options.uploads:
            grown = grow(folder, options.uploads)
            print(json.dumps(grown))
            return int(float(str(grown["growth_mb"])) * 1e6 > GROWTH_LIMIT or grown["descriptors"] != 0)
        result = measure_all(folder, uvloop=options.uvloop)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return int(not passed(result))

"""Measurements: `scripts/bench swap [--json]`; `smp` and `ble` are in tests/benches/{smp,ble}.py.

swap    A boot that swaps two images of one size, through the store's files, as a ratio to writing the same bytes once
        with fsync; alternately, medians of 11. 4 KiB sectors, swap-using-move, signed with ECDSA-P256; 64 KiB to 4 MiB.
        `linear` is the time of a byte at the largest size over that at the second smallest: what grows faster than
        linearly is above 1. The shares are those of time spent inside hashing, verifying and the flash model, of the
        512 KiB swap, measured by a run under a profiler.

The exit status is 1 if a limit is passed: a ratio of 3 at 512 KiB, `linear` of 1.5.
"""

import cProfile
import json
import os
import pstats
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric import ec

from smp_dfu_host.config import parse
from smp_dfu_host.store.slots import SlotStore
from tests.mcuboot.images import make_image, pem

KIB = 1024
SECTOR = 4096
SPARE = 8
"""Sectors of a slot beside the image: the trailer, and one to move into."""
SIZES = (*(size * KIB for size in (64, 128, 256, 512, 1024, 2048)), 4096 * KIB - SPARE * SECTOR)
"""The last one fills a slot of 4 MiB."""
TARGET = 512 * KIB
RUNS = 11
RATIO_LIMIT, LINEAR_LIMIT = 3.0, 1.5
PARTS = {
    "hashing": ("mcuboot/proofs.py", ("digest",)),
    "signature": ("mcuboot/keys.py", ("verifies",)),
}
"""What the shares are of: functions, with all that they call."""
FLASH_MODEL = ("mcuboot/flash.py", "store/files.py")
"""The files of the flash model; their functions call each other, so that it is the time within them that counts."""


class SwapBench:
    """A store with two images of one size, to be swapped to and fro."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.size = size
        key = ec.generate_private_key(ec.SECP256R1())
        self._images = [make_image((0, 0, number, 0), os.urandom(size - 256), key=key) for number in (1, 2)]
        (folder / "key.pem").write_bytes(pem(key))
        (folder / "factory.bin").write_bytes(self._images[0])
        sectors = size // SECTOR + SPARE
        self._store = SlotStore(
            parse(
                {
                    "store": "store",
                    "bootloader": {"mode": "swap-using-move", "keys": ["key.pem"]},
                    "flash": {"sector_size": SECTOR, "sectors": sectors, "max_sectors": sectors},
                    "image": {"factory": "factory.bin"},
                },
                folder,
            )
        )
        self._store.boot()
        self._store.load(1, self._images[1])

    def prepare(self) -> None:
        """Mark the other image to stay, so that the next boot swaps."""
        (other,) = (view for view in self._store.slots() if not view.active)
        self._store.set_state(other.hash, confirm=True)

    def swap(self) -> None:
        """Boot."""
        result = self._store.boot()
        assert result.ok, result.actions
        assert result.swap_type_done[0].upgrades

    def write(self) -> None:
        """Write the two images once, each to a file of its own, and wait for the disk."""
        for number, data in enumerate(self._images):
            with (self._folder / f"plain{number}").open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())


def seconds(call: Callable[[], None]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(folder: Path, size: int) -> dict[str, float]:
    """Return medians for one size."""
    bench = SwapBench(folder, size)
    swaps, writes = [], []
    for _ in range(RUNS):
        bench.prepare()
        writes.append(seconds(bench.write))
        swaps.append(seconds(bench.swap))
    swap_s, write_s = statistics.median(swaps), statistics.median(writes)
    return {"size": size, "swap_ms": swap_s * 1000, "write_ms": write_s * 1000, "ratio": swap_s / write_s}


def shares(folder: Path) -> dict[str, float]:
    """Return the share of each part in the time of a swap, under a profiler; one may hold another."""
    bench = SwapBench(folder, TARGET)
    bench.prepare()
    with cProfile.Profile() as profile:
        bench.swap()
    stats = pstats.Stats(profile)
    table: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]] = stats.stats  # type: ignore[attr-defined]
    total = sum(row[2] for row in table.values())
    found = dict.fromkeys((*PARTS, "flash model"), 0.0)
    for (file, _, name), row in table.items():
        for part, (where, names) in PARTS.items():
            if file.endswith(where) and name in names:
                found[part] += row[3]
        if file.endswith(FLASH_MODEL):
            found["flash model"] += row[2]
    return {part: spent / total for part, spent in found.items()}


def swap() -> dict[str, object]:
    """Measure swaps of all sizes."""
    rows = []
    for size in SIZES:
        with TemporaryDirectory(prefix="bench-") as folder:
            rows.append(measure(Path(folder), size))
    with TemporaryDirectory(prefix="bench-") as folder:
        parts = shares(Path(folder))
    per_byte = [row["swap_ms"] / row["size"] for row in rows]
    ratio = next(row["ratio"] for row in rows if row["size"] == TARGET)
    return {
        "bench": "swap",
        "ratio": ratio,
        "ratio_limit": RATIO_LIMIT,
        "linear": per_byte[-1] / per_byte[1],
        "linear_limit": LINEAR_LIMIT,
        "sizes": rows,
        "shares": parts,
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    if arguments[:1] == ["ble"]:
        from tests.benches import ble

        return ble.run(arguments[1:])
    if arguments[:1] == ["smp"]:
        from tests.benches import smp

        return smp.run(arguments[1:])
    if not arguments or arguments[0] != "swap":
        print("usage: scripts/bench swap|smp|ble [--json]", file=sys.stderr)
        return 2
    result = swap()
    if "--json" in arguments:
        print(json.dumps(result))
    else:
        for row in result["sizes"]:  # type: ignore[attr-defined]
            numbers = f"swap {row['swap_ms']:8.1f} ms  write {row['write_ms']:7.1f} ms  ratio {row['ratio']:.2f}"
            print(f"{row['size'] // KIB:5} KiB  {numbers}")
        print(f"linear {result['linear']:.2f}, shares {result['shares']}")
    return int(result["ratio"] > RATIO_LIMIT or result["linear"] > LINEAR_LIMIT)  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

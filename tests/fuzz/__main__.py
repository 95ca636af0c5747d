"""Fuzz: `scripts/fuzz TARGET SECONDS`; TARGET `all` is every target for so long each, `--list` names them.

An input that raises anything that is not documented, that takes more than a second, or after which the process keeps
growing, is a finding: its bytes are written to `.fuzz/TARGET/`, the traceback is printed, and the exit status is 1.
What was learnt stays in `.fuzz/TARGET/corpus` for the next time. A finding belongs into tests/fuzz/found/TARGET/ and
then into a test of its own. `--json` prints the counts as JSON, too.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.targets import TARGETS

FOLDER = Path(__file__).parents[2] / ".fuzz"
BACKSTOP_S = 30
"""libFuzzer ends an input that takes longer; shorter hangs are the guard's, which counts CPU time."""
MEMORY_MB = 2048
MEMORY = Path("/dev/shm")
"""Where files cost least."""
_UNITS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb:\s*(\d+)")
_FEATURES = re.compile(r"\bft: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of one target."""

    target: str
    executions: int
    seconds: float
    """How long it took, its start included."""
    features: int
    """What libFuzzer tells apart: branches that were taken, how often, and with which values."""
    peak_mb: int
    """Most resident memory, in MiB; the fuzzer's and its corpus included."""
    status: int
    """Exit status of the engine; 0: no finding."""

    def __str__(self) -> str:
        found = (
            "no finding" if self.status == 0 else f"A FINDING (status {self.status}), see above and .fuzz/{self.target}"
        )
        size = f"{self.executions} executions in {self.seconds:.0f} s, {self.features} features"
        return f"fuzz {self.target}: {size}, {self.peak_mb} MiB at most, {found}"


def fuzz(name: str, seconds: int, folder: Path = FOLDER) -> Outcome:
    """Fuzz one target for so many seconds."""
    options = [f"-max_total_time={seconds}", f"-timeout={BACKSTOP_S}", f"-rss_limit_mb={MEMORY_MB}"]
    command = [sys.executable, "-m", "tests.fuzz.engine", name, str(folder / name), *options, "-print_final_stats=1"]
    begun = time.monotonic()
    # The engine ends without cleaning up after itself.
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        surroundings = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0:
        print("\n".join([line for line in said.splitlines() if not line.startswith(("INFO:", "#"))][-60:]))
    return Outcome(
        name,
        last(_UNITS, said),
        round(time.monotonic() - begun, 1),
        last(_FEATURES, said),
        last(_PEAK, said),
        done.returncode,
    )


def last(number: re.Pattern[str], said: str) -> int:
    """Return the last such number that libFuzzer said; 0 if there is none."""
    return int((number.findall(said) or [0])[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", default="all", choices=[*TARGETS, "all"])
    parser.add_argument("seconds", nargs="?", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON at the end")
    parser.add_argument("--list", action="store_true", help="say what there is to fuzz")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{name:10} {target.about}" for name, target in TARGETS.items()))
        return 0
    outcomes = []
    for name in TARGETS if options.target == "all" else [options.target]:
        outcomes.append(fuzz(name, options.seconds))
        print(outcomes[-1], flush=True)
    findings = [outcome for outcome in outcomes if outcome.status != 0]
    print(f"fuzz: {sum(outcome.executions for outcome in outcomes)} executions, {len(findings)} findings")
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

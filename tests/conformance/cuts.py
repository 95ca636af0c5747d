"""Cut the power of updates everywhere, more than once and in the middle of operations; every store must still boot.

`python -m tests.conformance.cuts [--quick] [CUTS.JSON]`

Starts are those of the recorded tables (tests/vectors/mcuboot/cuts.json), and the same updates with two images, which
are not recorded there. From each start:

    clean       a cut before each operation of the boot, of the boot that follows, of the next, ... : all states that
                any number of such cuts can lead to
    torn        a cut in the middle of each operation: the first 1, 8 or 100 bytes of it are done
    torn twice  a second cut during the boot that follows, at every operation of it: clean after torn, torn after clean,
                torn after torn

Every state is booted once more without a cut, and what comes out of that once more. With `--quick`, second cuts are on
a grid: every 7th operation, shifted from state to state so that each has its turn. States that come up again are booted
once. A state fails if no image boots from it or from what it becomes, and the recorded table has no cut point like
that; or if a swap lost one of the two images.

The last line counts states that passed, failed and were skipped; the exit status is 0 if nothing failed.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.mcuboot import Replay
from tests.conformance.mcuboot_device import VECTORS, Build, Device, image
from tests.conformance.report import Report
from tests.conformance.snapshots import Flash, Operation, Outcome, State

TEARS = (1, 8, 100)
"""Bytes of an operation that are done before the power fails."""
QUICK_GRID = 7
"""Every how many operations a second cut is made with `--quick`."""
_CFG = {"align": 8, "erased": 255, "primary0": "4096x8", "secondary0": "4096x8"}
_SECOND = {"primary1": "4096x8", "secondary1": "4096x8"}


@dataclass(frozen=True, slots=True)
class Start:
    """Flash before an update, and what is known of the update."""

    name: str
    mode: str
    """As the recordings call it."""
    build: Build
    cfg: Mapping[str, Any]
    contents: Mapping[str, bytes]
    images: tuple[bytes, ...]
    """That must be found in the slots in the end; empty if the mode keeps but one."""
    bricks: bool = False
    """Whether the recorded table itself has cut points after which nothing boots."""


@dataclass
class Tally:
    """What came out, for one mode."""

    cuts: int = 0
    torn: int = 0
    double: int = 0
    bricks: int = 0
    expected: int = 0
    lost: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def states(self) -> int:
        """All states."""
        return self.cuts + self.torn + self.double

    @property
    def failed(self) -> int:
        """States that should have booted, with all images, and did not."""
        return self.bricks - self.expected + self.lost


class Explorer:
    """Boots one start over and over."""

    def __init__(self, start: Start, tally: Tally, grid: int = 1) -> None:
        self._start = start
        self._tally = tally
        self._grid = grid
        self._flash = Flash(Device(start.build, start.cfg, lambda _: b""))
        self._seen: dict[State, bool] = {}

    def run(self) -> None:
        """Try everything."""
        start = b"".join(self._start.contents[name] for name in self._flash.device.areas)
        first = self._flash.boot(self._flash.state(start))
        assert first.ok, f"{self._start.name}: the update does not work without a cut"
        numbered = list(enumerate(first.operations))
        torn = [(number, each.torn(tear)) for number, each in numbered for tear in TEARS]
        cut = [(number, each.before) for number, each in numbered if self._judge(each.before, "cuts")]
        torn = [(number, contents) for number, contents in torn if self._judge(contents, "torn")]
        for number, contents in cut:
            self._after_clean(self._flash.boot(contents), number)
        for number, contents in torn:
            self._after_torn(self._flash.boot(contents), number)

    def _after_clean(self, outcome: Outcome, number: int) -> None:
        """Tear the boot after a clean cut, and follow further clean cuts to wherever they lead."""
        for operation in self._sampled(outcome, number):
            for tear in TEARS:
                self._judge(operation.torn(tear), "double")
        waiting = [operation.before for operation in self._sampled(outcome, number)]
        while waiting:
            operations = self._sampled(self._judge(waiting.pop(), "double"), number)
            waiting += [operation.before for operation in operations if operation.before not in self._seen]

    def _after_torn(self, outcome: Outcome, number: int) -> None:
        """Cut the boot after a torn operation once more."""
        for operation in self._sampled(outcome, number):
            for size in (0, *TEARS):
                self._judge(operation.torn(size), "double")

    def _sampled(self, outcome: Outcome | None, shift: int) -> tuple[Operation, ...]:
        """Return the operations at which a second cut is made."""
        return outcome.operations[shift % self._grid :: self._grid] if outcome else ()

    def _judge(self, contents: State, kind: str) -> Outcome | None:
        """Boot a state that has not come up yet, and what it becomes; return None if it has."""
        if contents in self._seen:
            return None
        outcome = self._flash.boot(contents)
        tally = self._tally
        setattr(tally, kind, getattr(tally, kind) + 1)
        self._seen[contents] = good = outcome.ok and self._boots(outcome.end)
        if not good:
            tally.bricks += 1
            tally.expected += self._start.bricks
        elif self._lost(outcome.end):
            tally.lost += 1
            tally.failures.append(f"{self._start.name}: an image is lost after a {kind} cut")
        if not good and not self._start.bricks:
            tally.failures.append(f"{self._start.name}: nothing boots after a {kind} cut")
        return outcome

    def _boots(self, contents: State) -> bool:
        if (known := self._seen.get(contents)) is None:
            known = self._seen[contents] = self._flash.boot(contents).ok
        return known

    def _lost(self, contents: State) -> bool:
        areas = list(self._flash.areas(contents))
        return any(all(wanted not in area for area in areas) for wanted in self._start.images)


def recorded(path: Path) -> Iterator[Start]:
    """Yield the starts of the recorded tables."""
    report = Report()
    replay = Replay(path, report)
    for table in json.loads(path.read_text(encoding="utf-8")):
        build = Build.parse(table["exe"])
        contents = {name: replay.contents(sha) for name, sha in table["before"].items()}
        swaps = build.options(table["cfg"]).mode.swaps and not build.variant
        images = (image("v1"), image("v2")) if swaps else ()
        if any(all(wanted not in area for area in contents.values()) for wanted in images):
            images = ()
        bricks = any(not row[3] for row in table["rows"])
        name = f"{table['exe']} {table['kind']}"
        yield Start(name, build.mode, build, table["cfg"], contents, images, bricks)


def with_two_images(*, kinds: Sequence[str] = ("test", "perm", "revert")) -> Iterator[Start]:
    """Yield updates of two images at once in every mode that changes slot 0."""
    for mode in ("scratch", "move", "offset", "overwrite", "owfast"):
        build = Build(mode, "", 8, 2, 16)
        cfg = {**_CFG, **_SECOND} | ({"scratch": "4096x1"} if mode == "scratch" else {})
        swaps = build.options(cfg).mode.swaps
        for kind in kinds if swaps else kinds[:1]:
            device = Device(build, cfg, lambda _: b"")
            images = _prepare(device, mode, kind)
            contents = {name: area.read(0, area.size) for name, area in device.areas.items()}
            yield Start(f"{mode} two images {kind}", mode, build, cfg, contents, images if swaps else ())


def _prepare(device: Device, mode: str, kind: str) -> tuple[bytes, ...]:
    """Put two images in place and mark them; return all images."""
    names = (("a1", "a2"), ("b1", "b2"))
    for number, (old, new) in enumerate(names):
        device.areas[f"primary{number}"].load(0, image(old))
        device.areas[f"secondary{number}"].load(4096 if mode == "offset" else 0, image(new))
        device.bootloader.set_pending(number, permanent=kind == "perm")
    if kind == "revert":
        assert device.bootloader.boot().ok
    return tuple(image(name) for pair in names for name in pair)


def explore(starts: Iterator[Start], grid: int = 1) -> dict[str, Tally]:
    """Try everything from some starts; return what came out by mode."""
    tallies: dict[str, Tally] = {}
    for start in starts:
        kind = f"{start.mode}{', encrypted' if start.build.variant else ''}"
        what = f"{kind}, {start.build.images} image{'s' if start.build.images > 1 else ''}"
        Explorer(start, tallies.setdefault(what, Tally()), grid).run()
    return tallies


def main(arguments: Sequence[str]) -> int:
    """Explore, print counts for each mode; return the exit status."""
    quick = "--quick" in arguments
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    path = paths[0] if paths else VECTORS / "mcuboot" / "cuts.json"
    grid = QUICK_GRID if quick else 1
    tallies = explore(recorded(path), grid)
    tallies |= explore(with_two_images(kinds=("test",) if quick else ("test", "perm", "revert")), grid)
    print(f"{'mode':28}{'cuts':>8}{'torn':>8}{'double':>9}{'no boot':>9}{'recorded':>10}{'lost':>6}")
    for mode, tally in tallies.items():
        numbers = f"{tally.cuts:8}{tally.torn:8}{tally.double:9}{tally.bricks:9}{tally.expected:10}{tally.lost:6}"
        print(f"{mode:28}{numbers}")
        for failure in tally.failures[:10]:
            print(f"    {failure}")
    failed = sum(tally.failed for tally in tallies.values())
    print(f"{sum(tally.states for tally in tallies.values()) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Cut the power of updates everywhere, more than once and in the middle of operations; every store must still boot.

`python -m tests.conformance.cuts [--quick] [CUTS.JSON]`

Starts are those of the recorded tables (tests/vectors/mcuboot/cuts.json), and the same updates with two images, which
are not recorded there. From each start:

    clean       a cut before each operation of the boot, of the boot that follows, of the next, ... : all states that
                any number of such cuts can lead to
    torn        a cut in the middle of each operation: the first 1, 8 or 100 bytes of it are done
    torn twice  a second cut during the boot that follows: clean after torn and torn after clean at every operation;
                torn after torn at a grid, every 5th operation, shifted from state to state so that each has its turn

Every state is booted once more without a cut, and what comes out of that once more. With `--quick`, second cuts are on
a grid of every 7th operation. States that come up again are booted once. A state fails if no image boots from it or
from what it becomes, and the recorded table has no cut point like that; or if a swap lost one of the two images.

The last line counts states that passed, failed and were skipped; the exit status is 0 if nothing failed.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tests.conformance.mcuboot import VECTORS, Build, Device, Replay, Report, image

TEARS = (1, 8, 100)
"""Bytes of an operation that are done before the power fails."""
GRID, QUICK_GRID = 5, 7
"""Every how many operations a second cut is made where not all are."""
_CFG = {"align": 8, "erased": 255, "primary0": "4096x8", "secondary0": "4096x8"}
_SECOND = {"primary1": "4096x8", "secondary1": "4096x8"}

Contents = tuple[bytes, ...]


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


@dataclass(frozen=True, slots=True)
class Operation:
    """One flash operation of a boot, and the flash before it."""

    area: int
    offset: int
    data: bytes
    """What it leaves there."""
    before: Contents

    def torn(self, size: int) -> Contents:
        """Return the flash when the power fails after `size` of its bytes."""
        areas, part = list(self.before), self.data[:size]
        old = areas[self.area]
        areas[self.area] = old[: self.offset] + part + old[self.offset + len(part) :]
        return tuple(areas)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One boot without a cut."""

    ok: bool
    end: Contents
    operations: tuple[Operation, ...]


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

    def __init__(self, start: Start, tally: Tally, grid: int | None) -> None:
        self._start = start
        self._tally = tally
        self._grid = grid
        self._device = Device(start.build, start.cfg, lambda _: b"")
        self._areas = list(self._device.areas.values())
        self._names = {area.name: number for number, area in enumerate(self._areas)}
        self._seen: dict[bytes, bool] = {}

    def run(self) -> None:
        """Try everything."""
        first = self._boot(tuple(self._start.contents[area.name] for area in self._areas))
        assert first.ok, f"{self._start.name}: the update does not work without a cut"
        numbered = list(enumerate(first.operations))
        torn = [(number, each.torn(tear)) for number, each in numbered for tear in TEARS]
        cut = [(number, each.before) for number, each in numbered if self._judge(each.before, "cuts")]
        torn = [(number, contents) for number, contents in torn if self._judge(contents, "torn")]
        for number, contents in cut:
            self._after_clean(self._boot(contents), number)
        for number, contents in torn:
            self._after_torn(self._boot(contents), number)

    def _after_clean(self, outcome: Outcome, number: int) -> None:
        """Tear the boot after a clean cut, and follow further clean cuts to wherever they lead."""
        for operation in self._sampled(outcome, number, self._grid or 1):
            for tear in TEARS:
                self._judge(operation.torn(tear), "double")
        waiting = [operation.before for operation in self._sampled(outcome, number, self._grid or 1)]
        while waiting:
            operations = self._sampled(self._judge(waiting.pop(), "double"), number, self._grid or 1)
            waiting += [operation.before for operation in operations if _key(operation.before) not in self._seen]

    def _after_torn(self, outcome: Outcome, number: int) -> None:
        """Cut the boot after a torn operation once more."""
        for operation in self._sampled(outcome, number, self._grid or 1):
            self._judge(operation.before, "double")
        for operation in self._sampled(outcome, number, self._grid or GRID):
            for tear in TEARS:
                self._judge(operation.torn(tear), "double")

    @staticmethod
    def _sampled(outcome: Outcome | None, shift: int, grid: int) -> tuple[Operation, ...]:
        return outcome.operations[shift % grid :: grid] if outcome else ()

    def _judge(self, contents: Contents, kind: str) -> Outcome | None:
        """Boot a state that has not come up yet, and what it becomes; return None if it has."""
        if (key := _key(contents)) in self._seen:
            return None
        outcome = self._boot(contents)
        tally = self._tally
        setattr(tally, kind, getattr(tally, kind) + 1)
        self._seen[key] = good = outcome.ok and self._boots(outcome.end)
        if not good:
            tally.bricks += 1
            tally.expected += self._start.bricks
        elif any(all(wanted not in area for area in outcome.end) for wanted in self._start.images):
            tally.lost += 1
            tally.failures.append(f"{self._start.name}: an image is lost after a {kind} cut")
        if not good and not self._start.bricks:
            tally.failures.append(f"{self._start.name}: nothing boots after a {kind} cut")
        return outcome

    def _boots(self, contents: Contents) -> bool:
        if (known := self._seen.get(_key(contents))) is None:
            known = self._boot(contents).ok
            self._seen[_key(contents)] = known
        return known

    def _boot(self, contents: Contents) -> Outcome:
        for area, data in zip(self._areas, contents, strict=True):
            area.load(0, data)
        operations: list[Operation] = []
        states = [contents]

        def note(kind: str, name: str, offset: int, size: int, data: bytes) -> None:
            number = self._names[name]
            left = data if kind == "W" else bytes([self._areas[number].erased]) * size
            operations.append(Operation(number, offset, left, states[-1]))
            states.append(operations[-1].torn(len(left)))

        self._device.meter.trace = note
        ok = self._device.bootloader.boot().ok
        self._device.meter.trace = None
        return Outcome(ok, states[-1], tuple(operations))


def _key(contents: Contents) -> bytes:
    state = blake2b(digest_size=16)
    for data in contents:
        state.update(data)
    return state.digest()


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


def explore(starts: Iterator[Start], grid: int | None = None) -> dict[str, Tally]:
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
    grid = QUICK_GRID if quick else None
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

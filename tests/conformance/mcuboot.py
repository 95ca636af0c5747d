"""Replay what the real boot loader did, and compare: `python -m tests.conformance.mcuboot FILE...`.

Formats, told by content: scenarios, alignment flows, geometry, tables of trailer combinations, and power-cut tables
(tests/vectors/mcuboot/README.md); `.gz` too. Contents of areas are looked up beside the file first, then in
tests/vectors/mcuboot. Builds that are not known are skipped, with a line that says so; contents of a shape that is not
known fail, and so does a file that holds nothing to compare. Where ours may differ from the real boot loader stands in
mcuboot_rules.toml; what a rule let pass is counted.

The last line counts what passed, failed and was skipped; the exit status is 0 if nothing failed. Everything compared is
computed by the product.
"""

import gzip
import json
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import BootResult, SetNextError
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.image import ImageHeader
from tests.conformance.mcuboot_device import MODES, VECTORS, Build, Device, image
from tests.conformance.mcuboot_rules import Rule
from tests.conformance.mcuboot_rules import load as load_rules
from tests.conformance.report import Report

__all__ = ["MODES", "VECTORS", "Build", "Device", "Replay", "Report", "image", "main", "replay"]


@cache
def _blobs(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {path.stem: path.read_bytes() for path in folder.glob("*.bin")}
    for path in sorted(folder.glob("blobs-*.tar.xz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if (stream := archive.extractfile(member)) is not None:
                    found[Path(member.name).stem] = stream.read()
    return found


def _shas(areas: Mapping[str, Any]) -> dict[str, str]:
    return {name: area["sha"] for name, area in areas.items() if isinstance(area, dict) and "sha" in area}


def _differences(pairs: Iterable[tuple[str, Any, Any]]) -> Iterator[str]:
    for what, ours, recorded in pairs:
        if ours != recorded:
            yield f"{what} is {ours!r}, recorded {recorded!r}"


def _header(header: ImageHeader | None) -> dict[str, Any] | None:
    if header is None:
        return None
    return {
        "magic": f"0x{header.magic:08x}",
        "load_addr": header.load_addr,
        "hdr_size": header.hdr_size,
        "prot_tlv": header.protect_tlv_size,
        "img_size": header.img_size,
        "flags": header.flags,
        "version": header.version.semver,
    }


def _types(types: Sequence[Any], recorded: Sequence[str]) -> list[str]:
    """Return names of swap types; modes without them were recorded as "0"."""
    return [kind.name.lower() for kind in types] if "0" not in recorded else list(recorded)


class Replay:
    """Replays one file."""

    def __init__(self, path: Path, report: Report, rules: Sequence[Rule] = ()) -> None:
        self._path = path
        self._report = report
        self._rules = rules

    def run(self) -> None:
        """Replay everything in the file.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is not JSON.
        """
        data, before = self._path.read_bytes(), self._report.cases
        for name, item in _items(json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)):
            try:
                self._item(name, item)
            except (ValueError, LookupError, TypeError, AttributeError) as exc:
                self._report.add(f"{self._path} {name}", [f"cannot be read: {exc!r}"])
        if self._report.cases == before:
            self._report.add(str(self._path), ["holds nothing to compare"])

    def _item(self, name: str, item: Any) -> None:
        match item:
            case {"exe": _, "cfg": _, "steps": [*_]}:
                self._scenarios([item])
            case {"exe": _, "cfg": _, "before": _, "rows": [*_]}:
                self.cuts([item])
            case {"columns": [*_], "rows": [*_]}:
                self._table(name, item)
            case {"mode": _, "info": _, "max_image_size": _}:
                self._geometry(item)
            case _:
                keys = ", ".join(map(str, item)) if isinstance(item, dict) else repr(item)
                self._report.add(f"{self._path} {name}", [f"of a shape that is not known: {keys[:200]}"])

    def contents(self, sha: str) -> bytes:
        """Return recorded contents of an area.

        Raises:
            LookupError: If they are nowhere.
        """
        for folder in (self._path.parent.resolve(), VECTORS / "mcuboot"):
            if (found := _blobs(folder).get(sha)) is not None:
                return found
        raise LookupError(f"no contents for {sha}, neither beside {self._path} nor in {VECTORS / 'mcuboot'}")

    # Scenarios and alignment flows

    def _scenarios(self, scenarios: Iterable[Mapping[str, Any]]) -> None:
        for scenario in scenarios:
            build = Build.parse(scenario["exe"])
            if build.unknown:
                self._report.skip(1, build.unknown)
                continue
            name = scenario.get("name") or f"{scenario['exe']} align {scenario['cfg']['align']}"
            self._report.add(name, self._scenario(scenario, build, name))

    def _scenario(self, scenario: Mapping[str, Any], build: Build, name: str) -> Iterator[str]:
        device = Device(build, scenario["cfg"], self.contents, name)
        if "info" in scenario:
            yield from _differences(device.geometry(scenario["info"]))
        if scenario.get("max_size"):
            yield from _differences(_room(device, scenario))
        if "init_areas" in scenario:
            device.load(_shas(scenario["init_areas"]))
        else:
            device.place(scenario["init"])
        for number, step in enumerate(scenario["steps"], 1):
            where = f"step {number} {step['cmd']}"
            for difference in self._ruled(device, build, step["cmd"], _shas(step["after"]), self._step(device, step)):
                yield f"{where}: {difference}"

    def _ruled(
        self, device: Device, build: Build, command: Sequence[Any], after: Mapping[str, str], found: Iterator[str]
    ) -> Iterator[str]:
        """Yield differences, unless a rule lets a boot differ; it then goes on from the recorded flash.

        Args:
            device: Before the command.
            build: Of the boot loader.
            command: What is compared.
            after: The recorded flash.
            found: Carries the command out and yields the differences.
        """
        images = device.trailers() if list(command) == ["boot"] else []
        rule = next((each for each in self._rules if each.covers(build.mode, images)), None)
        before = device.contents() if rule else {}
        differences = list(found)
        if rule and differences:
            device.restore(before)
            device.cut(None)
            if device.bootloader.boot().ok:
                self._report.allowed[rule.reason] += 1
                device.load(after)
                return
        yield from differences

    def _step(self, device: Device, step: Mapping[str, Any]) -> Iterator[str]:
        after = step["after"]
        if "res" not in step:
            device.load(_shas(after))
            return
        device.cut(step.get("cut"))
        res = step["res"]
        try:
            yield from _differences(_command(device, step["cmd"], res))
        except PowerCut:
            if res.get("stopped") != "cut":
                yield "the power was cut"
        self._report.ops(device.meter.ops, None if "cut" in step else res.get("ops"))
        device.cut(None)
        yield from device.wrong_areas(_shas(after))
        if "0" not in (recorded := after.get("swap_type", ["0"])):
            types = [device.bootloader.swap_type(index) for index in range(len(recorded))]
            yield from _differences([("swap_type", _types(types, recorded), recorded)])

    # Geometry

    def _geometry(self, row: Mapping[str, Any]) -> None:
        build = Build(row["mode"], "", row["max_align"], 1, row["max_sectors"])
        if build.unknown:
            self._report.skip(1, build.unknown)
            return
        slot = f"{row['sector']}x{row['slot_sectors']}"
        cfg = {"align": row["align"], "erased": 255, "primary0": slot, "secondary0": slot}
        if build.mode == "scratch":
            cfg["scratch"] = f"{row['sector']}x1"
        device = Device(build, cfg, self.contents)
        pairs = [
            *device.geometry(row["info"]),
            ("max_image_size", device.bootloader.max_image_size(0), row["max_image_size"]),
        ]
        if row["compatible"] is not None:
            pairs.append(("compatible", int(not device.bootloader.incompatible(0)), row["compatible"]))
        name = f"geometry {row['mode']} max_align {row['max_align']} align {row['align']} sectors {row['max_sectors']}"
        self._report.add(name, _differences(pairs))

    # Tables

    def _table(self, name: str, table: Mapping[str, Any]) -> None:
        build = Build.parse(table.get("exe", "scratch_a8_i1_s16"))
        if build.unknown:
            self._report.skip(len(table["rows"]), build.unknown)
            return
        for row in table["rows"]:
            values = dict(zip(table["columns"], row, strict=True))
            self._report.add(f"table {name} {row[:6]}", self._table_row(name, build, values))

    def _table_row(self, name: str, build: Build, row: Mapping[str, Any]) -> Iterator[str]:
        cfg = {"align": 8, "erased": 255, "primary0": "4096x8", "secondary0": "4096x8"}
        if build.mode == "scratch":
            cfg["scratch"] = "4096x1"
        device = Device(build, cfg, self.contents)
        places = {"pri": "primary0", "sec": "secondary0", "scratch": "scratch"}
        device.areas["primary0"].load(0, image("v1"))
        device.areas["secondary0"].load(4096 if name == "offset" else 0, image("v2"))
        for column, value in row.items():
            place, _, cell = column.partition(".")
            if place in places and cell in ("magic", "image_ok", "copy_done"):
                device.set_cell(places[place], cell, value)
        boot = device.bootloader
        if "swap_type(before)" in row:
            before = boot.swap_type(0).name.lower()
            yield from _differences([("swap_type(before)", before, row["swap_type(before)"])])
        result = boot.boot()
        pairs = [
            ("boot ok", result.ok, row["boot ok"]),
            ("stopped", result.stopped is not None, row["stopped"] is not None),
            ("primary", device.identify("primary0"), row["primary after"]),
            ("secondary", device.identify("secondary0"), row["secondary after"]),
        ]
        order = ("magic", "swap_info", "copy_done", "image_ok")
        columns = ("primary trailer after [magic,swap_type,copy_done,image_ok]", "secondary trailer after")
        for cells, column in zip(device.trailers()[0], columns, strict=True):
            if column in row:
                pairs.append((column, [cells[name] for name in order], row[column]))
        if "swap_type(after)" in row:
            pairs.append(("swap_type(after)", boot.swap_type(0).name.lower(), row["swap_type(after)"]))
        yield from _differences(pairs)

    # Power cuts

    def cuts(self, tables: Iterable[Mapping[str, Any]]) -> None:
        """Replay tables of power cuts."""
        for table in tables:
            build = Build.parse(table["exe"])
            if build.unknown:
                self._report.skip(len(table["rows"]), build.unknown)
                continue
            name = f"cut {table['exe']} {table['kind']}"
            device = Device(build, table["cfg"], self.contents)
            self._report.add(f"{name} uncut", self._uncut(device, table))
            for row in table["rows"]:
                found = self._cut_row(device, build, table, row)
                self._report.add(f"{name} before operation {row[0]}", found)

    def _uncut(self, device: Device, table: Mapping[str, Any]) -> Iterator[str]:
        device.load(table["before"])
        device.cut(None)
        result = device.bootloader.boot()
        self._report.ops(result.ops, table["ops"])
        yield from _differences([("boot ok", result.ok, table["boot"])])
        yield from device.wrong_areas(table["end"])

    def _cut_row(self, device: Device, build: Build, table: Mapping[str, Any], row: Sequence[Any]) -> Iterator[str]:
        number, after, types, ok, stopped, ops, _, *more = row
        # What follows is there only if it says something, and is told by its type.
        tear = next((value for value in more if isinstance(value, int)), 0)
        end = next((value for value in more if isinstance(value, list)), None)
        device.load(table["before"])
        device.cut(number, tear)
        try:
            device.bootloader.boot()
        except PowerCut:
            pass
        else:
            yield "the power was not cut"
        device.cut(None)
        yield from device.wrong_areas(dict(zip(table["areas"], after, strict=True)))
        found = [device.bootloader.swap_type(index).name.lower() for index in range(len(types))]
        yield from _differences([("swap_type after the cut", found, types)])
        recorded = dict(zip(table["areas"], end, strict=True)) if end else table["end"]
        second = self._second_boot(device, {"ok": ok, "stopped": stopped, "ops": ops}, recorded)
        yield from self._ruled(device, build, ["boot"], {}, second)

    def _second_boot(self, device: Device, res: Mapping[str, Any], end: Mapping[str, str]) -> Iterator[str]:
        result = device.bootloader.boot()
        self._report.ops(result.ops, res["ops"])
        stopped = ("stopped", result.stopped is None, res["stopped"] is None)
        yield from _differences([("2nd boot ok", result.ok, res["ok"]), stopped])
        yield from device.wrong_areas(end)


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a file holds, one by one, each with what to call it."""
    if isinstance(content, list):
        yield from ((f"number {place}", each) for place, each in enumerate(content, 1))
    elif not isinstance(content, dict) or {"steps", "rows"} & content.keys():
        yield "as a whole", content
    else:
        for key, value in content.items():
            if isinstance(value, list):
                yield from ((f"{key} number {place}", each) for place, each in enumerate(value, 1))
            elif isinstance(value, dict):
                yield key, value


def _room(device: Device, scenario: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    yield "compatible", int(not device.bootloader.incompatible(0)), scenario["compat"]
    yield "max_image_size", device.bootloader.max_image_size(0), scenario["max_size"]


def _command(device: Device, command: Sequence[Any], res: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Carry out one command; yield ours and the recorded value of each result."""
    boot = device.bootloader
    match command:
        case ["boot"]:
            yield from _boot(boot.boot(), res)
        case ["set-pending", image_number, permanent]:
            yield "rc", _rc(lambda: boot.set_pending(image_number, permanent=bool(permanent))), res.get("rc", 0)
        case ["set-confirmed", image_number]:
            yield "rc", _rc(lambda: boot.set_confirmed(image_number)), res.get("rc", 0)
        case ["set-next", image_number, slot, active, confirm]:
            call = _rc(lambda: boot.set_next(image_number, slot, active=bool(active), confirm=bool(confirm)))
            yield "rc", call, res.get("rc", 0)
        case _:
            raise ValueError(f"{command}: not a command that was recorded")


def _rc(call: Callable[[], None]) -> int:
    try:
        call()
    except SetNextError as exc:
        return exc.rc
    except StoreError:
        return 1
    return 0


def _boot(result: BootResult, res: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    yield "stopped", result.stopped is not None, res.get("stopped") is not None
    yield "image_off", result.image_off, res.get("image_off")
    yield "hdr", _header(result.header), res.get("hdr")
    ours: dict[str, Any] = {
        "ok": result.ok,
        "nv": list(result.nv),
        "active_slots": [-1 if slot is None else slot for slot in result.active_slots],
    }
    yield from ((name, value, res[name]) for name, value in ours.items() if name in res)
    for name, types in (("pre_swap_type", result.pre_swap_type), ("swap_type_done", result.swap_type_done)):
        if name in res:
            yield name, _types(types, res[name]), res[name]


def replay(paths: Iterable[Path], rules: Sequence[Rule] = ()) -> Report:
    """Replay files and return what came out."""
    report = Report()
    for path in paths:
        try:
            Replay(path, report, rules).run()
        except (OSError, ValueError) as exc:
            report.add(str(path), [f"cannot be read: {exc!r}"])
    return report


def main(arguments: Sequence[str]) -> int:
    """Replay the files of the command line; return the exit status."""
    if not arguments:
        print("usage: python -m tests.conformance.mcuboot FILE...", file=sys.stderr)
        return 2
    report = replay((Path(argument) for argument in arguments), load_rules())
    for line in report.lines():
        print(line)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

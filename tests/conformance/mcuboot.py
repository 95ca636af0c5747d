"""Replay what the real boot loader did, and compare: `python -m tests.conformance.mcuboot FILE...`.

Formats, told by content: scenarios, alignment flows, geometry, tables of trailer combinations, and power-cut tables
(tests/vectors/mcuboot/README.md); `.gz` too. Contents of areas are looked up beside the file first, then in
tests/vectors/mcuboot. The last line counts what passed, failed and was skipped; the exit status is 0 if nothing failed.

Everything compared is computed by the product. What is here beside that: how the recorded builds were configured.
"""

import gzip
import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import (
    Bootloader,
    BootOptions,
    BootResult,
    Downgrade,
    Mode,
    RamRegion,
    SetNextError,
    SlotPair,
)
from smp_dfu_host.mcuboot.encryption import DecryptionKey, load_decryption_key
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage, PowerCut
from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.mcuboot.verify import PublicKey, load_public_key

VECTORS = Path(__file__).parents[1] / "vectors"
BUILT = frozenset(
    {"scratch", "move", "offset", "overwrite", "owfast", "xip", "xiprevert", "ramload", "ramloadrevert", "single"}
)
"""Recorded modes that the product has."""
VARIANTS = frozenset({"nv", "dp", "dpsc", "hwrb", "boots", "allow", "bn", "once", "enc", "encraw"})
"""Variants of the recorded builds that the product has."""
MAX_IMAGES = 2
MODES = {
    "scratch": Mode.SWAP_USING_SCRATCH,
    "move": Mode.SWAP_USING_MOVE,
    "offset": Mode.SWAP_USING_OFFSET,
    "overwrite": Mode.OVERWRITE_ONLY,
    "owfast": Mode.OVERWRITE_ONLY,
    "xip": Mode.DIRECT_XIP,
    "xiprevert": Mode.DIRECT_XIP_WITH_REVERT,
    "ramload": Mode.RAM_LOAD,
    "ramloadrevert": Mode.RAM_LOAD_WITH_REVERT,
    "single": Mode.SINGLE_SLOT,
}
_BUILD = re.compile(r"(?P<mode>[a-z]+)(?:-(?P<variant>[a-z-]+))?_a(?P<align>\d+)_i(?P<images>\d+)_s(?P<sectors>\d+)")
_KEY = "TESTKEY-ecdsa-p256"


@dataclass(frozen=True, slots=True)
class Build:
    """One recorded build of the real boot loader."""

    mode: str
    variant: str
    max_align: int
    images: int
    max_sectors: int

    @classmethod
    def parse(cls, name: str) -> "Build":
        """Read `<mode>[-variant]_a<MAX_ALIGN>_i<IMAGES>_s<MAX_IMG_SECTORS>`.

        Raises:
            ValueError: If the name is of another form.
        """
        if not (found := _BUILD.fullmatch(name)):
            raise ValueError(f"{name}: not the name of a recorded build")
        variant = found["variant"] or ""
        return cls(found["mode"], variant, int(found["align"]), int(found["images"]), int(found["sectors"]))

    @property
    def skipped(self) -> bool:
        """Whether the product does not have it yet."""
        known = self.mode in BUILT and (not self.variant or self.variant in VARIANTS)
        return not known or self.images > MAX_IMAGES

    def options(self, cfg: Mapping[str, Any]) -> BootOptions:
        """Return the product's options for it."""
        ram = RamRegion(_number(cfg["ram_start"]), _number(cfg["ram_size"])) if "ram_start" in cfg else None
        return BootOptions(
            mode=MODES[self.mode],
            max_align=self.max_align,
            max_sectors=self.max_sectors,
            keys=(public_key(_KEY),),
            allow_list=self.variant == "allow",
            validate_primary=self.variant != "nv",
            compare_build=self.variant == "bn",
            overwrite_fast=self.mode == "owfast",
            validate_once=self.variant == "once",
            bootstrap=self.variant == "boots",
            downgrade={"dp": Downgrade.BY_VERSION, "dpsc": Downgrade.BY_COUNTER}.get(self.variant, Downgrade.ALLOWED),
            rollback=self.variant == "hwrb",
            decryption=decryption_key() if self.variant in ("enc", "encraw") else None,
            save_tlv=self.variant == "enc",
            ram=ram,
        )


@cache
def public_key(name: str) -> PublicKey:
    """Return a test key."""
    keys = json.loads((VECTORS / "images" / "testkeys.json").read_text(encoding="utf-8"))
    return load_public_key(keys[name]["public_pem"].encode())


@cache
def decryption_key() -> DecryptionKey:
    """Return the key that the encrypted images are for."""
    keys = json.loads((VECTORS / "images" / "testkeys.json").read_text(encoding="utf-8"))
    return load_decryption_key(bytes.fromhex(keys["TESTKEY-enc-ecdsa-p256"]["test_private_pkcs8_der_hex"]))


@cache
def image(name: str) -> bytes:
    """Return one of the images that the recordings used."""
    return (VECTORS / "mcuboot" / "images" / f"{name}.bin").read_bytes()


@cache
def _blobs(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {path.stem: path.read_bytes() for path in folder.glob("*.bin")}
    for path in sorted(folder.glob("blobs-*.tar.xz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if (stream := archive.extractfile(member)) is not None:
                    found[Path(member.name).stem] = stream.read()
    return found


@dataclass
class Report:
    """What came out of a replay."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    ops_same: int = 0
    ops_all: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, differences: Iterable[str]) -> None:
        """Count one case; it passed if there are no differences and nothing broke while they were looked for."""
        found: list[str] = []
        try:
            found.extend(differences)
        except Exception as exc:  # the product's fault or the file's: it costs this case, not the others
            found.append(f"stopped by {exc!r}")
        self.passed += not found
        self.failed += bool(found)
        self.failures += [f"{name}: {difference}" for difference in found]

    def ops(self, ours: int, recorded: int | None) -> None:
        """Count whether the number of flash operations is the recorded one; it need not be."""
        if recorded is not None:
            self.ops_all += 1
            self.ops_same += ours == recorded

    def lines(self) -> Iterator[str]:
        """Yield what to print; the last line is the count."""
        yield from self.failures
        yield f"flash operations: {self.ops_same} of {self.ops_all} counts agree"
        yield f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class Device:
    """Flash areas as a recorded configuration describes them, and the boot loader on them."""

    def __init__(self, build: Build, cfg: Mapping[str, Any], contents: Callable[[str], bytes], name: str = "") -> None:
        self.meter = FlashMeter()
        self.areas: dict[str, FlashArea] = {}
        address = _number(cfg.get("base", 0))
        names = [f"{slot}{index}" for index in range(build.images) for slot in ("primary", "secondary")]
        for area in [*names, "scratch"]:
            if area in cfg:
                sectors = _sectors(str(cfg[area]))
                address = _number(cfg.get(f"off_{area}", address))
                erased = bytes([_number(cfg["erased"])]) * sum(sectors)
                self.areas[area] = FlashArea(
                    area, MemoryStorage(erased), sectors, _number(cfg["align"]), erased[0], address, self.meter
                )
                address += sum(sectors)
        self._contents = contents
        pairs = [
            SlotPair(self.areas[f"primary{index}"], self.areas.get(f"secondary{index}", self.areas[f"primary{index}"]))
            for index in range(build.images)
        ]
        counter = re.search(r"-nv(\d+)-", name)
        counters = [int(counter[1]) if counter else 0, 0]
        self.bootloader = Bootloader(build.options(cfg), pairs, self.areas.get("scratch"), counters)

    def load(self, shas: Mapping[str, str]) -> None:
        """Set areas to recorded contents."""
        for name, sha in shas.items():
            self.areas[name].load(0, self._contents(sha))

    def wrong_areas(self, shas: Mapping[str, str]) -> Iterator[str]:
        """Yield which areas do not have the recorded contents."""
        for name, sha in shas.items():
            area = self.areas[name]
            data = area.read(0, area.size)
            if hashlib.sha256(data).hexdigest()[:16] != sha:
                yield f"{name} {_difference(data, self._contents(sha))}"

    def cut(self, before: int | None, tear: int = 0) -> None:
        """Set the power cut, counted from now on."""
        self.meter.ops = 0
        self.meter.cut_before, self.meter.tear = before, tear


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(str(value), 0)


def _sectors(text: str) -> tuple[int, ...]:
    pairs = (part.split("x") for part in text.split(","))
    return tuple(int(size) for size, count in pairs for _ in range(int(count)))


def _difference(data: bytes, wanted: bytes) -> str:
    at = next((i for i, (a, b) in enumerate(zip(data, wanted, strict=False)) if a != b), min(len(data), len(wanted)))
    return f"differs from 0x{at:x} on: {data[at : at + 16].hex()}, recorded {wanted[at : at + 16].hex()}"


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

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report

    def run(self) -> None:
        """Replay everything in the file."""
        data = self._path.read_bytes()
        content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        if isinstance(content, list):
            self.cuts(content)
        elif "scenarios" in content:
            self._scenarios(content["scenarios"])
        elif "steps" in content:
            self._scenarios([content])
        elif "flows" in content:
            self._scenarios(content["flows"])
        elif "trailer_geometry" in content or "layouts" in content:
            for row in content.get("trailer_geometry", []):
                self._geometry(row)
            self._scenarios(content.get("layouts", []))
        else:
            self._tables(content)

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
            if build.skipped:
                self._report.skipped += 1
                continue
            name = scenario.get("name") or f"{scenario['exe']} align {scenario['cfg']['align']}"
            self._report.add(name, self._scenario(scenario, build, name))

    def _scenario(self, scenario: Mapping[str, Any], build: Build, name: str) -> Iterator[str]:
        device = Device(build, scenario["cfg"], self.contents, name)
        if "info" in scenario:
            yield from _differences(_geometry(device, scenario["info"]))
        if "init_areas" in scenario:
            device.load(_shas(scenario["init_areas"]))
        else:
            _place(device, scenario["init"])
        for number, step in enumerate(scenario["steps"], 1):
            where = f"step {number} {step['cmd']}"
            for difference in self._step(device, step):
                yield f"{where}: {difference}"

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
        if build.skipped:
            self._report.skipped += 1
            return
        slot = f"{row['sector']}x{row['slot_sectors']}"
        cfg = {"align": row["align"], "erased": 255, "primary0": slot, "secondary0": slot}
        if build.mode == "scratch":
            cfg["scratch"] = f"{row['sector']}x1"
        device = Device(build, cfg, self.contents)
        pairs = [
            *_geometry(device, row["info"]),
            ("max_image_size", device.bootloader.max_image_size(0), row["max_image_size"]),
        ]
        if row["compatible"] is not None:
            pairs.append(("compatible", int(not device.bootloader.incompatible(0)), row["compatible"]))
        name = f"geometry {row['mode']} max_align {row['max_align']} align {row['align']} sectors {row['max_sectors']}"
        self._report.add(name, _differences(pairs))

    # Tables

    def _tables(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        for name, table in tables.items():
            build = Build.parse(table.get("exe", "scratch_a8_i1_s16"))
            if build.skipped:
                self._report.skipped += len(table["rows"])
                continue
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
                _set_cell(device, places[place], cell, value)
        boot = device.bootloader
        if "swap_type(before)" in row:
            before = boot.swap_type(0).name.lower()
            yield from _differences([("swap_type(before)", before, row["swap_type(before)"])])
        result = boot.boot()
        pairs = [
            ("boot ok", result.ok, row["boot ok"]),
            ("stopped", result.stopped is not None, row["stopped"] is not None),
            ("primary", _identify(device.areas["primary0"]), row["primary after"]),
            ("secondary", _identify(device.areas["secondary0"]), row["secondary after"]),
        ]
        for number, what in enumerate(
            ("primary trailer after [magic,swap_type,copy_done,image_ok]", "secondary trailer after")
        ):
            if what in row:
                pairs.append((what, _trailer_state(boot, number), row[what]))
        if "swap_type(after)" in row:
            pairs.append(("swap_type(after)", boot.swap_type(0).name.lower(), row["swap_type(after)"]))
        yield from _differences(pairs)

    # Power cuts

    def cuts(self, tables: Iterable[Mapping[str, Any]]) -> None:
        """Replay tables of power cuts."""
        for table in tables:
            build = Build.parse(table["exe"])
            if build.skipped:
                self._report.skipped += len(table["rows"])
                continue
            name = f"cut {table['exe']} {table['kind']}"
            device = Device(build, table["cfg"], self.contents)
            self._report.add(f"{name} uncut", self._uncut(device, table))
            for row in table["rows"]:
                self._report.add(f"{name} before operation {row[0]}", self._cut_row(device, table, row))

    def _uncut(self, device: Device, table: Mapping[str, Any]) -> Iterator[str]:
        device.load(table["before"])
        device.cut(None)
        result = device.bootloader.boot()
        self._report.ops(result.ops, table["ops"])
        yield from _differences([("boot ok", result.ok, table["boot"])])
        yield from device.wrong_areas(table["end"])

    def _cut_row(self, device: Device, table: Mapping[str, Any], row: Sequence[Any]) -> Iterator[str]:
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
        result = device.bootloader.boot()
        self._report.ops(result.ops, ops)
        yield from _differences([("2nd boot ok", result.ok, ok), ("stopped", result.stopped is None, stopped is None)])
        recorded = dict(zip(table["areas"], end, strict=True)) if end else table["end"]
        yield from device.wrong_areas(recorded)


def _place(device: Device, init: Mapping[str, Any]) -> None:
    """Put images and trailers where a recording says that they were at first."""
    for name, items in init.items():
        for item in items:
            if "img" in item:
                device.areas[name].load(_number(item.get("off", 0)), image(item["img"]))
            for cell in ("magic", "image_ok", "copy_done", "swap_info", "swap_size"):
                if item.get(cell) is not None:
                    _set_cell(device, name, cell, item[cell])


def _set_cell(device: Device, name: str, cell: str, value: Any) -> None:
    trailer = _trailer(device, name)
    if cell == "magic":
        data = {"good": trailer.rules.magic, "bad": trailer.rules.magic[:-1] + b"\0", "unset": b""}[value]
    elif cell == "swap_size":
        data = _number(value).to_bytes(4, "little")
    else:
        flags = {"set": b"\x01", "bad": b"\x55", "unset": b""}
        data = flags[value] if value in flags else bytes([_number(value)])
    device.areas[name].load(getattr(trailer.layout, cell), data)


def _trailer(device: Device, name: str) -> Any:
    if name == "scratch":
        return device.bootloader.scratch_trailer()
    return device.bootloader.trailer(int(name[-1]), int(name.startswith("secondary")))


def _trailer_state(boot: Bootloader, slot: int) -> list[str]:
    state = boot.trailer(0, slot).state()
    return [state.magic.value, state.swap_type.name.lower(), state.copy_done.value, state.image_ok.value]


def _identify(area: FlashArea) -> str:
    """Tell which of the images of the tables lie where."""
    data = area.read(0, area.size)
    found: list[str] = []
    for offset in range(0, area.size, area.sectors[0]):
        names = (name for name in ("v1", "v2", "v2trunc") if data.startswith(image(name), offset))
        found += [f"{name}@0x{offset:x}" for name in [*names][:1]]
    if found:
        return "+".join(found)
    return "erased" if data.count(area.erased) == len(data) else "other"


def _geometry(device: Device, info: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield ours and the recorded value of each number of a trailer's geometry."""
    trailer = device.bootloader.trailer(0, 0)
    rules, layout, align = trailer.rules, trailer.layout, info["align"]
    ours: dict[str, Any] = {
        "magic": rules.magic.hex(),
        "magic_off": layout.magic,
        "image_ok_off": layout.image_ok,
        "copy_done_off": layout.copy_done,
        "swap_info_off": layout.swap_info,
        "swap_size_off": layout.swap_size,
        "tlv_sizes_off": layout.tlv_sizes,
        "status_off": layout.status,
        "trailer_sz": rules.trailer_size(align),
        "status_sz": rules.trailer_size(align) - rules.info_size,
        "status_state_count": rules.states,
        "slot_size": layout.size,
        "trailer_fits": layout.status >= 0,
        "scratch_trailer_sz": rules.scratch_trailer_size(align),
    }
    return ((name, value, info[name]) for name, value in ours.items() if name in info)


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


def replay(paths: Iterable[Path]) -> Report:
    """Replay files and return what came out."""
    report = Report()
    for path in paths:
        try:
            Replay(path, report).run()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            report.add(str(path), [f"not of a known format, or cannot be read: {exc!r}"])
    return report


def main(arguments: Sequence[str]) -> int:
    """Replay the files of the command line; return the exit status."""
    if not arguments:
        print("usage: python -m tests.conformance.mcuboot FILE...", file=sys.stderr)
        return 2
    report = replay(Path(argument) for argument in arguments)
    for line in report.lines():
        print(line)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

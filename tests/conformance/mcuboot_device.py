"""The recorded builds of the real boot loader, and flash as the recordings describe it, with our boot loader on it.

A build is called `<mode>[-variant...]_a<MAX_ALIGN>_i<IMAGES>_s<MAX_IMG_SECTORS>`; tests/vectors/mcuboot/README.md says
what modes and variants mean.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Downgrade, Mode, RamRegion, SlotPair
from smp_dfu_host.mcuboot.encryption import DecryptionKey, load_decryption_key
from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.verify import PublicKey, load_public_key

VECTORS = Path(__file__).parents[1] / "vectors"
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
"""Recorded modes."""
VARIANTS = frozenset({"nv", "dp", "dpsc", "hwrb", "boots", "allow", "bn", "once", "enc", "encraw"})
"""Variants of the recorded builds, any number at once."""
MAX_IMAGES = 3
_BUILD = re.compile(r"(?P<mode>[a-z]+)(?P<variants>(?:-[a-z]+)*)_a(?P<align>\d+)_i(?P<images>\d+)_s(?P<sectors>\d+)")
_KEY = "TESTKEY-ecdsa-p256"


@dataclass(frozen=True, slots=True)
class Build:
    """One recorded build of the real boot loader."""

    mode: str
    variant: str
    """All of them, with dashes between; empty: none."""
    max_align: int
    images: int
    max_sectors: int

    @classmethod
    def parse(cls, name: str) -> "Build":
        """Read the name of a build.

        Raises:
            ValueError: If the name is of another form.
        """
        if not (found := _BUILD.fullmatch(name)):
            raise ValueError(f"{name}: not the name of a recorded build")
        variant = found["variants"].removeprefix("-")
        return cls(found["mode"], variant, int(found["align"]), int(found["images"]), int(found["sectors"]))

    @property
    def variants(self) -> frozenset[str]:
        """What it was built with beside the mode."""
        return frozenset(filter(None, self.variant.split("-")))

    @property
    def unknown(self) -> str:
        """Why it cannot be replayed; empty if it can."""
        if self.mode not in MODES:
            return f"builds of mode {self.mode!r} are not known"
        if strange := sorted(self.variants - VARIANTS):
            return f"builds of variant {', '.join(map(repr, strange))} are not known"
        return f"builds of {self.images} images are not known" if self.images > MAX_IMAGES else ""

    def options(self, cfg: Mapping[str, Any]) -> BootOptions:
        """Return the product's options for it."""
        ram = RamRegion(number(cfg["ram_start"]), number(cfg["ram_size"])) if "ram_start" in cfg else None
        return BootOptions(
            mode=MODES[self.mode],
            max_align=self.max_align,
            max_sectors=self.max_sectors,
            keys=(public_key(_KEY),),
            allow_list="allow" in self.variants,
            validate_primary="nv" not in self.variants,
            compare_build="bn" in self.variants,
            overwrite_fast=self.mode == "owfast",
            validate_once="once" in self.variants,
            bootstrap="boots" in self.variants,
            downgrade=self._downgrade,
            rollback="hwrb" in self.variants,
            decryption=decryption_key() if self.variants & {"enc", "encraw"} else None,
            save_tlv="enc" in self.variants,
            ram=ram,
        )

    @property
    def _downgrade(self) -> Downgrade:
        if "dpsc" in self.variants:
            return Downgrade.BY_COUNTER
        return Downgrade.BY_VERSION if "dp" in self.variants else Downgrade.ALLOWED


@cache
def _keys() -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = json.loads((VECTORS / "images" / "testkeys.json").read_text("utf-8"))
    return found


@cache
def public_key(name: str) -> PublicKey:
    """Return a test key."""
    return load_public_key(_keys()[name]["public_pem"].encode())


@cache
def decryption_key() -> DecryptionKey:
    """Return the key that the encrypted images are for."""
    return load_decryption_key(bytes.fromhex(_keys()["TESTKEY-enc-ecdsa-p256"]["test_private_pkcs8_der_hex"]))


@cache
def image(name: str) -> bytes:
    """Return one of the images that the recordings used."""
    return (VECTORS / "mcuboot" / "images" / f"{name}.bin").read_bytes()


def number(value: Any) -> int:
    """Read a number of a recording, which may be a text such as `0x10`."""
    return value if isinstance(value, int) else int(str(value), 0)


def _sectors(text: str) -> tuple[int, ...]:
    pairs = (part.split("x") for part in text.split(","))
    return tuple(int(size) for size, count in pairs for _ in range(int(count)))


class Device:
    """Flash areas as a recorded configuration describes them, and the boot loader on them.

    Args:
        build: The boot loader's build.
        cfg: The flash geometry.
        contents: Returns recorded contents of an area by the beginning of their SHA-256.
        name: Of the scenario; the stored security counter starts at the N of `-nvN-` in it.
    """

    def __init__(self, build: Build, cfg: Mapping[str, Any], contents: Callable[[str], bytes], name: str = "") -> None:
        self.meter = FlashMeter()
        self.areas: dict[str, FlashArea] = {}
        address = number(cfg.get("base", 0))
        names = [f"{slot}{index}" for index in range(build.images) for slot in ("primary", "secondary")]
        for area in [*names, "scratch"]:
            if area in cfg:
                sectors = _sectors(str(cfg[area]))
                address = number(cfg.get(f"off_{area}", address))
                erased = bytes([number(cfg["erased"])]) * sum(sectors)
                self.areas[area] = FlashArea(
                    area, MemoryStorage(erased), sectors, number(cfg["align"]), erased[0], address, self.meter
                )
                address += sum(sectors)
        self._contents = contents
        pairs = [
            SlotPair(self.areas[f"primary{index}"], self.areas.get(f"secondary{index}", self.areas[f"primary{index}"]))
            for index in range(build.images)
        ]
        counter = re.search(r"-nv(\d+)-", name)
        counters = [int(counter[1]) if counter else 0] + [0] * max(1, build.images - 1)
        self.bootloader = Bootloader(build.options(cfg), pairs, self.areas.get("scratch"), counters)
        self.images = len(pairs)

    def load(self, shas: Mapping[str, str]) -> None:
        """Set areas to recorded contents."""
        for name, sha in shas.items():
            self.areas[name].load(0, self._contents(sha))

    def contents(self) -> dict[str, bytes]:
        """Return what is in all areas."""
        return {name: area.read(0, area.size) for name, area in self.areas.items()}

    def restore(self, contents: Mapping[str, bytes]) -> None:
        """Set areas to what `contents` gave."""
        for name, data in contents.items():
            self.areas[name].load(0, data)

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

    def trailer(self, name: str) -> Trailer:
        """Return the trailer of an area."""
        if name == "scratch":
            return self.bootloader.scratch_trailer()
        return self.bootloader.trailer(int(name[-1]), int(name.startswith("secondary")))

    def trailers(self) -> list[tuple[dict[str, str], dict[str, str]]]:
        """Return the cells of the trailers of slot 0 and slot 1, image by image, in words."""
        return [(self._cells(index, 0), self._cells(index, 1)) for index in range(self.images)]

    def _cells(self, index: int, slot: int) -> dict[str, str]:
        trailer = self.bootloader.trailer(index, slot)
        state, at = trailer.state(), trailer.layout.status
        begun = at >= 0 and trailer.area.read(at, 1)[0] != trailer.area.erased
        return {
            "magic": state.magic.value,
            "swap_info": state.swap_type.name.lower(),
            "copy_done": state.copy_done.value,
            "image_ok": state.image_ok.value,
            "status": "begun" if begun else "unset",
        }

    def place(self, init: Mapping[str, Any]) -> None:
        """Put images and trailers where a recording says that they were at first."""
        for name, items in init.items():
            for item in items:
                if "img" in item:
                    self.areas[name].load(number(item.get("off", 0)), image(item["img"]))
                for cell in ("magic", "image_ok", "copy_done", "swap_info", "swap_size"):
                    if item.get(cell) is not None:
                        self.set_cell(name, cell, item[cell])

    def set_cell(self, name: str, cell: str, value: Any) -> None:
        """Set a cell of an area's trailer to a value as the recordings write it."""
        trailer = self.trailer(name)
        if cell == "magic":
            data = {"good": trailer.rules.magic, "bad": trailer.rules.magic[:-1] + b"\0", "unset": b""}[value]
        elif cell == "swap_size":
            data = number(value).to_bytes(4, "little")
        else:
            flags = {"set": b"\x01", "bad": b"\x55", "unset": b""}
            data = flags[value] if value in flags else bytes([number(value)])
        self.areas[name].load(getattr(trailer.layout, cell), data)

    def identify(self, name: str) -> str:
        """Tell which of the images of the tables lie where in an area."""
        area, found = self.areas[name], list[str]()
        data = area.read(0, area.size)
        for offset in range(0, area.size, area.sectors[0]):
            names = (known for known in ("v1", "v2", "v2trunc") if data.startswith(image(known), offset))
            found += [f"{known}@0x{offset:x}" for known in [*names][:1]]
        if found:
            return "+".join(found)
        return "erased" if data.count(area.erased) == len(data) else "other"

    def geometry(self, info: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """Yield ours and the recorded value of each number of a trailer's geometry."""
        trailer = self.bootloader.trailer(0, 0)
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


def _difference(data: bytes, wanted: bytes) -> str:
    at = next((i for i, (a, b) in enumerate(zip(data, wanted, strict=False)) if a != b), min(len(data), len(wanted)))
    return f"differs from 0x{at:x} on: {data[at : at + 16].hex()}, recorded {wanted[at : at + 16].hex()}"

"""Compare verdicts on images with the real boot loader's: `python -m tests.conformance.images MANIFEST...`.

A manifest lists images, and for each build and slot whether the boot loader loads the header (`load_header_rc`), finds
the image valid (`valid`) or crashes (`stopped`); tests/vectors/images/README.md has the format. Images lie beside the
manifest, or in `images` there, or else in tests/vectors/images; keys are those of testkeys.json beside the manifest, or
else of tests/vectors/images. Skipped, with a line that says so, are builds that are not known and images that have no
file; a file that is no manifest, or holds nothing to compare, fails. The last line counts what passed, failed and was
skipped; the exit status is 0 if nothing failed.

A build's name is `<mode or what it wants>[-<variant>]_a<MAX_ALIGN>_i<IMAGES>_s<MAX_IMG_SECTORS>`. The product computes
every verdict; what is here beside that: which key and options a recorded build had.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode, RamRegion, SlotPair
from smp_dfu_host.mcuboot.encryption import DecryptionKey, load_decryption_key
from smp_dfu_host.mcuboot.flash import FlashArea, MemoryStorage
from smp_dfu_host.mcuboot.image import ImageInvalid, check_loadable, read_header
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.verify import PublicKey, load_public_key
from tests.conformance.mcuboot_device import MODES, VECTORS
from tests.conformance.report import Report

SECTORS = (4096,) * 8
ALIGN = 8
EBADIMAGE = 3
RAM = RamRegion(0x2000_0000, 0x2_0000)
_BUILD = re.compile(r"(?P<name>[a-z0-9]+)(?P<variants>(?:-[a-z0-9]+)*)_a(?P<align>\d+)_i\d+_s(?P<sectors>\d+)")
_KEYS = {
    "ed25519": "TESTKEY-ed25519",
    "ecdsa384": "TESTKEY-ecdsa-p384",
    "ec384": "TESTKEY-ecdsa-p384",
    "rsa2048": "TESTKEY-rsa-2048",
    "rsa": "TESTKEY-rsa-2048",
    "rsa3072": "TESTKEY-rsa-3072",
    "pure": "TESTKEY-ed25519",
}
"""By what a build is named after; builds named after a mode want ECDSA-P256."""
_HASHONLY = {
    "hashonly": HashKind.SHA256,
    "hashonly256": HashKind.SHA256,
    "hashonly384": HashKind.SHA384,
    "hashonly512": HashKind.SHA512,
}
_OPENS = {
    "enc": "TESTKEY-enc-ecdsa-p256",
    "encraw": "TESTKEY-enc-ecdsa-p256",
    "encx25519": "TESTKEY-enc-x25519",
    "encrsa": "TESTKEY-enc-rsa-2048",
    "enckw": "TESTKEY-enc-aes128kw",
}
_PLAIN_VARIANTS = frozenset({"allow", "nv", "dp", "dpsc", "bn", "boots", "once", "hwrb", "sha512", "pure"})


class Keys:
    """The test keys of a file."""

    def __init__(self, path: Path) -> None:
        self._entries: Mapping[str, Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))

    def public(self, name: str) -> PublicKey:
        """Return a key that images are signed with."""
        return load_public_key(self._entries[name]["public_pem"].encode())

    def private(self, name: str) -> DecryptionKey:
        """Return a key that opens encrypted images."""
        entry = self._entries[name]
        return load_decryption_key(bytes.fromhex(entry.get("test_private_pkcs8_der_hex") or entry["test_key_hex"]))


def options_of(build: str, keys: Keys) -> BootOptions | None:
    """Return the product's options for a recorded build; None if it is not known."""
    if not (found := _BUILD.fullmatch(build)):
        return None
    name, variants = found["name"], [word for word in found["variants"].split("-") if word]
    openers = [word for word in variants if word in _OPENS]
    known = name in MODES or name in _KEYS or name in _HASHONLY
    if not known or any(word not in _PLAIN_VARIANTS and word not in _OPENS for word in variants):
        return None
    return BootOptions(
        mode=MODES.get(name, Mode.SWAP_USING_MOVE),
        max_align=int(found["align"]),
        max_sectors=int(found["sectors"]),
        keys=() if name in _HASHONLY else (keys.public(_KEYS.get(name, "TESTKEY-ecdsa-p256")),),
        hash=HashKind.SHA512 if "sha512" in variants else _HASHONLY.get(name),
        pure=name == "pure" or "pure" in variants,
        allow_list="allow" in variants,
        rollback="hwrb" in variants,
        decryption=keys.private(_OPENS[openers[0]]) if openers else None,
        save_tlv="enc" in openers,
        ram=RAM,
    )


def judge(data: bytes, options: BootOptions, slot: int) -> Mapping[str, Any]:
    """Return our verdict on an image at the start of a slot."""
    areas = [
        FlashArea(f"slot {number}", MemoryStorage(b"\xff" * sum(SECTORS)), SECTORS, ALIGN, address=number * 0x8000)
        for number in range(2)
    ]
    scratch = FlashArea("scratch", MemoryStorage(b"\xff" * SECTORS[0]), SECTORS[:1], ALIGN)
    areas[slot].load(0, data[: areas[slot].size])
    boot = Bootloader(options, [SlotPair(areas[0], areas[1])], scratch)
    try:
        check_loadable(read_header(areas[slot]), areas[slot].size)
    except ImageInvalid:
        return {"load_header_rc": EBADIMAGE, "valid": False}
    try:
        boot.check_image(0, slot)
    except ImageInvalid:
        return {"load_header_rc": 0, "valid": False}
    return {"load_header_rc": 0, "valid": True}


class Corpus:
    """One manifest, and what lies beside it."""

    def __init__(self, path: Path, report: Report) -> None:
        self._report = report
        self._path = path
        self._folder = path.parent.resolve()
        content = json.loads(path.read_text(encoding="utf-8"))
        self._entries: list[Mapping[str, Any]] = content["images"] if isinstance(content, dict) else content
        own = self._folder / "testkeys.json"
        keys = Keys(own if own.exists() else VECTORS / "images" / "testkeys.json")
        self._options = cache(lambda build: options_of(build, keys))

    def run(self) -> None:
        """Judge everything in the manifest."""
        before = self._report.cases
        for entry in self._entries:
            verdicts = entry.get("bootutil") or {}
            if not verdicts:
                continue
            data = self._data(entry["name"], entry.get("sha256"))
            for place, recorded in verdicts.items():
                self._case(entry["name"], place, data, recorded)
        if self._report.cases == before:
            self._report.add(str(self._path), ["holds nothing to compare"])

    def _case(self, name: str, place: str, data: bytes | None, recorded: Mapping[str, Any]) -> None:
        build, _, slot = place.partition("/slot")
        options = self._options(build)
        if options is None or slot not in ("0", "1"):
            self._report.skip(1, f"{place} is not known")
            return
        if data is None:
            self._report.skip(1, f"{name} has no file")
            return
        self._report.add(f"{name} {place}", _differences(judge(data, options, int(slot)), recorded))

    def _data(self, name: str, sha: str | None) -> bytes | None:
        """Return an image's bytes: of the file with the recorded hash, or else of the first one of that name."""
        folders = (self._folder, self._folder / "images", VECTORS / "images" / "images", VECTORS / "images")
        found = [(folder / name).read_bytes() for folder in folders if (folder / name).is_file()]
        right = [data for data in found if hashlib.sha256(data).hexdigest() == sha]
        return next(iter(right or found), None)


def _differences(ours: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    if recorded.get("stopped"):
        # The real one crashed; ours says what is wrong instead, and must not boot it.
        yield from ["valid is True, the real boot loader crashed"] if ours["valid"] else []
        return
    for field, value in ours.items():
        if value != recorded[field]:
            yield f"{field} is {value!r}, recorded {recorded[field]!r}"


def compare(paths: Iterable[Path]) -> Report:
    """Judge the images of some manifests and return what came out."""
    report = Report()
    for path in paths:
        try:
            Corpus(path, report).run()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            report.add(str(path), [f"no manifest, or cannot be read: {exc!r}"])
    return report


def main(arguments: Sequence[str]) -> int:
    """Judge the manifests of the command line; return the exit status."""
    if not arguments:
        print("usage: python -m tests.conformance.images MANIFEST...", file=sys.stderr)
        return 2
    report = compare(Path(argument) for argument in arguments)
    for line in report.lines():
        print(line)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

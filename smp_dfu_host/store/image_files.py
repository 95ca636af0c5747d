"""Image files as people have them: raw bytes, Intel HEX, or the package that the phone apps take.

    *.bin      the bytes themselves
    *.hex      addressed bytes (Intel HEX); gaps are erased flash
    *.zip      manifest.json beside the images:
               {"format-version": 1, "files": [{"file": "app.bin", "image_index": "0", "slot": "1", ...}, ...]}

What a file is, its first bytes say, not its name. Of a manifest only what decides where a file goes is read:
`image_index` (or `image`; 0 unless given) and `slot` (1 unless given, modulo 2: some tools count through all images);
numbers may be texts. Sources: nrfconnect/sdk-nrf scripts/bootloader/generate_zip.py;
IOS-nRF-Connect-Device-Manager Source/Managers/DFU/McuMgrManifest.swift; Android-nRF-Connect-Device-Manager
sample/.../ZipPackage.java.
"""

import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intelhex import IntelHex, IntelHexError

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import naming
from smp_dfu_host.store.output import write_output
from smp_dfu_host.store.reasons import UNUSABLE, cut, reason, shown

SIZE_LIMIT = 256 << 20
"""Largest file that is read, in bytes; far above any slot."""
SPAN_LIMIT = 64 << 20
"""Largest range of addresses of one image, in bytes."""
MANIFEST = "manifest.json"
ERROR_LIMIT = 200
"""Most characters that an error tells of a name in a package, or of what zipfile said, which may hold such names."""
DEFAULT_SLOT = 1
"""Where a file of a package goes unless its manifest says otherwise; the number of the slot in its pair."""
_ERASED = 0xFF
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression that is not known
    ValueError,  # offsets outside of the file, names that are no text
)
"""What zipfile raises for a package that is damaged or too new."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The bytes of one image, or of one slot, and where they want to go."""

    name: str
    data: bytes
    address: int | None = None
    """Flash address of the first byte; None: not known."""
    image: int | None = None
    """Number of the image pair; None: not known."""
    slot: int | None = None
    """Slot of its pair, 0 or 1; None: not known."""


def read_files(path: Path, *, erased: int = _ERASED) -> tuple[ImageFile, ...]:
    """Return what a file holds: one image, or those of a package in the manifest's order.

    Args:
        path: The file.
        erased: What fills the gaps between addressed bytes.

    Raises:
        StoreError: If it cannot be read, or is damaged; the message names the file.
    """
    data = _read(path)
    if data.startswith(b"PK\x03\x04"):
        return _package(path, data, erased)
    return (_single(str(path), path.name, data, erased),)


def read_one(path: Path, *, erased: int = _ERASED) -> ImageFile:
    """Return the one image in a file.

    Raises:
        StoreError: As for `read_files`, and if it is a package with several.
    """
    files = read_files(path, erased=erased)
    if len(files) != 1:
        raise StoreError(f"{path}: {len(files)} images ({', '.join(each.name for each in files)}), wanted is one")
    return files[0]


def destinations(
    files: Sequence[ImageFile], asked: int | None, free: Callable[[int], int], slots: int, *, where: str = "the package"
) -> list[tuple[int, ImageFile]]:
    """Return which file goes to which slot, counted through all images.

    Args:
        files: What was read.
        asked: The slot that was asked for; of a package, only its image goes anywhere then.
        free: Gives the slot of an image that a new image goes to.
        slots: How many there are.
        where: What an error calls the package.

    Raises:
        StoreError: If a package is for other images than there are, or has no file for a slot.
    """
    if len(files) == 1 and files[0].image is None:
        return [(free(0) if asked is None else asked, files[0])]
    found = []
    for image in sorted({each.image or 0 for each in files}):
        if asked is not None and asked // 2 != image:
            continue
        if image >= slots // 2:
            there = "image 0 only" if slots == 2 else f"images 0 to {slots // 2 - 1}"
            raise StoreError(f"{where} is for an image {image}, the store has {there} ([bootloader] images)")
        slot = free(image) if asked is None else asked
        found.append((slot, _built_for(where, slot, [each for each in files if (each.image or 0) == image])))
    if not found:
        raise StoreError(f"{where} has nothing for slot {asked}")
    return found


def _built_for(where: str, slot: int, files: list[ImageFile]) -> ImageFile:
    """Return the file for a slot: direct-xip packages have one for each; a lone one goes anywhere."""
    fit = [each for each in files if each.slot == slot % 2] if len(files) > 1 else files
    if len(fit) != 1:
        names = ", ".join(f"{each.name} (slot {each.slot})" for each in files)
        raise StoreError(f"{where} has {len(fit) or 'no'} files for slot {slot}: {names}")
    return fit[0]


def read_dump(path: Path, address: int, size: int, *, erased: int = _ERASED) -> bytes:
    """Return the contents of a slot from the dump of a device.

    Args:
        path: Raw bytes of exactly that slot, or Intel HEX; what lies elsewhere in flash is left out.
        address: Of the slot.
        size: Of the slot, in bytes.
        erased: What fills the gaps between addressed bytes.

    Raises:
        StoreError: If it cannot be read, or does not hold that slot.
    """
    data = _read(path)
    if not _is_hex(data):
        if len(data) != size:
            raise StoreError(f"{path}: {len(data)} bytes, a dump of the slot has {size}")
        return data
    stretches = _stretches(str(path), data)
    if not any(start < address + size and start + len(part) > address for start, part in stretches):
        start, end = stretches[0][0], stretches[-1][0] + len(stretches[-1][1])
        where = f"addresses 0x{start:x} to 0x{end:x}, the slot has 0x{address:x} to 0x{address + size:x}"
        raise StoreError(f"{path}: nothing of the slot is in it: {where}")
    return _window(stretches, address, size, erased)


def write_hex(path: Path, data: bytes, address: int) -> None:
    """Write bytes as Intel HEX.

    Raises:
        StoreError: If it cannot be written.
    """
    text, content = io.StringIO(), IntelHex()
    content.frombytes(data, offset=address)
    content.write_hex_file(text)
    write_output(path, text.getvalue().encode("ascii"))


def _read(path: Path) -> bytes:
    with naming(path):
        if (size := path.stat().st_size) > SIZE_LIMIT:
            raise StoreError(f"{path}: {size} bytes, limit is {SIZE_LIMIT}")
        return path.read_bytes()


def _single(where: str, name: str, data: bytes, erased: int) -> ImageFile:
    if not _is_hex(data):
        return ImageFile(name, data)
    stretches = _stretches(where, data)
    start = stretches[0][0]
    end = max(address + len(part) for address, part in stretches)
    if end - start > SPAN_LIMIT:
        raise StoreError(f"{where}: addresses 0x{start:x} to 0x{end:x}, limit is {SPAN_LIMIT} bytes")
    return ImageFile(name, _window(stretches, start, end - start, erased), start)


def _stretches(where: str, data: bytes) -> list[tuple[int, bytes]]:
    """Return the data of an Intel HEX file without its gaps, by address in rising order."""
    content = IntelHex()
    try:
        content.loadhex(io.StringIO(data.decode("ascii")))
    except UnicodeDecodeError as exc:
        raise StoreError(f"{where}: not readable as Intel HEX: {reason(exc)}") from exc
    except IntelHexError as exc:
        raise StoreError(f"{where}: not readable as Intel HEX: {exc}") from exc
    if not (found := content.segments()):
        raise StoreError(f"{where}: Intel HEX without any data")
    return [(start, content.tobinstr(start, end - 1)) for start, end in found]


def _window(stretches: list[tuple[int, bytes]], address: int, size: int, erased: int) -> bytes:
    """Return what lies in a range of addresses."""
    made = bytearray([erased]) * size
    for start, part in stretches:
        low, high = max(start, address), min(start + len(part), address + size)
        if low < high:
            made[low - address : high - address] = part[low - start : high - start]
    return bytes(made)


def _is_hex(data: bytes) -> bool:
    return data.startswith(b":") and data[1:9].isalnum()


def _package(path: Path, data: bytes, erased: int) -> tuple[ImageFile, ...]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _manifest(path, _member(path, archive, MANIFEST))
            return tuple(_entry(path, archive, entry, erased) for entry in entries)
    except _UNREADABLE as exc:
        raise StoreError(f"{path}: not readable as a ZIP package: {cut(str(exc), ERROR_LIMIT)}") from exc


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as exc:
        raise StoreError(f"{path}: no {cut(name, ERROR_LIMIT)} in the package") from exc
    if info.file_size > SIZE_LIMIT:
        raise StoreError(f"{path}: {cut(name, ERROR_LIMIT)}: {info.file_size} bytes, limit is {SIZE_LIMIT}")
    return archive.read(info)


def _manifest(path: Path, data: bytes) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(data)["files"]
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise TypeError
    except UNUSABLE as exc:
        raise StoreError(f"{path}: {MANIFEST} is not that of a firmware package: {reason(exc)}") from exc
    if not entries:
        raise StoreError(f"{path}: {MANIFEST} names no file")
    return entries


def _entry(path: Path, archive: zipfile.ZipFile, entry: Mapping[str, Any], erased: int) -> ImageFile:
    name = entry.get("file")
    if not isinstance(name, str):
        raise StoreError(f"{path}: {MANIFEST}: an entry without a file name")
    data, name = _member(path, archive, name), cut(name, ERROR_LIMIT)
    found = _single(f"{path}: {name}", name, data, erased)
    index = entry.get("image_index", entry.get("image", 0))
    image = _number(path, name, "image_index", index)
    slot = _number(path, name, "slot", entry.get("slot", DEFAULT_SLOT)) % 2
    return ImageFile(found.name, found.data, found.address, image, slot)


def _number(path: Path, name: str, key: str, value: object) -> int:
    try:
        number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if number < 0:
        raise StoreError(f"{path}: {MANIFEST}: {key} of {name} is {shown(value)}, wanted is a number from 0 on")
    return number

"""`image info`: what a file holds, and whether a boot loader would take it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich.console import RenderableType

from smp_dfu_host.cli import render
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.render import Fact, TlvRow, size_text
from smp_dfu_host.errors import ConfigError, StoreError
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageFlag, ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.tlv import Tlv, TlvType
from smp_dfu_host.mcuboot.verify import Examination, PublicKey, VerifyPolicy, examine, load_public_key
from smp_dfu_host.store.image_files import ImageFile, read_files
from smp_dfu_host.store.survey import Part, Segment, image_segments

_HASHES = (TlvType.SHA256, TlvType.SHA384, TlvType.SHA512, TlvType.DECOMP_SHA)
_NUMBERS = (TlvType.SEC_CNT, TlvType.DECOMP_SIZE, TlvType.COMP_DEC_SIZE)


@click.group()
def image() -> None:
    """Look at image files."""


@image.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", "keys", multiple=True, type=click.Path(path_type=Path), metavar="PEM",
              help="A public key that may have signed it; can be repeated. Default: the configured ones.")  # fmt: skip
@json_option
@shared_options
def info(file: Path, keys: tuple[Path, ...], as_json: bool) -> int:
    """Say what an image FILE holds and whether it is valid; exit status 1 if it is not.

    FILE is raw bytes, Intel HEX, or the package (.zip with manifest.json) that the phone apps take.
    """
    files = read_files(file)
    paths = keys or the_config().bootloader.keys
    public = [load_key(path) for path in paths]
    known = {key.hash(): path for key, path in zip(public, paths, strict=True)}
    found = [(each, judge(each.data, public)) for each in files]
    if as_json:
        tables = [_as_json(file, each, result, say_verdict(result, known)) for each, result in found]
        show_json({"file": str(file), "images": tables} if files[0].image is not None else tables[0])
    else:
        for each, result in found:
            show(_picture(each, result, known))
    return 0 if all(result.valid for _, result in found) else 1


def _picture(each: ImageFile, found: Examination, known: Mapping[bytes, Path]) -> RenderableType:
    data = each.data
    segments = (*image_segments(MemoryStorage(data), len(data)), *_rest(data, found))
    facts = [
        *_header_facts(found.header, len(data)),
        *_place_facts(each),
        Fact("verdict", say_verdict(found, known), "green" if found.valid else "bold red"),
    ]
    tlvs = [tlv_row(entry, known) for entry in found.tlvs.entries] if found.tlvs else []
    return render.image(each.name, facts, segments, tlvs)


def _place_facts(each: ImageFile) -> Iterator[Fact]:
    if each.address is not None:
        yield Fact("place", f"at {each.address:#x} in flash, by its addresses")
    if each.image is not None:
        yield Fact("for", f"image {each.image}, slot {each.slot} of its pair, by the manifest")


def load_key(path: Path) -> PublicKey:
    """Return the public key in a PEM file.

    Raises:
        ConfigError: If there is none.
    """
    try:
        return load_public_key(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"key {path}: {exc.strerror}") from exc
    except StoreError as exc:
        raise ConfigError(f"key {path}: {exc}; of a private key: imgtool getpub -k KEY -e pem") from exc


def judge(data: bytes, keys: Sequence[PublicKey]) -> Examination:
    """Examine an image; with keys of several kinds the first kind that accepts it counts."""
    by_kind: dict[str, list[PublicKey]] = {}
    for key in keys:
        by_kind.setdefault(key.kind, []).append(key)
    policies = [VerifyPolicy(tuple(group)) for group in by_kind.values()] or [VerifyPolicy()]
    results = [examine(MemoryStorage(data), policy) for policy in policies]
    return next((result for result in results if result.valid), results[0])


def say_verdict(found: Examination, keys: Mapping[bytes, Path]) -> str:
    """Say whether the image is valid, by what, or why not; `keys` are the files of the keys by their hash."""
    if found.info is None:
        return f"not valid: {found.reason}"
    if found.info.signed_by is None:
        return "valid by hash; no key was given, the signature was not looked at"
    return f"valid by key {keys[found.info.signed_by.hash()]} ({found.info.signed_by.kind})"


def _header_facts(header: ImageHeader | None, size: int) -> Iterator[Fact]:
    yield Fact("file", f"{size} bytes ({size_text(size)})")
    if header is None:
        return
    yield Fact("version", str(header.version), "bold")
    protected = f", protected TLVs {header.protect_tlv_size} bytes" if header.protect_tlv_size else ""
    yield Fact("sizes", f"header {header.hdr_size} bytes, image {header.img_size} bytes{protected}")
    yield Fact("flags", ", ".join(flag_names(header.flags)) or "none")
    if header.load_addr:
        yield Fact("address", f"{header.load_addr:#x}")


def flag_names(flags: int) -> list[str]:
    """Return the names of a header's flags; unknown ones as one number."""
    names = [str(flag.name) for flag in ImageFlag if flags & flag and flag.bit_count() == 1]
    rest = flags & ~sum(flag for flag in ImageFlag if flag.bit_count() == 1)
    return [*names, *([f"{rest:#x}"] if rest else [])]


def _rest(data: bytes, found: Examination) -> tuple[Segment, ...]:
    """Return what follows the image in its file: padding, or the trailer of a padded image."""
    if found.tlvs is None or found.tlvs.end >= len(data):
        return ()
    end = found.tlvs.end
    part = Part.FREE if data.count(0xFF, end) == len(data) - end else Part.DATA
    return (Segment(part, end, len(data) - end),)


def tlv_row(entry: Tlv, keys: Mapping[bytes, Path]) -> TlvRow:
    """Put a TLV in words."""
    kind = f"0x{entry.type:04x}" if entry.name.startswith("0x") else f"0x{entry.type:02x} {entry.name}"
    return TlvRow(kind, len(entry.data), entry.protected, meaning(entry, keys))


def meaning(entry: Tlv, keys: Mapping[bytes, Path]) -> str:
    """Decode the data of a TLV where the type is known; else the first bytes in hex."""
    data = entry.data
    if entry.type == TlvType.KEYHASH:
        return f"{data.hex()} = {keys[data]}" if data in keys else data.hex()
    if entry.type in _HASHES:
        return data.hex()
    if entry.type in _NUMBERS and len(data) == 4:
        return str(int.from_bytes(data, "little"))
    if entry.type == TlvType.DEPENDENCY and len(data) == 12:
        return f"image {data[0]} must be {ImageVersion(*ImageVersion.STRUCT.unpack(data[4:]))} or higher"
    return data.hex() if len(data) <= 16 else f"{data[:16].hex()}..."


def _as_json(file: Path, each: ImageFile, found: Examination, verdict: str) -> dict[str, object]:
    header, data = found.header, each.data
    where = {"address": each.address, "image": each.image, "slot": each.slot}
    tlvs = found.tlvs.entries if found.tlvs else ()
    return {
        "file": str(file) if each.image is None else each.name,
        "size": len(data),
        **{key: value for key, value in where.items() if value is not None},
        "valid": found.valid,
        "verdict": verdict,
        "hash": found.info.hash.hex() if found.info else None,
        "header": header and {
            "version": str(header.version),
            "load_addr": header.load_addr,
            "hdr_size": header.hdr_size,
            "img_size": header.img_size,
            "protect_tlv_size": header.protect_tlv_size,
            "flags": flag_names(header.flags),
        },
        "tlvs": [
            {"type": entry.type, "name": entry.name, "protected": entry.protected, "data": entry.data.hex()}
            for entry in tlvs
        ],
    }  # fmt: skip

"""`image info`: what a file holds, and whether a boot loader would take it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from rich.console import RenderableType

from smp_dfu_host.cli import render
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.render import Fact, TlvRow, size_text
from smp_dfu_host.errors import ConfigError, StoreError
from smp_dfu_host.mcuboot.encryption import DecryptionKey
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageFlag, ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.tlv import Tlv, TlvType
from smp_dfu_host.mcuboot.verify import Examination, PublicKey, load_public_key
from smp_dfu_host.store.build import read_decryption_key
from smp_dfu_host.store.image_files import ImageFile, read_files
from smp_dfu_host.store.judgement import Judgement, judge
from smp_dfu_host.store.survey import Part, Segment, image_segments

_HASHES = (TlvType.SHA256, TlvType.SHA384, TlvType.SHA512, TlvType.DECOMP_SHA)
_HASH_NAMES = {HashKind.SHA256: "SHA-256", HashKind.SHA384: "SHA-384", HashKind.SHA512: "SHA-512"}
_NUMBERS = (TlvType.SEC_CNT, TlvType.DECOMP_SIZE, TlvType.COMP_DEC_SIZE)


@click.group()
def image() -> None:
    """Look at image files."""


@image.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", "keys", multiple=True, type=click.Path(path_type=Path), metavar="PEM",
              help="A public key that may have signed it; can be repeated. Default: the configured ones.")  # fmt: skip
@click.option("--encryption-key", type=click.Path(path_type=Path), metavar="FILE",
              help="The private key that opens it if it is encrypted. Default: the configured one.")  # fmt: skip
@json_option
@shared_options
def info(file: Path, keys: tuple[Path, ...], encryption_key: Path | None, as_json: bool) -> int:
    """Say what an image FILE holds and whether it is valid.

    Exit status 1 if it is not. FILE is raw bytes, Intel HEX, or the package (.zip with manifest.json) that the
    phone apps take. Of a key, every build of the boot loader that goes with it is tried: each hash, and signatures
    of the image itself (pure).
    """
    files = read_files(file)
    build = the_config().bootloader
    paths = keys or build.keys
    public = [load_key(path) for path in paths]
    known = {key.hash(kind): path for key, path in zip(public, paths, strict=True) for kind in HashKind}
    opener = encryption_key or build.encryption_key
    judged = [(each, judge(each.data, public, _decryption(opener, each.data) if opener else None)) for each in files]
    if as_json:
        tables = [_as_json(file, each, judgement, known) for each, judgement in judged]
        show_json({"file": str(file), "images": tables} if files[0].image is not None else tables[0])
    else:
        for each, judgement in judged:
            show(_picture(each, judgement, known))
    return 0 if all(judgement.found.valid for _, judgement in judged) else 1


def _decryption(path: Path, data: bytes) -> DecryptionKey:
    """Return the key in a file, for the length of key and the hash that an image was encrypted with.

    Raises:
        ConfigError: If there is none.
    """
    found = judge(data, ()).found
    bits = 256 if found.header and found.header.flags & ImageFlag.ENCRYPTED_AES256 else 128
    sha512 = bool(found.tlvs and found.tlvs.find(TlvType.ENC_X25519_SHA512))
    try:
        return read_decryption_key(path.read_bytes(), bits, sha512=sha512)
    except OSError as exc:
        raise ConfigError(f"encryption key {path}: {exc.strerror}") from exc
    except StoreError as exc:
        raise ConfigError(f"encryption key {path}: {exc}") from exc


def _picture(each: ImageFile, judgement: Judgement, known: Mapping[bytes, Path]) -> RenderableType:
    data, found = each.data, judgement.found
    segments = (*image_segments(MemoryStorage(data), len(data)), *_rest(data, found))
    facts = [
        *_header_facts(found.header, len(data)),
        *_place_facts(each),
        Fact("verdict", say_verdict(judgement, known), "green" if found.valid else "bold red"),
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
        raise ConfigError(f"key {path}: {exc}") from exc


def say_verdict(judgement: Judgement, keys: Mapping[bytes, Path]) -> str:
    """Say whether the image is valid, by what, or why not; `keys` are the files of the keys by their hash."""
    info = judgement.found.info
    if info is None:
        return f"not valid: {judgement.found.reason}"
    kind = "pure" if judgement.policy.pure else _HASH_NAMES[judgement.policy.digest]
    if info.signed_by is None:
        return f"valid by its hash ({kind}); no key was given, so no signature was looked at"
    return f"valid by key {keys[info.signed_by.hash()]} ({info.signed_by.kind}, {kind})"


def _header_facts(header: ImageHeader | None, size: int) -> Iterator[Fact]:
    yield Fact("file", f"{size} bytes" + (f" ({size_text(size)})" if size >= 10 * 1024 else ""))
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


def _as_json(file: Path, each: ImageFile, judgement: Judgement, known: Mapping[bytes, Path]) -> dict[str, object]:
    found, data = judgement.found, each.data
    header, policy = found.header, judgement.policy
    where = {"address": each.address, "image": each.image, "slot": each.slot}
    tlvs = found.tlvs.entries if found.tlvs else ()
    return {
        "file": str(file) if each.image is None else each.name,
        "size": len(data),
        **{key: value for key, value in where.items() if value is not None},
        "valid": found.valid,
        "verdict": say_verdict(judgement, known),
        "build": {"hash": policy.digest.value, "pure_signature": policy.pure} if found.valid else None,
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

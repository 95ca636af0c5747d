"""Stores and images for tests: small slots, so that boots take milliseconds."""

import hashlib
from pathlib import Path
from struct import pack
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from smp_dfu_host.config import Config, FlashConfig, parse
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageVersion
from smp_dfu_host.store.slots import SlotStore

SECTOR, SECTORS = 512, 16
SLOT = SECTOR * SECTORS
FLASH = {"sector_size": SECTOR, "sectors": SECTORS, "max_sectors": SECTORS}


def config(folder: Path, **sections: Any) -> Config:
    """Return a configuration with small slots, changed by sections as in the file."""
    sections.setdefault("flash", FLASH)
    return parse({"store": "store", **sections}, folder)


def parse_flash(table: dict[str, Any]) -> FlashConfig:
    """Return a `[flash]` section as the file would say it."""
    return parse({"flash": table}, Path("/")).flash


def store(folder: Path, **sections: Any) -> SlotStore:
    """Return a store in a folder."""
    return SlotStore(config(folder, **sections))


def image(
    version: tuple[int, ...] = (1, 0, 0),
    payload: bytes = b"payload",
    *,
    flags: int = 0,
    load_addr: int = 0,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """Return an image, signed if there is a key."""
    header = ImageHeader(IMAGE_MAGIC, load_addr, ImageHeader.SIZE, 0, len(payload), flags, ImageVersion(*version))
    hashed = header.pack() + payload
    tlvs = tlv(0x10, hashlib.sha256(hashed).digest())
    if key:
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        tlvs += tlv(0x01, hashlib.sha256(public).digest())
        tlvs += tlv(0x22, key.sign(hashed, ec.ECDSA(hashes.SHA256())))
    return hashed + pack("<HH", 0x6907, 4 + len(tlvs)) + tlvs


def tlv(kind: int, data: bytes) -> bytes:
    """Return one entry."""
    return pack("<HH", kind, len(data)) + data


def hash_of(data: bytes) -> bytes:
    """Return the hash of an image, as its TLV has it."""
    header = ImageHeader.parse(data)
    return hashlib.sha256(data[: header.hashed_size]).digest()


def slot_bytes(folder: Path, slot: int) -> bytes:
    """Return the contents of a slot's file."""
    return (folder / "store" / f"slot{slot}.bin").read_bytes()


def flags(of: SlotStore) -> dict[int, str]:
    """Return the flags of the image list by slot, in short: `active confirmed`."""
    names = ("active", "confirmed", "pending", "permanent")
    return {view.slot: " ".join(name for name in names if getattr(view, name)) for view in of.slots()}

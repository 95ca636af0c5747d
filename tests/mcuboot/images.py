"""Small images and flash to test with."""

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from smp_dfu_host.mcuboot.flash import FlashArea, FlashMeter, MemoryStorage
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.tlv import INFO_MAGIC, PROTECTED_INFO_MAGIC, TlvType
from smp_dfu_host.mcuboot.verify import PublicKey, load_public_key

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def tlv_area(entries: Sequence[tuple[int, bytes]], magic: int = INFO_MAGIC) -> bytes:
    """Return a TLV area of those types and data."""
    body = b"".join(kind.to_bytes(2, "little") + len(data).to_bytes(2, "little") + data for kind, data in entries)
    return magic.to_bytes(2, "little") + (len(body) + 4).to_bytes(2, "little") + body


def make_image(
    version: tuple[int, int, int, int] = (1, 0, 0, 0),
    payload: bytes = b"payload" * 100,
    *,
    flags: int = 0,
    load_addr: int = 0,
    key: PrivateKey | None = None,
    protected: Sequence[tuple[int, bytes]] = (),
    unprotected: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """Return an image with a SHA-256 TLV, signed if there is a key."""
    area = tlv_area(protected, PROTECTED_INFO_MAGIC) if protected else b""
    header = ImageHeader(IMAGE_MAGIC, load_addr, 32, len(area), len(payload), flags, ImageVersion(*version))
    hashed = header.pack() + payload + area
    digest = hashlib.sha256(hashed).digest()
    entries = [(TlvType.SHA256, digest), *unprotected]
    if key is not None:
        public = public_of(key)
        entries += [(TlvType.KEYHASH, public.hash()), (public.signature, sign(key, digest))]
    return hashed + tlv_area(entries)


def sign(key: PrivateKey, digest: bytes) -> bytes:
    """Return a signature of a SHA-256 digest."""
    prehashed = utils.Prehashed(hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(digest)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PSS(padding.MGF1(hashes.SHA256()), 32), prehashed)
    return key.sign(digest, ec.ECDSA(prehashed))


def pem(key: PrivateKey) -> bytes:
    """Return the public half of a key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def public_of(key: PrivateKey) -> PublicKey:
    """Return the public half of a key, loaded."""
    return load_public_key(pem(key))


def make_area(
    name: str = "slot",
    sectors: Sequence[int] = (4096,) * 8,
    *,
    align: int = 8,
    erased: int = 0xFF,
    address: int = 0,
    meter: FlashMeter | None = None,
) -> FlashArea:
    """Return an erased area in memory."""
    storage = MemoryStorage(bytes([erased]) * sum(sectors))
    return FlashArea(name, storage, sectors, align, erased, address, meter)


def make_pair(
    first: bytes = b"",
    second: bytes = b"",
    *,
    sectors: Sequence[int] = (4096,) * 8,
    more: Sequence[int] | None = None,
    erased: int = 0xFF,
) -> SlotPair:
    """Return two slots that share a meter, with those contents at their starts; `more`: sectors of slot 1."""
    meter = FlashMeter()
    primary = make_area("slot 0", sectors, erased=erased, meter=meter)
    secondary = make_area("slot 1", more or sectors, erased=erased, address=primary.size, meter=meter)
    primary.load(0, first)
    secondary.load(0, second)
    return SlotPair(primary, secondary)


def contents(pair: SlotPair) -> tuple[bytes, bytes]:
    """Return all bytes of both slots."""
    return pair.primary.read(0, pair.primary.size), pair.secondary.read(0, pair.secondary.size)

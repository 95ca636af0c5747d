"""Encrypted images: the payload alone is AES-CTR, with a random key that a TLV carries, wrapped for the boot loader.

    counter block   12 zero bytes | big-endian offset in the payload / 16

    TLV  ENC_RSA2048         RSA-OAEP (SHA-256) of the key
         ENC_KW              AES key wrap of the key
         ENC_EC256, X25519   ephemeral public key | MAC | key in AES-CTR, counter 0;
                             AES and MAC keys: HKDF of the shared secret, zero salt, info `MCUBoot_ECIES_v1`

Slot 0 holds plain payloads, slot 1 and the scratch area encrypted ones.
Sources: mcuboot boot/bootutil/src/encrypted.c, docs/encrypted_images.md.
"""

import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.tlv import TlvType, read_tlvs

_BLOCK = 16
_INFO = b"MCUBoot_ECIES_v1"
_PrivateKey = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | rsa.RSAPrivateKey | bytes


@dataclass(frozen=True, slots=True)
class DecryptionKey:
    """The boot loader's half of the key that images are encrypted for."""

    tlv: TlvType
    """The type of the TLV that it opens."""
    key: _PrivateKey = field(repr=False)
    aes_size: int = 16
    """Bytes of an image's key: 16 or 32."""

    @property
    def tlv_size(self) -> int:
        """Bytes of the TLV."""
        fixed = {
            TlvType.ENC_RSA2048: 256 - self.aes_size,
            TlvType.ENC_KW: 8,
            TlvType.ENC_EC256: 65 + 32,
            TlvType.ENC_X25519: 32 + 32,
            TlvType.ENC_X25519_SHA512: 32 + 64,
        }
        return fixed[self.tlv] + self.aes_size

    def unwrap(self, data: bytes) -> bytes:
        """Return the image's key out of its TLV.

        Raises:
            ImageInvalid: If it is not for this key, or damaged.
        """
        if len(data) != self.tlv_size:
            raise ImageInvalid(f"{self.tlv.name} TLV of {len(data)} bytes, not {self.tlv_size}")
        try:
            key = self._unwrap(data)
        except (ValueError, InvalidUnwrap) as exc:
            raise ImageInvalid(f"{self.tlv.name} TLV does not open with the boot loader's key") from exc
        if len(key) != self.aes_size:  # RSA alone: its TLV has one size for keys of any
            raise ImageInvalid(
                f"{self.tlv.name} TLV has a key of {len(key)} bytes, the boot loader's is {self.aes_size}"
            )
        return key

    def _unwrap(self, data: bytes) -> bytes:
        if isinstance(self.key, bytes):
            return aes_key_unwrap(self.key, data)
        if isinstance(self.key, rsa.RSAPrivateKey):
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            return self.key.decrypt(data, oaep)
        if isinstance(self.key, x25519.X25519PrivateKey):
            peer, rest = data[:32], data[32:]
            return self._open(self.key.exchange(x25519.X25519PublicKey.from_public_bytes(peer)), rest)
        point, rest = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data[:65]), data[65:]
        return self._open(self.key.exchange(ec.ECDH(), point), rest)

    def _open(self, shared: bytes, data: bytes) -> bytes:
        sha512 = self.tlv is TlvType.ENC_X25519_SHA512
        kind: hashes.HashAlgorithm = hashes.SHA512() if sha512 else hashes.SHA256()
        mac, wrapped = data[: kind.digest_size], data[kind.digest_size :]
        derived = HKDF(kind, self.aes_size + kind.digest_size, bytes(kind.digest_size), _INFO).derive(shared)
        if not hmac.compare_digest(hmac.digest(derived[self.aes_size :], wrapped, kind.name), mac):
            raise ImageInvalid(f"{self.tlv.name} TLV does not open with the boot loader's key")
        return _crypt(wrapped, derived[: self.aes_size], 0)


def load_decryption_key(data: bytes, aes_size: int = 16, *, sha512: bool = False) -> DecryptionKey:
    """Return a key from a private key in PEM or DER form, or from the 16 or 32 bytes of an AES key.

    Args:
        data: The file's bytes.
        aes_size: Bytes of the images' keys: 16 or 32.
        sha512: Whether X25519 goes with SHA-512.

    Raises:
        StoreError: If it is none of those.
    """
    if len(data) in (16, 32):
        return DecryptionKey(TlvType.ENC_KW, data, len(data))
    try:
        pem = data.startswith(b"-----")
        load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise StoreError("not a private key in PEM or DER form without a password") from exc
    if isinstance(key, x25519.X25519PrivateKey):
        return DecryptionKey(TlvType.ENC_X25519_SHA512 if sha512 else TlvType.ENC_X25519, key, aes_size)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size == 2048:
        return DecryptionKey(TlvType.ENC_RSA2048, key, aes_size)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return DecryptionKey(TlvType.ENC_EC256, key, aes_size)
    raise StoreError("a key of a kind that is not supported; supported are ECDSA-P256, X25519, RSA-2048 and AES")


def key_tlv(area: Readable, header: ImageHeader, kind: TlvType, base: int = 0) -> bytes:
    """Return the data of the TLV with an image's wrapped key.

    Raises:
        ImageInvalid: If there is none.
    """
    found = read_tlvs(area, header, base).find(kind)
    if not found:
        raise ImageInvalid(f"no {kind.name} TLV, so there is no key to decrypt it")
    return found[0].data


def crypt_payload(data: bytes, offset: int, header: ImageHeader, key: bytes) -> bytes:
    """Encrypt or decrypt what is payload in a piece of an image; both are the same.

    Args:
        data: The piece.
        offset: Of its first byte, from the start of the image.
        header: The image's.
        key: The image's.
    """
    start = max(offset, header.hdr_size)
    end = min(offset + len(data), header.tlv_offset)
    if start >= end:
        return data
    inside = data[start - offset : end - offset]
    return data[: start - offset] + _crypt(inside, key, start - header.hdr_size) + data[end - offset :]


def _crypt(data: bytes, key: bytes, offset: int) -> bytes:
    skipped = offset % _BLOCK
    counter = (offset // _BLOCK).to_bytes(_BLOCK, "big")
    context = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    return context.update(bytes(skipped) + data)[skipped:]


class DecryptedView:
    """An area whose image reads as plain text.

    Args:
        area: What holds the image.
        header: Its header.
        key: Its key.
        base: Where it starts.
    """

    __slots__ = ("_area", "_base", "_header", "_key")

    def __init__(self, area: Readable, header: ImageHeader, key: bytes, base: int = 0) -> None:
        self._area = area
        self._header = header
        self._key = key
        self._base = base

    @property
    def size(self) -> int:
        """Bytes."""
        return self._area.size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes, the payload decrypted."""
        return crypt_payload(self._area.read(offset, size), offset - self._base, self._header, self._key)

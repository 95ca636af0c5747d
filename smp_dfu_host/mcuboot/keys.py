"""Public keys that images are signed with, and the hashes that go with them.

    key         hash of the image        signature TLV, over the hash
    ECDSA-P256  SHA-256                  ECDSA_SIG, DER
    ECDSA-P384  SHA-384                  ECDSA_SIG, DER
    RSA-2048    SHA-256                  RSA2048_PSS, salt as long as the hash
    RSA-3072    SHA-256                  RSA3072_PSS, the same
    Ed25519     SHA-256 or SHA-512       ED25519; pure: over the image, there is no hash

Sources: mcuboot boot/bootutil/src/bootutil_find_key.c and image_{ecdsa,ed25519,rsa}.c, include/bootutil/crypto/sha.h
(IMAGE_HASH_SIZE); imgtool image.py and keys/.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.tlv import TlvType

_Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class HashKind(Enum):
    """The hash of the build."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    @property
    def tlv(self) -> TlvType:
        """The type of its TLV."""
        return TlvType[self.name]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.algorithm.digest_size

    @property
    def algorithm(self) -> hashes.HashAlgorithm:
        """The same for `cryptography`."""
        return _ALGORITHMS[self]


_ALGORITHMS: dict[HashKind, hashes.HashAlgorithm] = {
    HashKind.SHA256: hashes.SHA256(),
    HashKind.SHA384: hashes.SHA384(),
    HashKind.SHA512: hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that images may be signed with."""

    signature: TlvType
    """The type of its signatures' TLV."""
    der: bytes
    """The encoding that a key hash TLV is made of."""
    key: _Key

    kind: str
    """Its name for people, such as `RSA-2048`; a boot loader knows keys of one kind."""

    @property
    def hashes(self) -> tuple[HashKind, ...]:
        """The hashes that its signatures may be of, the usual one first."""
        return _HASHES.get(self.kind, (HashKind.SHA256,))

    def takes_size(self, size: int) -> bool:
        """Tell whether a signature may have so many bytes; a boot loader calls the whole image invalid if not."""
        fixed = _SIGNATURE_SIZES.get(self.signature)
        return size <= _MAX_ECDSA_SIZE if fixed is None else size == fixed

    def hash(self, kind: HashKind = HashKind.SHA256) -> bytes:
        """Return the key's hash, as a KEYHASH TLV has it."""
        return hashlib.new(kind.value, self.der).digest()

    def verifies(self, signature: bytes, digest: bytes, kind: HashKind = HashKind.SHA256) -> bool:
        """Tell whether that is this key's signature of a digest; for pure Ed25519, of the image itself."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, digest)
            elif isinstance(self.key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(kind.algorithm), len(digest))
                self.key.verify(signature, digest, pss, utils.Prehashed(kind.algorithm))
            else:
                clean = _reencode(signature, self.key.key_size // 8)
                self.key.verify(clean, digest, ec.ECDSA(utils.Prehashed(kind.algorithm)))
        except (InvalidSignature, ValueError):
            return False
        return True


_SIGNATURE_SIZES = {TlvType.ED25519: 64, TlvType.RSA2048_PSS: 256, TlvType.RSA3072_PSS: 384}
"""In bytes; an ECDSA signature says its own length."""
_MAX_ECDSA_SIZE = 128
"""Bytes that the boot loader has room for (image_validate.c, SIG_BUF_SIZE)."""
_HASHES = {"ECDSA-P384": (HashKind.SHA384,), "Ed25519": (HashKind.SHA256, HashKind.SHA512)}
_SEQUENCE, _INTEGER = 0x30, 0x02
_LONG = 0x80
"""Bit of a DER length: the other bits say how many bytes of length follow."""
_RSA = {2048: TlvType.RSA2048_PSS, 3072: TlvType.RSA3072_PSS}
_CURVES = {"secp256r1": "ECDSA-P256", "secp384r1": "ECDSA-P384"}
_SUPPORTED = "ECDSA-P256, ECDSA-P384, Ed25519, RSA-2048, RSA-3072"


def _reencode(signature: bytes, size: int) -> bytes:
    """Return an ECDSA signature as strict DER.

    MCUboot reads it leniently: numbers are unsigned and of any length, of which the last `size` bytes count, and what
    follows them is not looked at (include/bootutil/crypto/ecdsa.h; imgtool can pad signatures with zeros).

    Raises:
        ValueError: If it is not a sequence of two numbers.
    """
    start, end = _element(signature, 0, _SEQUENCE)
    if end > len(signature):
        raise ValueError("signature is cut short")
    numbers = []
    for _ in range(2):
        start, end = _element(signature, start, _INTEGER)
        numbers.append(int.from_bytes(signature[start:end][-size:], "big"))
        start = end
    return utils.encode_dss_signature(*numbers)


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where the contents of a DER element start and end."""
    if data[at : at + 1] != bytes([tag]) or len(data) < at + 2:
        raise ValueError(f"no DER element 0x{tag:02x} at {at}")
    size, start = data[at + 1], at + 2
    if size & _LONG:
        more = size & ~_LONG
        size, start = int.from_bytes(data[start : start + more], "big"), start + more
    return start, start + size


def load_public_key(pem: bytes) -> PublicKey:
    """Return the key in a PEM file.

    Raises:
        StoreError: If there is none, or of a type that images are not signed with.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise StoreError("not a public key in PEM form; of a private one: imgtool getpub -k KEY -e pem") from exc
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA:
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        return PublicKey(_RSA[key.key_size], der, key, f"RSA-{key.key_size}")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return PublicKey(TlvType.ED25519, _spki(key), key, "Ed25519")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return PublicKey(TlvType.ECDSA_SIG, _spki(key), key, _CURVES[key.curve.name])
    raise StoreError(f"a key of a kind that is not supported; supported are {_SUPPORTED}")


def _spki(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

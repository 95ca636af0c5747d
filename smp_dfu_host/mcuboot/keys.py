"""Public keys that images are signed with, and the hashes that go with them.

Sources: mcuboot boot/bootutil/src/bootutil_find_key.c and image_{ecdsa,ed25519,rsa}.c.
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

    @property
    def kind(self) -> str:
        """Its name for people, such as `RSA-2048`."""
        return _KINDS[self.signature]

    @property
    def signature_size(self) -> int | None:
        """Bytes of a signature; None: it says its own length."""
        return _SIGNATURE_SIZES.get(self.signature)

    def hash(self, kind: HashKind = HashKind.SHA256) -> bytes:
        """Return the key's hash, as a KEYHASH TLV has it."""
        return hashlib.new(kind.value, self.der).digest()

    def verifies(self, signature: bytes, digest: bytes, kind: HashKind = HashKind.SHA256) -> bool:
        """Tell whether that is this key's signature of a digest."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, digest)
            elif isinstance(self.key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(kind.algorithm), len(digest))
                self.key.verify(signature, digest, pss, utils.Prehashed(kind.algorithm))
            else:
                self.key.verify(_trim(signature), digest, ec.ECDSA(utils.Prehashed(kind.algorithm)))
        except (InvalidSignature, ValueError):
            return False
        return True


_KINDS = {
    TlvType.ECDSA_SIG: "ECDSA-P256",
    TlvType.ED25519: "Ed25519",
    TlvType.RSA2048_PSS: "RSA-2048",
    TlvType.RSA3072_PSS: "RSA-3072",
}
_SIGNATURE_SIZES = {TlvType.ED25519: 64, TlvType.RSA2048_PSS: 256, TlvType.RSA3072_PSS: 384}
"""In bytes; an ECDSA signature says its own length."""
_RSA = {2048: TlvType.RSA2048_PSS, 3072: TlvType.RSA3072_PSS}


def _trim(signature: bytes) -> bytes:
    """Cut off what follows a DER sequence: imgtool can pad signatures with zeros, which MCUboot does not mind."""
    return signature[: signature[1] + 2] if len(signature) > 1 else signature


def load_public_key(pem: bytes) -> PublicKey:
    """Return the key in a PEM file.

    Raises:
        StoreError: If there is none, or of a type that images are not signed with.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise StoreError("not a public key in PEM form") from exc
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA:
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        return PublicKey(_RSA[key.key_size], der, key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return PublicKey(TlvType.ED25519, _spki(key), key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return PublicKey(TlvType.ECDSA_SIG, _spki(key), key)
    raise StoreError(f"a key of a kind that is not supported; supported are {', '.join(_KINDS.values())}")


def _spki(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

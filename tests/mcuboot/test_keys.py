import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, utils

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.keys import HashKind, load_public_key
from tests.mcuboot.images import public_of, sign

KEYS = json.loads((Path(__file__).parents[1] / "vectors" / "images" / "testkeys.json").read_text(encoding="utf-8"))


def test_recorded_key_has_the_hash_that_imgtool_wrote() -> None:
    key = load_public_key(KEYS["TESTKEY-ecdsa-p256"]["public_pem"].encode())
    assert key.hash().hex() == "61d7267399ba1b2c52e9a81015d72e67b1aa30b16c98612da9bbff93b3a982e6"
    assert len(key.hash(HashKind.SHA512)) == 64


@pytest.mark.parametrize(
    ("name", "kind", "hash_of_images", "sizes"),
    [
        ("TESTKEY-ecdsa-p256", "ECDSA-P256", HashKind.SHA256, range(129)),
        ("TESTKEY-ecdsa-p384", "ECDSA-P384", HashKind.SHA384, range(129)),
        ("TESTKEY-ed25519", "Ed25519", HashKind.SHA256, [64]),
        ("TESTKEY-rsa-2048", "RSA-2048", HashKind.SHA256, [256]),
        ("TESTKEY-rsa-3072", "RSA-3072", HashKind.SHA256, [384]),
    ],
)
def test_key_knows_its_kind_its_hash_and_the_sizes_of_its_signatures(
    name: str, kind: str, hash_of_images: HashKind, sizes: Sequence[int]
) -> None:
    key = load_public_key(KEYS[name]["public_pem"].encode())
    assert (key.kind, key.hashes[0]) == (kind, hash_of_images)
    assert [size for size in range(400) if key.takes_size(size)] == list(sizes)


def test_text_that_is_no_public_key_is_refused() -> None:
    with pytest.raises(StoreError, match="not a public key in PEM form"):
        load_public_key(b"hello")
    others: list[ec.EllipticCurvePublicKey | rsa.RSAPublicKey | dsa.DSAPublicKey] = [
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
        dsa.generate_private_key(1024).public_key(),
    ]
    for key in others:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        with pytest.raises(StoreError, match="supported are ECDSA-P256, ECDSA-P384, Ed25519, RSA-2048, RSA-3072"):
            load_public_key(key.public_bytes(serialization.Encoding.PEM, form))


def test_key_verifies_its_own_signatures_padded_with_zeros_too() -> None:
    private, other = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    digest = bytes(range(32))
    signature = sign(private, digest)
    assert public_of(private).verifies(signature + bytes(2), digest)
    assert not public_of(private).verifies(signature, bytes(32))
    assert not public_of(private).verifies(b"", digest)
    assert public_of(other).verifies(sign(other, digest), digest)
    assert not public_of(other).verifies(signature, digest)


def der(tag: int, contents: bytes, *, long: bool = False) -> bytes:
    return bytes([tag, *([0x81] if long else []), len(contents)]) + contents


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_ecdsa_signature_is_read_as_leniently_as_mcuboot_does(curve: ec.EllipticCurve) -> None:
    """Unsigned numbers of any length, and whatever behind them (bootutil/crypto/ecdsa.h)."""
    private = ec.generate_private_key(curve)
    key, size = public_of(private), curve.key_size // 8
    kind = key.hashes[0]
    digest = bytes(range(kind.size))
    signature = private.sign(digest, ec.ECDSA(utils.Prehashed(kind.algorithm)))
    r, s = (number.to_bytes(size, "big") for number in utils.decode_dss_signature(signature))
    for first, second in ((r, s), (bytes(3) + r, s), (r, b"\x05" + s)):
        body = der(2, first) + der(2, second)
        for lenient in (der(0x30, body), der(0x30, body + b"rest", long=True), der(0x30, body) + bytes(7)):
            assert key.verifies(lenient, digest, kind)
    for broken in (b"", b"0", der(0x31, body), der(0x30, der(2, r)), der(0x30, body)[:-1], der(0x30, r + s)):
        assert not key.verifies(broken, digest, kind)

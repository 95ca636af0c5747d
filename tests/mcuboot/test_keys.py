import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.keys import HashKind, load_public_key
from tests.mcuboot.images import public_of, sign

KEYS = json.loads((Path(__file__).parents[1] / "vectors" / "images" / "testkeys.json").read_text(encoding="utf-8"))


def test_recorded_key_has_the_hash_that_imgtool_wrote() -> None:
    key = load_public_key(KEYS["TESTKEY-ecdsa-p256"]["public_pem"].encode())
    assert key.hash().hex() == "61d7267399ba1b2c52e9a81015d72e67b1aa30b16c98612da9bbff93b3a982e6"
    assert len(key.hash(HashKind.SHA512)) == 64


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("TESTKEY-ecdsa-p256", "ECDSA-P256", None),
        ("TESTKEY-ed25519", "Ed25519", 64),
        ("TESTKEY-rsa-2048", "RSA-2048", 256),
        ("TESTKEY-rsa-3072", "RSA-3072", 384),
    ],
)
def test_key_knows_its_kind_and_the_size_of_its_signatures(name: str, kind: str, size: int | None) -> None:
    key = load_public_key(KEYS[name]["public_pem"].encode())
    assert (key.kind, key.signature_size) == (kind, size)


def test_text_that_is_no_public_key_is_refused() -> None:
    with pytest.raises(StoreError, match="not a public key in PEM form"):
        load_public_key(b"hello")
    others: list[ec.EllipticCurvePublicKey | rsa.RSAPublicKey | dsa.DSAPublicKey] = [
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
        dsa.generate_private_key(1024).public_key(),
    ]
    for key in others:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        with pytest.raises(StoreError, match="supported are ECDSA-P256, Ed25519, RSA-2048, RSA-3072"):
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

"""The configured build: keys of all kinds, options that contradict each other, flash that does not suit the mode."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.errors import ConfigError
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.options import Downgrade, Mode
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.store.build import boot_options
from tests.store.builders import config

KEYS = json.loads((Path(__file__).parents[1] / "vectors" / "images" / "testkeys.json").read_text())


def options(folder: Path, **build: Any) -> Any:
    return boot_options(config(folder, bootloader=build))


def public(folder: Path, name: str) -> str:
    (folder / f"{name}.pem").write_text(KEYS[f"TESTKEY-{name}"]["public_pem"])
    return f"{name}.pem"


def private(folder: Path, name: str) -> bytes:
    entry = KEYS[f"TESTKEY-enc-{name}"]
    return bytes.fromhex(entry.get("test_private_pkcs8_der_hex") or entry["test_key_hex"])


@pytest.mark.parametrize(
    ("name", "kind", "digest"),
    [
        ("ecdsa-p256", "ECDSA-P256", HashKind.SHA256),
        ("ecdsa-p384", "ECDSA-P384", HashKind.SHA384),
        ("ed25519", "Ed25519", HashKind.SHA256),
        ("rsa-2048", "RSA-2048", HashKind.SHA256),
        ("rsa-3072", "RSA-3072", HashKind.SHA256),
    ],
)
def test_keys_of_all_kinds_bring_their_hash(tmp_path: Path, name: str, kind: str, digest: HashKind) -> None:
    made = options(tmp_path, keys=[public(tmp_path, name)])
    assert (made.keys[0].kind, made.policy.digest) == (kind, digest)


def test_hash_and_pure_signatures_can_be_chosen(tmp_path: Path) -> None:
    key = public(tmp_path, "ed25519")
    assert options(tmp_path, keys=[key], hash="sha512").policy.digest is HashKind.SHA512
    assert options(tmp_path, keys=[key], pure_signature=True).policy.pure
    with pytest.raises(ConfigError, match=r"bootloader\.keys: pure signatures with no key"):
        options(tmp_path, pure_signature=True)
    with pytest.raises(ConfigError, match=r"bootloader\.keys: SHA512 with keys of ECDSA-P384"):
        options(tmp_path, keys=[public(tmp_path, "ecdsa-p384")], hash="sha512")


@pytest.mark.parametrize(
    ("name", "bits", "kind", "size"),
    [
        ("ecdsa-p256", 128, TlvType.ENC_EC256, 16),
        ("ecdsa-p256", 256, TlvType.ENC_EC256, 32),
        ("x25519", 256, TlvType.ENC_X25519, 32),
        ("rsa-2048", 128, TlvType.ENC_RSA2048, 16),
        ("aes128kw", 128, TlvType.ENC_KW, 16),
        ("aes256kw", 256, TlvType.ENC_KW, 32),
    ],
)
def test_encryption_keys_of_all_kinds(tmp_path: Path, name: str, bits: int, kind: TlvType, size: int) -> None:
    (tmp_path / "key").write_bytes(private(tmp_path, name))
    made = options(tmp_path, encryption_key="key", encryption_bits=bits, encryption_save_tlv=True)
    assert made.decryption is not None
    assert (made.decryption.tlv, made.decryption.aes_size, made.save_tlv) == (kind, size, True)


def test_x25519_may_go_with_sha512(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(private(tmp_path, "x25519"))
    made = options(tmp_path, encryption_key="key", encryption_sha512=True)
    assert made.decryption is not None
    assert made.decryption.tlv is TlvType.ENC_X25519_SHA512


@pytest.mark.parametrize("name", ["ecdsa-p256", "rsa-2048", "aes128kw"])
def test_sha512_goes_with_no_other_key(tmp_path: Path, name: str) -> None:
    (tmp_path / "key").write_bytes(private(tmp_path, name))
    with pytest.raises(ConfigError, match=r"bootloader\.encryption_sha512 = true: .*/key is none of X25519"):
        options(tmp_path, encryption_key="key", encryption_sha512=True)


def test_aes_keys_may_be_in_base64(tmp_path: Path) -> None:
    raw = private(tmp_path, "aes128kw")
    (tmp_path / "key").write_bytes(b64encode(raw) + b"\n")
    made = options(tmp_path, encryption_key="key")
    assert made.decryption is not None
    assert made.decryption.key == raw


def test_an_encryption_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bootloader\.encryption_key = .*gone: No such file"):
        options(tmp_path, encryption_key="gone")
    (tmp_path / "key").write_bytes(b"AAAA")
    with pytest.raises(ConfigError, match=r"bootloader\.encryption_key = .*key: not a private key"):
        options(tmp_path, encryption_key="key")


def test_other_options_are_passed_on(tmp_path: Path) -> None:
    made = options(
        tmp_path,
        mode="overwrite-only",
        overwrite_fast=False,
        validate_primary=False,
        tlv_allow_list=True,
        compare_build=True,
        bootstrap=True,
        downgrade="by-counter",
        rollback_counter=True,
    )
    assert made.mode is Mode.OVERWRITE_ONLY
    assert made.downgrade is Downgrade.BY_COUNTER
    assert made.allow_list
    assert made.compare_build
    assert made.bootstrap
    assert made.rollback
    assert not made.overwrite_fast
    assert not made.validate_primary

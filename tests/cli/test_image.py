"""What a file holds, and the verdict."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from smp_dfu_host.store.image_files import write_hex
from tests.cli.conftest import Cli

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | x25519.X25519PrivateKey


def write_key(key: Private, path: Path) -> Path:
    """Write the private key, as imgtool wants it, and the public one beside it, which is returned."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private)
    public = path.with_suffix(".pub.pem")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return public


def sign(folder: Path, private: Path, *options: str) -> Path:
    payload, signed = folder / "payload.bin", folder / "signed.bin"
    payload.write_bytes(bytes(3000))
    command = [
        "sign",
        "-k",
        str(private),
        "--align",
        "8",
        "-v",
        "1.2.3+4",
        "-H",
        "0x200",
        "--pad-header",
        "-S",
        "0x8000",
    ]
    subprocess.run(
        [sys.executable, "-m", "imgtool.main", *command, *options, str(payload), str(signed)],
        check=True,
        capture_output=True,
    )
    return signed


def test_image_without_keys_is_valid_by_hash(cli: Cli) -> None:
    result = cli("image", "info", cli.image("1.2.3", 5000))
    assert result.exit_code == 0
    for words in ("1.2.3", "valid by its hash (SHA-256)", "0x10 SHA256", "5000 bytes", "header", "TLVs"):
        assert words in result.stdout


def test_image_signed_by_imgtool_is_valid_by_the_named_key(cli: Cli, tmp_path: Path) -> None:
    public = write_key(ec.generate_private_key(ec.SECP256R1()), tmp_path / "mine.pem")
    other = write_key(ed25519.Ed25519PrivateKey.generate(), tmp_path / "other.pem")
    signed = sign(tmp_path, tmp_path / "mine.pem", "-d", "(1, 2.3.4)", "-s", "9")
    result = cli("image", "info", signed, "--key", other, "--key", public, columns=160)
    assert result.exit_code == 0
    for words in (
        "mine.pub.pem (ECDSA-P256, SHA-256)",
        "1.2.3.4",
        "image 1 must be 2.3.4 or higher",
        "0x50 SEC_CNT",
        "protected",
    ):
        assert words in result.stdout
    said = json.loads(cli("image", "info", signed, "--key", public, "--json").stdout)
    assert said["valid"] is True
    assert said["header"]["hdr_size"] == 0x200
    assert (
        said["hash"]
        == hashlib.sha256(signed.read_bytes()[: 0x200 + 3000 + said["header"]["protect_tlv_size"]]).hexdigest()
    )
    assert {tlv["name"] for tlv in said["tlvs"]} >= {"SHA256", "KEYHASH", "ECDSA_SIG", "DEPENDENCY", "SEC_CNT"}


@pytest.mark.parametrize(
    ("key", "options", "said"),
    [
        (ec.generate_private_key(ec.SECP256R1()), (), "ECDSA-P256, SHA-256"),
        (ec.generate_private_key(ec.SECP384R1()), (), "ECDSA-P384, SHA-384"),
        (rsa.generate_private_key(65537, 2048), (), "RSA-2048, SHA-256"),
        (rsa.generate_private_key(65537, 3072), (), "RSA-3072, SHA-256"),
        (ed25519.Ed25519PrivateKey.generate(), (), "Ed25519, SHA-256"),
        (ed25519.Ed25519PrivateKey.generate(), ("--sha", "512"), "Ed25519, SHA-512"),
        (ed25519.Ed25519PrivateKey.generate(), ("--pure",), "Ed25519, pure"),
    ],
)
def test_every_kind_of_signature_that_imgtool_makes_is_judged(
    cli: Cli, tmp_path: Path, key: Private, options: tuple[str, ...], said: str
) -> None:
    """Valid with its key, whichever build that takes; not with another of the kind, and not with a byte changed."""
    public = write_key(key, tmp_path / "mine.pem")
    signed = sign(tmp_path, tmp_path / "mine.pem", *options)
    assert f"mine.pub.pem ({said})" in cli("image", "info", signed, "--key", public, columns=160).stdout
    assert cli("image", "info", signed).exit_code == 0
    signed.write_bytes(signed.read_bytes().replace(b"\0\0\0\0\0\0\0\0", b"\0\0\0\1\0\0\0\0", 40))
    wrong = cli("image", "info", signed, "--key", public, columns=160)
    assert wrong.exit_code == 1
    assert ("signature does not verify" if options == ("--pure",) else "hash is") in wrong.stdout


def test_build_that_takes_an_image_is_told(cli: Cli, tmp_path: Path) -> None:
    public = write_key(ed25519.Ed25519PrivateKey.generate(), tmp_path / "mine.pem")
    signed = sign(tmp_path, tmp_path / "mine.pem", "--pure")
    said = json.loads(cli("image", "info", signed, "--key", public, "--json").stdout)
    assert said["build"] == {"hash": "sha512", "pure_signature": True}


@pytest.mark.parametrize("sha", [(), ("--hmac-sha", "512")])
@pytest.mark.parametrize("bits", ["128", "256"])
def test_encrypted_image_is_judged_with_the_key_that_opens_it(
    cli: Cli, tmp_path: Path, bits: str, sha: tuple[str, ...]
) -> None:
    public = write_key(ed25519.Ed25519PrivateKey.generate(), tmp_path / "mine.pem")
    opener = write_key(x25519.X25519PrivateKey.generate(), tmp_path / "opener.pem")
    signed = sign(tmp_path, tmp_path / "mine.pem", "-E", str(opener), "--encrypt-keylen", bits, *sha)
    private = tmp_path / "opener.pem"
    assert cli("image", "info", signed, "--key", public, "--encryption-key", private).exit_code == 0
    closed = cli("image", "info", signed, "--key", public, columns=160)
    assert closed.exit_code == 1
    assert "encrypted, and there is no key to decrypt it" in closed.stdout
    other = write_key(x25519.X25519PrivateKey.generate(), tmp_path / "other.pem").with_name("other.pem")
    assert cli("image", "info", signed, "--key", public, "--encryption-key", other).exit_code == 1


@pytest.mark.parametrize("content", [None, b"no key"])
def test_encryption_key_that_is_none_is_a_usage_error(cli: Cli, content: bytes | None) -> None:
    path = cli.folder / "opener.pem"
    if content is not None:
        path.write_bytes(content)
    result = cli("image", "info", cli.image(), "--encryption-key", path)
    assert result.exit_code == 2
    assert "encryption key" in result.stderr
    assert result.stderr.count("\n") == 1


def test_image_signed_by_another_key_is_not_valid(cli: Cli, tmp_path: Path) -> None:
    write_key(ec.generate_private_key(ec.SECP256R1()), tmp_path / "mine.pem")
    other = write_key(ec.generate_private_key(ec.SECP256R1()), tmp_path / "other.pem")
    result = cli("image", "info", sign(tmp_path, tmp_path / "mine.pem"), "--key", other)
    assert result.exit_code == 1
    assert "not valid: signature is not by the configured key" in " ".join(result.stdout.split())


def test_configured_keys_are_the_default(cli: Cli, tmp_path: Path) -> None:
    write_key(ec.generate_private_key(ec.SECP256R1()), tmp_path / "mine.pem")
    cli.configure('[bootloader]\nkeys = ["mine.pub.pem"]\n')
    assert cli("image", "info", sign(tmp_path, tmp_path / "mine.pem")).exit_code == 0
    assert cli("image", "info", cli.image()).exit_code == 1


def test_padded_image_shows_what_follows(cli: Cli, tmp_path: Path) -> None:
    write_key(ec.generate_private_key(ec.SECP256R1()), tmp_path / "mine.pem")
    assert "old data" in cli("image", "info", sign(tmp_path, tmp_path / "mine.pem", "--pad")).stdout
    path = cli.image()
    path.write_bytes(path.read_bytes() + b"\xff" * 500)
    assert "free" in cli("image", "info", path).stdout


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"hello", bytes(64)])
def test_file_without_an_image_says_why(cli: Cli, data: bytes) -> None:
    path = cli.folder / "file.bin"
    path.write_bytes(data)
    result = cli("image", "info", path)
    assert result.exit_code == 1
    assert "not valid" in result.stdout
    assert json.loads(cli("image", "info", path, "--json").stdout)["header"] is None


def test_flags_and_addresses_are_named(cli: Cli) -> None:
    path = cli.image()
    data = bytearray(path.read_bytes())
    data[4:8] = (0x2000_0000).to_bytes(4, "little")
    data[16:20] = (0x20 | 0x8000).to_bytes(4, "little")
    path.write_bytes(data)
    result = cli("image", "info", path)
    assert "RAM_LOAD, 0x8000" in result.stdout
    assert "0x20000000" in result.stdout


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"PK\x03\x04rest", "not readable as a ZIP package"), (b":10000000AABB\n", "not readable as Intel HEX")],
)
def test_other_kinds_of_files_that_are_broken_are_named(cli: Cli, data: bytes, words: str) -> None:
    path = cli.folder / "image.any"
    path.write_bytes(data)
    result = cli("image", "info", path)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_intel_hex_tells_its_address(cli: Cli) -> None:
    path = cli.folder / "image.hex"
    write_hex(path, cli.image("2.0.0").read_bytes(), 0xC000)
    assert "at 0xc000 in flash" in cli("image", "info", path).stdout
    assert cli.json("image", "info", path)["address"] == 0xC000


def test_package_tells_of_each_image(cli: Cli) -> None:
    path = cli.package({"app.bin": {}, "net.bin": {"image_index": "1"}})
    text = cli("image", "info", path).stdout
    assert "image 0, slot 1 of its pair" in text
    assert "image 1, slot 1 of its pair" in text
    said = cli.json("image", "info", path)
    assert [(each["file"], each["image"], each["valid"]) for each in said["images"]] == [
        ("app.bin", 0, True),
        ("net.bin", 1, True),
    ]


def test_missing_file_is_one_line(cli: Cli) -> None:
    result = cli("image", "info", "/nowhere/image.bin")
    assert result.exit_code == 1
    assert result.stderr == "smp-dfu-host: /nowhere/image.bin: No such file or directory\n"


@pytest.mark.parametrize("content", [None, b"no key", b""])
def test_key_that_is_none_is_a_usage_error(cli: Cli, content: bytes | None) -> None:
    path = cli.folder / "key.pem"
    if content is not None:
        path.write_bytes(content)
    result = cli("image", "info", cli.image(), "--key", path)
    assert result.exit_code == 2
    assert "key.pem" in result.stderr


def test_private_key_is_answered_with_the_way_to_the_public_one(cli: Cli, tmp_path: Path) -> None:
    write_key(ed25519.Ed25519PrivateKey.generate(), tmp_path / "mine.pem")
    result = cli("image", "info", cli.image(), "--key", tmp_path / "mine.pem")
    assert result.exit_code == 2
    assert "imgtool getpub" in result.stderr

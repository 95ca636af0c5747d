import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.encryption import (
    DecryptedView,
    DecryptionKey,
    crypt_payload,
    key_tlv,
    load_decryption_key,
)
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageInvalid, ImageVersion, read_header
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.mcuboot.verify import VerifyPolicy, validate

CORPUS = Path(__file__).parents[1] / "vectors" / "images"
KEYS = json.loads((CORPUS / "testkeys.json").read_text(encoding="utf-8"))


def recorded_key(name: str, aes_size: int = 16, *, sha512: bool = False) -> DecryptionKey:
    entry = KEYS[f"TESTKEY-enc-{name}"]
    text = entry.get("test_private_pkcs8_der_hex") or entry["test_key_hex"]
    return load_decryption_key(bytes.fromhex(text), aes_size, sha512=sha512)


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ("enc-ecdsa-p256-aes128", recorded_key("ecdsa-p256")),
        ("enc-ecdsa-p256-aes256", recorded_key("ecdsa-p256", 32)),
        ("enc-ecdsa-p256-odd", recorded_key("ecdsa-p256")),
        ("enc-x25519-aes128", recorded_key("x25519")),
        ("enc-x25519-aes256", recorded_key("x25519", 32)),
        ("enc-x25519-sha512", recorded_key("x25519", sha512=True)),
        ("enc-kw-aes128", recorded_key("aes128kw")),
        ("enc-kw-aes256", recorded_key("aes256kw")),
    ],
)
def test_corpus_image_decrypts_to_what_its_hash_says(image: str, key: DecryptionKey) -> None:
    """Made by imgtool, the AES-KW ones by hand (tests/vectors/images)."""
    source = MemoryStorage((CORPUS / "images" / f"{image}.bin").read_bytes())
    header = read_header(source)
    secret = key.unwrap(key_tlv(source, header, key.tlv))
    assert len(secret) == key.aes_size
    validate(DecryptedView(source, header, secret), header, VerifyPolicy())
    with pytest.raises(ImageInvalid, match="hash is"):
        validate(source, header, VerifyPolicy())


def test_rsa_key_unwraps() -> None:
    key = recorded_key("rsa-2048")
    assert isinstance(key.key, rsa.RSAPrivateKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    assert key.unwrap(key.key.public_key().encrypt(bytes(range(16)), oaep)) == bytes(range(16))
    with pytest.raises(ImageInvalid, match="does not open"):
        key.unwrap(bytes(256))
    with pytest.raises(ImageInvalid, match="ENC_RSA2048 TLV has a key of 32 bytes, the boot loader's is 16"):
        key.unwrap(key.key.public_key().encrypt(bytes(range(32)), oaep))


@pytest.mark.parametrize("name", ["ecdsa-p256", "x25519", "aes128kw"])
def test_damaged_key_tlv_is_refused(name: str) -> None:
    key = recorded_key(name)
    with pytest.raises(ImageInvalid, match="TLV of 3 bytes"):
        key.unwrap(b"123")
    with pytest.raises(ImageInvalid, match="does not open with the boot loader's key"):
        key.unwrap(bytes(key.tlv_size))


def test_wrong_mac_is_refused() -> None:
    source = MemoryStorage((CORPUS / "images" / "enc-ecdsa-p256-aes128.bin").read_bytes())
    data = bytearray(key_tlv(source, read_header(source), TlvType.ENC_EC256))
    data[-1] ^= 1
    with pytest.raises(ImageInvalid, match="does not open"):
        recorded_key("ecdsa-p256").unwrap(bytes(data))


def test_image_without_a_key_tlv_is_refused() -> None:
    source = MemoryStorage((CORPUS / "images" / "unsigned-sha256.bin").read_bytes())
    with pytest.raises(ImageInvalid, match="no ENC_KW TLV"):
        key_tlv(source, read_header(source), TlvType.ENC_KW)


def test_files_that_are_no_keys_are_refused() -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(*form, serialization.NoEncryption())
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        *form, serialization.BestAvailableEncryption(b"secret")
    )
    for data, reason in ((b"hello", "not a private key"), (locked, "not a private key"), (other, "not supported")):
        with pytest.raises(StoreError, match=reason):
            load_decryption_key(data)
    assert "key=" not in repr(load_decryption_key(bytes(16)))


@given(st.binary(min_size=1, max_size=200), st.integers(0, 200), st.integers(0, 60), st.integers(0, 90))
def test_pieces_are_crypted_as_the_whole_is(data: bytes, cut: int, start: int, payload: int) -> None:
    """However an image is cut into pieces, they come out as the whole does, and twice is as it was."""
    header = ImageHeader(IMAGE_MAGIC, 0, start, 0, payload, 4, ImageVersion(1, 0, 0))
    key = bytes(16)
    whole = crypt_payload(data, 0, header, key)
    assert crypt_payload(data[:cut], 0, header, key) + crypt_payload(data[cut:], cut, header, key) == whole
    assert crypt_payload(whole, 0, header, key) == data
    assert whole[:start] == data[:start]
    assert whole[start + payload :] == data[start + payload :]


def test_view_has_the_size_of_its_area() -> None:
    source = MemoryStorage(bytes(100))
    header = ImageHeader(IMAGE_MAGIC, 0, 32, 0, 20, 4, ImageVersion(1, 0, 0))
    assert DecryptedView(source, header, bytes(16), 10).size == 100
    assert DecryptedView(source, header, bytes(16), 10).read(0, 42) == bytes(42)

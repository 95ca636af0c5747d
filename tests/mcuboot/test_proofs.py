import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.keys import HashKind, PublicKey
from smp_dfu_host.mcuboot.options import BootOptions
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.tlv import TlvType
from tests.mcuboot.images import make_image, make_pair, sign

CHUNK = 4096


def header_of(size: int) -> ImageHeader:
    """Return a header that makes so many bytes part of the hash."""
    return ImageHeader(0, 0, 0, 0, size, 0, ImageVersion(0, 0, 0))


@given(st.lists(st.tuples(st.binary(max_size=4), st.integers(0, 3), st.sampled_from(HashKind)), max_size=12))
def test_digest_is_the_hash_of_what_lies_there_now(asked: list[tuple[bytes, int, HashKind]]) -> None:
    """Whatever was hashed before, in whatever order, the digest is that of the bytes."""
    proofs = Proofs()
    for data, base, kind in asked:
        found = proofs.digest(MemoryStorage(b"\xff" * base + data), header_of(len(data)), base, kind)
        assert found == hashlib.new(kind.value, data).digest()


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
@pytest.mark.parametrize("at", [0, CHUNK - 2, -1])
def test_a_single_byte_that_differs_makes_a_new_hash(size: int, at: int) -> None:
    proofs, data = Proofs(), bytearray(size)
    before = proofs.digest(MemoryStorage(bytes(data)), header_of(size))
    data[at] ^= 1
    assert proofs.digest(MemoryStorage(bytes(data)), header_of(size)) == hashlib.sha256(data).digest() != before


def test_same_bytes_are_hashed_once_for_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    new = hashlib.new

    def counted(name: str) -> object:
        begun.append(name)
        return new(name)

    monkeypatch.setattr(hashlib, "new", counted)
    proofs = Proofs()
    for base in (0, 8):
        for kind in (HashKind.SHA256, HashKind.SHA512):
            proofs.digest(MemoryStorage(bytes(base) + b"image"), header_of(5), base, kind)
    assert begun == ["sha256", "sha512"]


def test_digest_of_bytes_past_the_end_is_refused() -> None:
    with pytest.raises(StoreError, match="outside of 0x8 bytes"):
        Proofs().digest(MemoryStorage(bytes(8)), header_of(9))


class Counted:
    """The key of a `PublicKey`, which counts what it is asked."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._public = private.public_key()
        self.key_size = self._public.key_size
        self.asked = 0

    def verify(self, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> None:
        self.asked += 1
        self._public.verify(signature, data, algorithm)


def test_each_signature_is_verified_once_and_never_taken_for_another() -> None:
    private, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    counted = Counted(private)
    key = PublicKey(TlvType.ECDSA_SIG, b"key", counted, "ECDSA-P256")  # type: ignore[arg-type]
    proofs, one, two = Proofs(), bytes(32), b"\x01" * 32
    good, bad = sign(private, one), sign(other, one)
    for _ in range(2):
        assert proofs.verifies(key, good, one, HashKind.SHA256)
        assert not proofs.verifies(key, bad, one, HashKind.SHA256)
        assert not proofs.verifies(key, good, two, HashKind.SHA256)
    assert counted.asked == 3


def test_a_byte_that_changes_on_its_way_to_slot_0_is_found_by_the_boot() -> None:
    """The update was found valid in slot 1; what counts is what lies in slot 0."""
    pair = make_pair(make_image(), make_image((2, 0, 0, 0)))
    loader = Bootloader(BootOptions(max_sectors=16), [pair])
    loader.set_pending(0, permanent=True)

    def disturb(kind: str, name: str, offset: int, size: int, data: bytes) -> None:
        if (kind, name, offset) == ("W", "slot 0", 0) and ImageHeader.parse(data).version.major == 2:
            pair.primary.load(100, bytes([data[100] ^ 1]))

    pair.primary.meter.trace = disturb
    result = loader.boot()
    assert not result.ok
    assert "SHA256 hash is" in result.actions[-1]

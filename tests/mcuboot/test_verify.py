from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageInvalid, read_header
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.mcuboot.verify import HashKind, VerifyPolicy, examine, validate
from tests.mcuboot.images import PrivateKey, make_image, public_of, sign


@cache
def key_of(kind: str) -> PrivateKey:
    match kind:
        case "RSA-2048" | "RSA-3072":
            return rsa.generate_private_key(65537, int(kind[4:]))
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == "ECDSA-P384" else ec.SECP256R1())


def check(data: bytes, policy: VerifyPolicy, *, limit: int | None = None, counter: int | None = None) -> str:
    """Return why an image is not valid; empty: it is."""
    source = MemoryStorage(data)
    header = read_header(source)
    try:
        validate(source, header, policy, limit=limit, counter=counter)
    except ImageInvalid as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("kind", ["ECDSA-P256", "Ed25519", "RSA-2048", "RSA-3072"])
def test_signature_of_each_kind_verifies_with_its_key_alone(kind: str) -> None:
    key = key_of(kind)
    public = public_of(key)
    data = make_image(key=key)
    info = validate(MemoryStorage(data), read_header(MemoryStorage(data)), VerifyPolicy((public,)))
    assert info.signed_by == public
    assert info.end == len(data)
    assert public.kind == kind
    broken = bytearray(data)
    broken[-1 if kind != "ECDSA-P256" else -5] ^= 1
    assert check(bytes(broken), VerifyPolicy((public,))) == "signature does not verify with the configured key"


def test_signature_by_any_of_the_keys_is_accepted() -> None:
    one, other, third = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    policy = VerifyPolicy((public_of(one), public_of(other)))
    assert check(make_image(key=other), policy) == ""
    assert check(make_image(key=third), policy) == "signature is not by any of 2 keys"
    assert check(make_image(), policy) == "no ECDSA-P256 signature"


def test_last_verified_signature_counts_and_unknown_keys_are_passed_over() -> None:
    key, stranger = key_of("ECDSA-P256"), ec.generate_private_key(ec.SECP256R1())
    policy = VerifyPolicy((public_of(key),))
    hashed = Proofs().digest(MemoryStorage(make_image()), read_header(MemoryStorage(make_image())))
    good = [(TlvType.KEYHASH, public_of(key).hash()), (TlvType.ECDSA_SIG, sign(key, hashed))]
    bad = [(TlvType.KEYHASH, public_of(key).hash()), (TlvType.ECDSA_SIG, sign(stranger, hashed))]
    unknown = [(TlvType.KEYHASH, public_of(stranger).hash()), (TlvType.ECDSA_SIG, sign(stranger, hashed))]
    assert check(make_image(unprotected=bad + unknown + good), policy) == ""
    assert check(make_image(unprotected=good + unknown), policy) == ""
    assert "does not verify" in check(make_image(unprotected=good + bad), policy)
    assert "is not by the configured key" in check(make_image(unprotected=good[1:]), policy)


def test_wrong_lengths_are_refused() -> None:
    key = key_of("Ed25519")
    policy = VerifyPolicy((public_of(key),))
    named = (TlvType.KEYHASH, public_of(key).hash())
    assert "Ed25519 signature of 63 bytes" in check(
        make_image(unprotected=[named, (TlvType.ED25519, bytes(63))]), policy
    )
    assert "key hash of 33 bytes, not 32" in check(make_image(unprotected=[(TlvType.KEYHASH, bytes(33))]), policy)
    assert "SHA256 hash of 31 bytes" in check(make_image(unprotected=[(TlvType.SHA256, bytes(31))]), VerifyPolicy())


def test_empty_ecdsa_signature_does_not_verify() -> None:
    key = key_of("ECDSA-P256")
    named = (TlvType.KEYHASH, public_of(key).hash())
    policy = VerifyPolicy((public_of(key),))
    assert "does not verify" in check(make_image(unprotected=[named, (TlvType.ECDSA_SIG, b"")]), policy)


def test_hash_is_checked_and_wanted() -> None:
    broken = bytearray(make_image())
    broken[40] ^= 1
    assert "SHA256 hash is" in check(bytes(broken), VerifyPolicy())
    assert check(make_image(), VerifyPolicy(hash=HashKind.SHA512)) == "no SHA512 hash"
    assert check(make_image(unprotected=[(TlvType.SHA256, bytes(32))]), VerifyPolicy()).startswith("SHA256 hash is")


def test_image_larger_than_the_limit_is_refused() -> None:
    data = make_image()
    assert check(data, VerifyPolicy(), limit=len(data)) == ""
    assert (
        check(data, VerifyPolicy(), limit=len(data) - 1)
        == f"image of {len(data)} bytes, the slot takes {len(data) - 1} beside its trailer"
    )


def test_security_counter_must_reach_the_stored_one() -> None:
    data = make_image(protected=[(TlvType.SEC_CNT, (5).to_bytes(4, "little"))])
    assert check(data, VerifyPolicy(), counter=5) == ""
    assert check(data, VerifyPolicy(), counter=6) == "security counter 5 is below the stored one, 6"
    assert check(make_image(), VerifyPolicy(), counter=0) == "no security counter"
    short = make_image(protected=[(TlvType.SEC_CNT, b"12")])
    assert check(short, VerifyPolicy(), counter=0) == "security counter of 2 bytes, not 4"


def test_allow_list_keeps_strangers_out_of_the_unprotected_area() -> None:
    policy = VerifyPolicy(allow_list=True)
    assert check(make_image(unprotected=[(0xA0, b"x")]), VerifyPolicy()) == ""
    assert "TLV 0x00a0 is not allowed" in check(make_image(unprotected=[(0xA0, b"x")]), policy)
    assert check(make_image(protected=[(0xA0, b"x")]), policy) == ""


def test_keys_of_two_types_are_refused() -> None:
    with pytest.raises(StoreError, match="keys of ECDSA-P256, Ed25519: a boot loader knows one type"):
        VerifyPolicy((public_of(key_of("ECDSA-P256")), public_of(key_of("Ed25519"))))


def test_large_image_is_hashed_in_chunks() -> None:
    class Watched(MemoryStorage):
        largest = 0

        def read(self, offset: int, size: int) -> bytes:
            self.largest = max(self.largest, size)
            return super().read(offset, size)

    source = Watched(make_image(payload=bytes(200_000)))
    assert examine(source).valid
    assert source.largest == 4096


def test_examination_says_all_that_can_be_said() -> None:
    data = make_image((1, 2, 3, 4))
    good = examine(MemoryStorage(data))
    assert good.valid
    assert good.info is not None
    assert (str(good.info.header.version), good.reason) == ("1.2.3.4", "")
    unsigned = examine(MemoryStorage(data), VerifyPolicy((public_of(key_of("ECDSA-P256")),)))
    assert (unsigned.valid, unsigned.reason) == (False, "no ECDSA-P256 signature")
    assert unsigned.header is not None
    assert unsigned.tlvs is not None
    nothing = examine(MemoryStorage(b"short"))
    assert (nothing.header, nothing.tlvs, nothing.reason) == (None, None, "5 bytes, an image header has 32")
    cut = examine(MemoryStorage(data[:-1]))
    assert cut.header is not None
    assert cut.tlvs is None


def test_image_flagged_as_not_bootable_is_not_valid() -> None:
    assert examine(MemoryStorage(make_image(flags=0x10))).reason == "header flags 0x10: not bootable"


def test_hash_that_passes_the_end_is_refused() -> None:
    data = make_image()
    header = read_header(MemoryStorage(data))

    class Short(MemoryStorage):
        def read(self, offset: int, size: int) -> bytes:
            if size > 300:
                raise StoreError("gone")
            return super().read(offset, size)

    with pytest.raises(ImageInvalid, match="image passes the end: gone"):
        validate(Short(data), header, VerifyPolicy())


@given(st.data())
def test_any_damage_gives_a_reason_and_no_other_error(data: st.DataObject) -> None:
    """Whatever byte of an image is changed, the verdict is a reason in words."""
    image = bytearray(make_image(protected=[(TlvType.SEC_CNT, bytes(4))]))
    at = data.draw(st.integers(0, len(image) - 1))
    image[at] ^= data.draw(st.integers(1, 255))
    found = examine(MemoryStorage(bytes(image)))
    assert found.valid == (found.reason == "")

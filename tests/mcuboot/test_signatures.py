"""Signatures of every kind, on images that imgtool made; its `verify` must agree where it looks as closely as MCUboot.

It is weaker by design: it ignores the key hash, and stops at the first good signature (mcuboot-slots.md section 3).
"""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.keys import HashKind, PublicKey, load_public_key
from smp_dfu_host.mcuboot.tlv import TlvType, read_tlvs
from smp_dfu_host.mcuboot.verify import ALLOWED_UNPROTECTED, VerifyPolicy, examine
from tests import imgtool
from tests.mcuboot.images import make_pair

KINDS = {
    "ECDSA-P256": ("ecdsa-p256", HashKind.SHA256),
    "ECDSA-P384": ("ecdsa-p384", HashKind.SHA384),
    "Ed25519": ("ed25519", HashKind.SHA256),
    "RSA-2048": ("rsa-2048", HashKind.SHA256),
    "RSA-3072": ("rsa-3072", HashKind.SHA256),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signed")


@cache
def key(kind: str, number: int = 0) -> tuple[Path, PublicKey]:
    """Return the file of a private key, and the public one."""
    path = Path(mkdtemp(prefix="keys-")) / f"{kind}-{number}.pem"
    return path, load_public_key(imgtool.make_key(path, KINDS[kind][0]))


def verdict(data: bytes, policy: VerifyPolicy) -> str:
    return examine(MemoryStorage(data), policy).reason


def imgtool_verdict(folder: Path, data: bytes, private: Path) -> str:
    path = folder / "verdict.bin"
    path.write_bytes(data)
    return imgtool.verify(path, private)


@pytest.mark.parametrize("kind", KINDS)
def test_image_of_imgtool_is_valid_with_the_hash_that_goes_with_the_key(folder: Path, kind: str) -> None:
    private, public = key(kind)
    data = imgtool.sign(folder, "-k", private)
    found = examine(MemoryStorage(data), VerifyPolicy((public,)))
    assert found.reason == ""
    assert found.info is not None
    assert (found.info.signed_by, len(found.info.hash)) == (public, KINDS[kind][1].size)
    assert imgtool_verdict(folder, data, private) == "Image was correctly validated"


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bit_of_image_or_signature_is_found_by_both(folder: Path, kind: str) -> None:
    private, public = key(kind)
    data = imgtool.sign(folder, "-k", private)
    for at in (100, len(data) - 20):
        broken = bytearray(data)
        broken[at] ^= 1
        assert verdict(bytes(broken), VerifyPolicy((public,))) != ""
        assert imgtool_verdict(folder, bytes(broken), private) != "Image was correctly validated"


@pytest.mark.parametrize("kind", KINDS)
def test_image_by_another_key_is_refused_and_by_one_of_several_is_not(folder: Path, kind: str) -> None:
    (private, public), (_, other) = key(kind), key(kind, 1)
    data = imgtool.sign(folder, "-k", private)
    assert verdict(data, VerifyPolicy((other,))) == "signature is not by the configured key"
    found = examine(MemoryStorage(data), VerifyPolicy((other, public)))
    assert found.info is not None
    assert found.info.signed_by == public


@pytest.mark.parametrize("kind", ["ECDSA-P256", "ECDSA-P384"])
def test_padded_signature_verifies(folder: Path, kind: str) -> None:
    private, public = key(kind)
    assert verdict(imgtool.sign(folder, "-k", private, "--pad-sig"), VerifyPolicy((public,))) == ""


def test_ed25519_goes_with_sha512_too_if_the_build_says_so(folder: Path) -> None:
    private, public = key("Ed25519")
    data = imgtool.sign(folder, "-k", private, "--sha", "512")
    assert verdict(data, VerifyPolicy((public,), HashKind.SHA512)) == ""
    assert verdict(data, VerifyPolicy((public,))) == "no SHA256 hash"


def test_hash_that_does_not_go_with_the_key_is_refused() -> None:
    with pytest.raises(StoreError, match="SHA256 with keys of ECDSA-P384: it goes with SHA384"):
        VerifyPolicy((key("ECDSA-P384")[1],), HashKind.SHA256)
    with pytest.raises(StoreError, match="SHA512 with keys of RSA-2048: it goes with SHA256"):
        VerifyPolicy((key("RSA-2048")[1],), HashKind.SHA512)


# Pure signatures


def pure_options(public: PublicKey, mode: Mode = Mode.SWAP_USING_MOVE) -> BootOptions:
    return BootOptions(mode=mode, keys=(public,), pure=True, max_sectors=16)


def test_pure_signature_is_over_the_image_and_no_hash_is_looked_at(folder: Path) -> None:
    private, public = key("Ed25519")
    data = imgtool.sign(folder, "-k", private, "--pure")
    policy = VerifyPolicy((public,), pure=True)
    found = examine(MemoryStorage(data), policy)
    assert found.info is not None
    assert (found.info.hash, found.info.signed_by) == (b"", public)
    assert imgtool_verdict(folder, data, private) == "Image was correctly validated"
    hashed = found.info.tlvs.find(TlvType.SHA512)[0].offset
    assert verdict(data[:hashed] + bytes(64) + data[hashed + 64 :], policy) == ""
    assert "does not verify" in verdict(data[:100] + b"?" + data[101:], policy)


def test_pure_build_wants_images_that_say_so(folder: Path) -> None:
    private, public = key("Ed25519")
    policy = VerifyPolicy((public,), pure=True)
    assert "does not say" in verdict(imgtool.sign(folder, "-k", private, "--sha", "512"), policy)
    data = imgtool.sign(folder, "-k", private, "--pure")
    said = read_tlvs(MemoryStorage(data), ImageHeader.parse(data)).find(TlvType.SIG_PURE)[0].offset
    assert "does not say" in verdict(data[:said] + b"\0" + data[said + 1 :], policy)
    assert (
        verdict(data, VerifyPolicy((public,), HashKind.SHA512)) == "signature does not verify with the configured key"
    )


def test_pure_signatures_want_an_ed25519_key() -> None:
    for keys, named in (((), "no key"), ((key("ECDSA-P256")[1],), "ECDSA-P256")):
        with pytest.raises(StoreError, match=f"pure signatures with {named}"):
            VerifyPolicy(keys, pure=True)


def test_pure_image_that_passes_the_end_is_refused(folder: Path) -> None:
    private, public = key("Ed25519")
    data = imgtool.sign(folder, "-k", private, "--pure")

    class Short(MemoryStorage):
        def read(self, offset: int, size: int) -> bytes:
            if size > 300:
                raise StoreError("gone")
            return super().read(offset, size)

    assert examine(Short(data), VerifyPolicy((public,), pure=True)).reason == "image passes the end: gone"


@pytest.mark.parametrize(
    ("mode", "base", "reason"),
    [
        (Mode.SWAP_USING_MOVE, 0, ""),
        # The boot loader maps the signed bytes from the start of the slot, where no update lies in this mode.
        (Mode.SWAP_USING_OFFSET, 4096, "signature does not verify with the configured key"),
    ],
)
def test_pure_signature_covers_the_slot_from_its_start(folder: Path, mode: Mode, base: int, reason: str) -> None:
    private, public = key("Ed25519")
    pair = make_pair()
    pair.secondary.load(base, imgtool.sign(folder, "-k", private, "--pure"))
    boot = Bootloader(pure_options(public, mode), [pair])
    if not reason:
        assert boot.check_image(0, 1, base).signed_by == public
        return
    with pytest.raises(ImageInvalid, match=reason):
        boot.check_image(0, 1, base)


# Allow list and key hashes


def test_allow_list_of_a_pure_build_has_the_mark_of_pure_signatures(folder: Path) -> None:
    private, public = key("Ed25519")
    data = imgtool.sign(folder, "-k", private, "--pure")
    assert verdict(data, VerifyPolicy((public,), pure=True, allow_list=True)) == ""
    assert "SIG_PURE is not allowed" in verdict(data, VerifyPolicy(hash=HashKind.SHA512, allow_list=True))


def test_allow_list_has_one_of_the_two_x25519_keys() -> None:
    assert not {TlvType.ENC_X25519, TlvType.ENC_X25519_SHA512, TlvType.SIG_PURE} & ALLOWED_UNPROTECTED
    corpus = Path(__file__).parents[1] / "vectors" / "images" / "images"
    for name, sha512 in (("enc-x25519-aes128.bin", False), ("enc-x25519-sha512.bin", True)):
        data = (corpus / name).read_bytes()
        (entry,) = (
            entry
            for entry in read_tlvs(MemoryStorage(data), ImageHeader.parse(data)).entries
            if entry.type in (TlvType.ENC_X25519, TlvType.ENC_X25519_SHA512)
        )
        assert VerifyPolicy(allow_list=True, hmac_sha512=sha512).allows(entry)
        assert not VerifyPolicy(allow_list=True, hmac_sha512=not sha512).allows(entry)


def test_short_key_hash_is_compared_as_far_as_it_goes(folder: Path) -> None:
    """bootutil_find_key.c compares keyhash_len bytes: a shorter one selects the first key that begins so."""
    (private, public), (_, other) = key("Ed25519"), key("Ed25519", 1)
    data = imgtool.sign(folder, "-k", private)
    header = ImageHeader.parse(data)
    tlvs = read_tlvs(MemoryStorage(data), header).entries
    for length in (0, 2, 8, 31):
        entries = b""
        for entry in tlvs:
            value = entry.data[:length] if entry.type == TlvType.KEYHASH else entry.data
            entries += entry.type.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
        changed = data[: header.tlv_offset] + bytes.fromhex("0769") + (len(entries) + 4).to_bytes(2, "little") + entries
        assert verdict(changed, VerifyPolicy((public,))) == ""
        refused = verdict(changed, VerifyPolicy((other,)))
        assert refused == f"signature {'does not verify with' if not length else 'is not by'} the configured key"


def test_check_image_uses_the_rules_of_the_mode(folder: Path) -> None:
    private, public = key("ECDSA-P384")
    data = imgtool.sign(folder, "-k", private)
    for mode in Mode:
        base = 4096 if mode is Mode.SWAP_USING_OFFSET else 0
        pair = make_pair()
        pair.secondary.load(base, data)
        scratch = make_pair().primary
        boot = Bootloader(BootOptions(mode=mode, keys=(public,), max_sectors=16), [pair], scratch)
        assert boot.check_image(0, 1, base).signed_by == public
        with pytest.raises(ImageInvalid, match="magic is 0xffffffff"):
            boot.check_image(0, 0)


def test_compressed_image_is_refused_in_so_many_words() -> None:
    corpus = Path(__file__).parents[1] / "vectors" / "images" / "images"
    pair = make_pair()
    pair.secondary.load(0, (corpus / "comp-lzma2.bin").read_bytes())
    with pytest.raises(ImageInvalid, match=r"header flags 0x400: compressed images are not supported"):
        Bootloader(BootOptions(max_sectors=16), [pair]).check_image(0, 1)

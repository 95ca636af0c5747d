"""Whether an image is what its TLVs say, and signed by whom it must be.

Sources: mcuboot boot/bootutil/src/image_validate.c (bootutil_img_validate), bootutil_img_hash.c. A key hash selects
the key of the next signature; signatures without a known key are passed over; the last one that was verified counts;
every hash of the build's type must be right. With pure signatures (MCUBOOT_SIGN_PURE) the image must say so in a
SIG_PURE TLV, it is signed itself, and no hash is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.encryption import DecryptedView, DecryptionKey, key_tlv
from smp_dfu_host.mcuboot.flash import Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid, check_header, read_header
from smp_dfu_host.mcuboot.keys import HashKind, PublicKey, load_public_key
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.tlv import Tlv, TlvArea, TlvType, read_tlvs

__all__ = [
    "Examination",
    "HashKind",
    "ImageInfo",
    "ImageInvalid",
    "PublicKey",
    "VerifyPolicy",
    "examine",
    "load_public_key",
    "validate",
]

ALLOWED_UNPROTECTED = frozenset(
    {
        TlvType.KEYHASH,
        TlvType.PUBKEY,
        TlvType.SHA256,
        TlvType.SHA384,
        TlvType.SHA512,
        TlvType.RSA2048_PSS,
        TlvType.ECDSA224,
        TlvType.ECDSA_SIG,
        TlvType.RSA3072_PSS,
        TlvType.ED25519,
        TlvType.ENC_RSA2048,
        TlvType.ENC_KW,
        TlvType.ENC_EC256,
    }
)
"""Types that may stand in the unprotected area of a build with MCUBOOT_USE_TLV_ALLOW_LIST; the policy has more."""


@dataclass(frozen=True, slots=True)
class VerifyPolicy:
    """What a boot loader's build wants of an image."""

    keys: tuple[PublicKey, ...] = ()
    """All of one kind; empty: the hash alone decides."""
    hash: HashKind | None = None
    """None: what goes with the keys."""
    allow_list: bool = False
    """MCUBOOT_USE_TLV_ALLOW_LIST."""
    pure: bool = False
    """MCUBOOT_SIGN_PURE: Ed25519 over the image itself."""
    hmac_sha512: bool = False
    """MCUBOOT_HMAC_SHA512: which of the two X25519 TLVs the allow list has."""

    def __post_init__(self) -> None:
        kinds = sorted({key.kind for key in self.keys})
        if len(kinds) > 1:
            raise StoreError(f"keys of {', '.join(kinds)}: a boot loader knows one type of signature")
        if self.pure and kinds != ["Ed25519"]:
            raise StoreError(f"pure signatures with {', '.join(kinds) or 'no key'}: they are made with Ed25519 keys")
        if kinds and self.digest not in self.keys[0].hashes:
            raise StoreError(f"{self.digest.name} with keys of {kinds[0]}: it goes with {self.keys[0].hashes[0].name}")

    @property
    def digest(self) -> HashKind:
        """The hash of the build (IMAGE_HASH_SIZE); with pure signatures that of the key hash alone."""
        if self.hash is not None:
            return self.hash
        if self.pure:
            return HashKind.SHA512
        return self.keys[0].hashes[0] if self.keys else HashKind.SHA256

    def allows(self, entry: Tlv) -> bool:
        """Tell whether an entry may stand where it does."""
        if entry.protected or not self.allow_list or entry.type in ALLOWED_UNPROTECTED:
            return True
        wrapped = TlvType.ENC_X25519_SHA512 if self.hmac_sha512 else TlvType.ENC_X25519
        return entry.type == wrapped or (self.pure and entry.type == TlvType.SIG_PURE)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A valid image."""

    header: ImageHeader
    tlvs: TlvArea
    hash: bytes
    """As computed; empty with pure signatures, where none is."""
    signed_by: PublicKey | None
    """None if no keys were asked for."""

    @property
    def end(self) -> int:
        """Bytes from header to the last TLV."""
        return self.tlvs.end


@dataclass(frozen=True, slots=True)
class Examination:
    """What can be said about bytes that may be an image."""

    header: ImageHeader | None
    """None if there are too few bytes, or no magic."""
    tlvs: TlvArea | None
    """None if they cannot be read."""
    info: ImageInfo | None
    """None if the image is not valid."""
    reason: str
    """Why it is not valid; empty if it is."""

    @property
    def valid(self) -> bool:
        """Whether a boot loader accepts it."""
        return self.info is not None


def validate(
    area: Readable,
    header: ImageHeader,
    policy: VerifyPolicy,
    *,
    base: int = 0,
    limit: int | None = None,
    counter: int | None = None,
    proofs: Proofs | None = None,
) -> ImageInfo:
    """Check an image as the boot loader does once its header is accepted (`check_header`).

    Args:
        area: What holds the image; its payload must read as plain text.
        header: Its header.
        policy: Keys and hash.
        base: Where the image starts in the area.
        limit: Most bytes that the image may have, TLVs included; None: no limit.
        counter: The stored security counter that its own must reach; None: not looked at.
        proofs: What was computed before; None: nothing.

    Raises:
        ImageInvalid: If anything is wrong with it.
    """
    proofs = proofs or Proofs()
    tlvs = read_tlvs(area, header, base)
    if limit is not None and tlvs.end > limit:
        raise ImageInvalid(f"image of {tlvs.end} bytes, the slot takes {limit} beside its trailer")
    _check_allowed(tlvs, policy)
    if counter is not None:
        _check_counter(tlvs, counter)
    if policy.pure:
        return ImageInfo(header, tlvs, b"", _check_signatures(tlvs, policy, _signed_bytes(area, header, tlvs), proofs))
    computed = _check_hash(area, header, tlvs, policy.digest, base, proofs)
    signed_by = _check_signatures(tlvs, policy, computed, proofs) if policy.keys else None
    return ImageInfo(header, tlvs, computed, signed_by)


def _check_allowed(tlvs: TlvArea, policy: VerifyPolicy) -> None:
    for entry in tlvs.entries:
        if not policy.allows(entry):
            raise ImageInvalid(f"TLV {entry.name} is not allowed outside of the protected area")


def _signed_bytes(area: Readable, header: ImageHeader, tlvs: TlvArea) -> bytes:
    """Return what a pure signature covers.

    The boot loader maps it from the start of the slot on, wherever the image starts: with swap-using-offset, where an
    update lies one sector further, no update verifies.
    """
    said = tlvs.find(TlvType.SIG_PURE)
    if not said or said[0].data != b"\x01":
        raise ImageInvalid("it does not say that its signature is a pure one")
    try:
        return area.read(0, header.hashed_size)
    except StoreError as exc:
        raise ImageInvalid(f"image passes the end: {exc}") from exc


def _check_counter(tlvs: TlvArea, counter: int) -> None:
    entries = tlvs.find(TlvType.SEC_CNT)
    if not entries:
        raise ImageInvalid("no security counter")
    for entry in entries:
        if len(entry.data) != 4:
            raise ImageInvalid(f"security counter of {len(entry.data)} bytes, not 4")
        if (value := int.from_bytes(entry.data, "little")) < counter:
            raise ImageInvalid(f"security counter {value} is below the stored one, {counter}")


def _check_hash(area: Readable, header: ImageHeader, tlvs: TlvArea, kind: HashKind, base: int, proofs: Proofs) -> bytes:
    entries = tlvs.find(kind.tlv)
    if not entries:
        raise ImageInvalid(f"no {kind.name} hash")
    try:
        computed = proofs.digest(area, header, base, kind)
    except StoreError as exc:
        raise ImageInvalid(f"image passes the end: {exc}") from exc
    for entry in entries:
        if len(entry.data) != len(computed):
            raise ImageInvalid(f"{kind.name} hash of {len(entry.data)} bytes, not {len(computed)}")
        if entry.data != computed:
            raise ImageInvalid(f"{kind.name} hash is {computed.hex()[:16]}..., TLV says {entry.data.hex()[:16]}...")
    return computed


def _check_signatures(tlvs: TlvArea, policy: VerifyPolicy, signed: bytes, proofs: Proofs) -> PublicKey:
    """Return the key whose signature counts.

    Args:
        tlvs: Of the image.
        policy: With at least one key.
        signed: What is signed: the hash, or with pure signatures the image.
        proofs: What was computed before.
    """
    wanted = policy.keys[0].signature
    selected: PublicKey | None = None
    verdict: tuple[PublicKey, bool] | None = None
    for entry in tlvs.entries:
        if entry.type == TlvType.KEYHASH:
            selected = _find_key(entry, policy)
        elif entry.type == wanted:
            if selected is not None:
                verdict = selected, _verifies(selected, entry, signed, policy.digest, proofs)
            selected = None
    if verdict is None:
        if not tlvs.find(wanted):
            raise ImageInvalid(f"no {policy.keys[0].kind} signature")
        raise ImageInvalid(f"signature is not by {_of(policy.keys)}")
    if not verdict[1]:
        raise ImageInvalid(f"signature does not verify with {_of(policy.keys)}")
    return verdict[0]


def _find_key(entry: Tlv, policy: VerifyPolicy) -> PublicKey | None:
    """Return the first key whose hash begins as the TLV says; a short TLV is compared as far as it goes."""
    size = len(policy.keys[0].hash(policy.digest))
    if len(entry.data) > size:
        raise ImageInvalid(f"key hash of {len(entry.data)} bytes, not {size}")
    return next((key for key in policy.keys if key.hash(policy.digest).startswith(entry.data)), None)


def _verifies(key: PublicKey, entry: Tlv, signed: bytes, kind: HashKind, proofs: Proofs) -> bool:
    if not key.takes_size(len(entry.data)):
        raise ImageInvalid(f"{key.kind} signature of {len(entry.data)} bytes")
    return proofs.verifies(key, entry.data, signed, kind)


def _of(keys: Sequence[PublicKey]) -> str:
    return "the configured key" if len(keys) == 1 else f"any of {len(keys)} keys"


def examine(
    source: Readable,
    policy: VerifyPolicy | None = None,
    *,
    base: int = 0,
    limit: int | None = None,
    decryption: DecryptionKey | None = None,
) -> Examination:
    """Look at an image without booting it; whatever is wrong is in the result.

    Args:
        source: An area, or `MemoryStorage(data)` for a file's bytes.
        policy: Keys and hash; None: the SHA-256 hash alone.
        base: Where the image starts.
        limit: Most bytes that the image may have; None: what the source holds.
        decryption: Opens encrypted images; None: they are not valid.

    Raises:
        StoreError: If the source cannot be read at all.
    """
    header: ImageHeader | None = None
    tlvs: TlvArea | None = None
    try:
        found = read_header(source, base)
        header = found if found.present else None
        # Bytes of a bare file may end with the last TLV; `check_header` wants room behind the hashed part.
        check_header(found, source.size - base + 1, encryption=decryption is not None)
        tlvs = read_tlvs(source, found, base)
        _check_bootable(found)
        if decryption is not None and found.encrypted:
            key = decryption.unwrap(key_tlv(source, found, decryption.tlv, base))
            source = DecryptedView(source, found, key, base)
        info = validate(source, found, policy or VerifyPolicy(), base=base, limit=limit)
    except ImageInvalid as exc:
        return Examination(header, tlvs or (_readable_tlvs(source, header, base) if header else None), None, str(exc))
    return Examination(header, tlvs, info, "")


def _readable_tlvs(source: Readable, header: ImageHeader, base: int) -> TlvArea | None:
    """Return the TLVs of an image whose header is refused, for its flags perhaps; None if they cannot be read."""
    try:
        return read_tlvs(source, header, base)
    except (ImageInvalid, StoreError):
        return None


def _check_bootable(header: ImageHeader) -> None:
    if not header.bootable:
        raise ImageInvalid(f"header flags 0x{header.flags:x}: not bootable")

"""The type-length-value entries behind an image's payload.

    [ info 0x6908 | total ] entry entry ...     protected, optional, covered by the hash
    [ info 0x6907 | total ] entry entry ...     unprotected: hash, key hash, signature, ...

    entry: [ type (2) | length (2) | data ]     no alignment, no padding

Little-endian; a total includes its 4 bytes of info (mcuboot boot/bootutil/src/tlv.c).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid

INFO_MAGIC = 0x6907
PROTECTED_INFO_MAGIC = 0x6908
_PAIR = Struct("<HH")


class TlvType(IntEnum):
    """Types that MCUboot or imgtool know."""

    KEYHASH = 0x01
    PUBKEY = 0x02
    SHA256 = 0x10
    SHA384 = 0x11
    SHA512 = 0x12
    RSA2048_PSS = 0x20
    ECDSA224 = 0x21
    ECDSA_SIG = 0x22
    RSA3072_PSS = 0x23
    ED25519 = 0x24
    SIG_PURE = 0x25
    ENC_RSA2048 = 0x30
    ENC_KW = 0x31
    ENC_EC256 = 0x32
    ENC_X25519 = 0x33
    ENC_X25519_SHA512 = 0x34
    DEPENDENCY = 0x40
    SEC_CNT = 0x50
    BOOT_RECORD = 0x60
    DECOMP_SIZE = 0x70
    DECOMP_SHA = 0x71
    DECOMP_SIGNATURE = 0x72
    COMP_DEC_SIZE = 0x73
    UUID_VID = 0x74
    UUID_CID = 0x75


@dataclass(frozen=True, slots=True)
class Tlv:
    """One entry."""

    type: int
    """A `TlvType`, or a vendor's number."""
    data: bytes
    offset: int
    """Of the data, from the start of the image."""
    protected: bool

    @property
    def name(self) -> str:
        """The type's name, or its number."""
        try:
            return TlvType(self.type).name
        except ValueError:
            return f"0x{self.type:04x}"


@dataclass(frozen=True, slots=True)
class TlvArea:
    """All entries of an image, in order, protected ones first."""

    entries: tuple[Tlv, ...]
    end: int
    """Where the image ends, from its start: header to last TLV."""

    def find(self, kind: int) -> tuple[Tlv, ...]:
        """Return the entries of a type."""
        return tuple(entry for entry in self.entries if entry.type == kind)


@dataclass(frozen=True, slots=True)
class TlvBounds:
    """Where the TLV areas of an image lie, from its start."""

    start: int
    protected_end: int
    """Equal to `start` if there is no protected area."""
    end: int


def tlv_bounds(area: Readable, header: ImageHeader, base: int = 0) -> TlvBounds:
    """Read the one or two infos.

    Raises:
        ImageInvalid: If they are not what the header says, or lie outside of the area.
    """
    start = header.tlv_offset
    magic, total = _pair(area, base, start)
    middle = start
    if magic == PROTECTED_INFO_MAGIC:
        if total != header.protect_tlv_size:
            raise ImageInvalid(f"protected TLV area of {total} bytes, header says {header.protect_tlv_size}")
        middle += total
        magic, total = _pair(area, base, middle)
    elif header.protect_tlv_size:
        raise ImageInvalid(f"no protected TLV area at 0x{start:x}, header says {header.protect_tlv_size} bytes")
    if magic != INFO_MAGIC:
        raise ImageInvalid(f"no TLV area at 0x{middle:x}: magic is 0x{magic:04x}, not 0x{INFO_MAGIC:04x}")
    return TlvBounds(start, middle, middle + total)


def read_tlvs(area: Readable, header: ImageHeader, base: int = 0, *, protected_only: bool = False) -> TlvArea:
    """Return the entries of the image at `base`.

    Args:
        area: What holds the image.
        header: Its header.
        base: Where the image starts in the area.
        protected_only: Leave the unprotected entries out; they are not looked at then.

    Raises:
        ImageInvalid: If an area or an entry is broken.
    """
    bounds = tlv_bounds(area, header, base)
    entries = list(_entries(area, base, bounds.start, bounds.protected_end, protected=True))
    if not protected_only:
        entries += _entries(area, base, bounds.protected_end, bounds.end, protected=False)
    return TlvArea(tuple(entries), bounds.end)


def _entries(area: Readable, base: int, start: int, end: int, *, protected: bool) -> Iterator[Tlv]:
    offset = start + _PAIR.size
    while offset < end:
        kind, size = _pair(area, base, offset, end)
        offset += _PAIR.size
        if offset + size > end:
            raise ImageInvalid(f"TLV 0x{kind:04x} of {size} bytes at 0x{offset:x}: the TLV area ends at 0x{end:x}")
        yield Tlv(kind, _read(area, base + offset, size), offset, protected)
        offset += size


def _pair(area: Readable, base: int, offset: int, end: int | None = None) -> tuple[int, int]:
    if end is not None and offset + _PAIR.size > end:
        raise ImageInvalid(f"TLV at 0x{offset:x}: the TLV area ends at 0x{end:x}")
    first, second = _PAIR.unpack(_read(area, base + offset, _PAIR.size))
    return first, second


def _read(area: Readable, offset: int, size: int) -> bytes:
    try:
        return area.read(offset, size)
    except StoreError as exc:
        raise ImageInvalid(f"TLV area passes the end: {exc}") from exc

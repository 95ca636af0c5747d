"""What an image list shows of a slot: the image in it, and what becomes of it at the next boot.

    T, N                     running slot            the other slot
    normal, the running      active confirmed        -
    normal, the other        active confirmed        pending permanent
    test, the other          active confirmed        pending
    revert, the other        active                  confirmed

T is how the next boot goes, N the slot that it runs (zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c,
img_mgmt_state_read). An image is listed when header, TLV area and exactly one hash of the boot loader's kind are there;
nobody computes it (img_mgmt.c, img_mgmt_read_info).
"""

from dataclasses import dataclass
from enum import Enum
from struct import Struct

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageVersion, read_header
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.tlv import INFO_MAGIC, PROTECTED_INFO_MAGIC

_PAIR = Struct("<HH")


class BootType(Enum):
    """How the next boot goes."""

    NORMAL = "normal"
    TEST = "test"
    REVERT = "revert"


@dataclass(frozen=True, slots=True)
class NextBoot:
    """What the next boot runs."""

    type: BootType
    slot: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The image in a slot, as its header and TLVs say."""

    header: ImageHeader
    hash: bytes


@dataclass(frozen=True, slots=True)
class SlotView:
    """One entry of the image list."""

    image: int
    slot: int
    """Counted through all images."""
    size: int
    """Of the slot, in bytes."""
    version: ImageVersion
    hash: bytes
    """What the hash TLV says."""
    bootable: bool
    pending: bool
    confirmed: bool
    active: bool
    permanent: bool


def read_listed(area: Readable, base: int = 0, kind: HashKind = HashKind.SHA256) -> Listed | None:
    """Return the image in a slot, or None if it does not read as one.

    Lenient where Zephyr is: sizes that contradict each other do not matter as long as the one hash is found.

    Args:
        area: The slot.
        base: Where the image starts in it.
        kind: The boot loader's hash.
    """
    try:
        header = read_header(area, base)
        return Listed(header, _hash(area, base, header, kind)) if header.present else None
    except StoreError:
        return None


def _hash(area: Readable, base: int, header: ImageHeader, wanted: HashKind) -> bytes:
    offset = base + header.tlv_offset
    magic, total = _pair(area, offset)
    if magic == PROTECTED_INFO_MAGIC:
        offset += total
        magic, total = _pair(area, offset)
    if magic != INFO_MAGIC:
        raise StoreError(f"no TLV area at 0x{offset:x}")
    found: list[bytes] = []
    end, offset = offset + total, offset + _PAIR.size
    while offset + _PAIR.size <= end:
        kind, size = _pair(area, offset)
        offset += _PAIR.size
        if kind == wanted.tlv and size == wanted.size:
            if offset + size > end:
                raise StoreError(f"hash at 0x{offset:x} passes the TLV area's end")
            found.append(area.read(offset, size))
        offset += size
    if len(found) != 1:
        raise StoreError(f"{len(found)} hashes")
    return found[0]


def _pair(area: Readable, offset: int) -> tuple[int, int]:
    first, second = _PAIR.unpack(area.read(offset, _PAIR.size))
    return first, second


def next_boot(kind: SwapType, running: int, other: int) -> NextBoot:
    """Return what the trailers ask for, in the words of the image group (img_mgmt_get_next_boot_slot)."""
    match kind:
        case SwapType.TEST:
            return NextBoot(BootType.TEST, other)
        case SwapType.PERM:
            return NextBoot(BootType.NORMAL, other)
        case SwapType.REVERT:
            return NextBoot(BootType.REVERT, other)
        case _:
            return NextBoot(BootType.NORMAL, running)


def view(image: int, slot: int, size: int, listed: Listed, running: int | None, plan: NextBoot) -> SlotView:
    """Return a slot's entry of the image list."""
    active = slot == running
    planned = not active and slot == plan.slot
    return SlotView(
        image=image,
        slot=slot,
        size=size,
        version=listed.header.version,
        hash=listed.hash,
        bootable=listed.header.bootable,
        pending=planned and plan.type is not BootType.REVERT,
        confirmed=plan.type is not BootType.REVERT if active else planned and plan.type is BootType.REVERT,
        active=active,
        permanent=planned and plan.type is BootType.NORMAL,
    )

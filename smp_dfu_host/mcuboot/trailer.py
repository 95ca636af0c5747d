"""The trailer: what application and boot loader tell each other, at the very end of a slot.

    status | [key 1 | key 0] | swap_size | [tlv_sizes] | swap_info | copy_done | image_ok | magic (16)
    <------------------------------- trailer_size -------------------------------------------------->

One byte a status step, one write apart. The fields before the magic are one cell of `max_align` each, of which a flag
uses one byte and swap_size four. The fields in brackets exist with encryption and with swap-using-offset only.
Source: mcuboot boot/bootutil/src/bootutil_priv.h, bootutil_misc.c, bootutil_area.c and bootutil_public.c.
"""

from dataclasses import dataclass
from struct import Struct

from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType, TrailerState

__all__ = ["Field", "Trailer", "TrailerLayout", "TrailerRules", "TrailerState"]

MAGIC_SIZE = 16
_MAGIC_8 = bytes.fromhex("77c295f3 60d2ef7f 3552500f 2cb67980")
_OLD_ALIGN = 8
"""The one alignment that there was at first, and whose magic does not say it."""
_MAGIC_TAIL = bytes.fromhex("2de1 5d29410b 8d77679c 110f1f8a")
_SET = 0x01
_U32 = Struct("<I")


def align_up(value: int, align: int) -> int:
    """Return the lowest multiple of `align` that is not below `value`."""
    return -(-value // align) * align


def align_down(value: int, align: int) -> int:
    """Return the highest multiple of `align` that is not above `value`."""
    return value // align * align


@dataclass(frozen=True, slots=True)
class TrailerRules:
    """The build constants that decide where everything is."""

    max_align: int = 8
    """BOOT_MAX_ALIGN, in bytes."""
    max_sectors: int = 128
    """MCUBOOT_MAX_IMG_SECTORS."""
    states: int = 3
    """Status steps a sector: 3, for swap-using-offset 2, for single-slot modes 0."""
    tlv_sizes: bool = False
    """Whether there is the cell with the sizes of the TLV areas (swap-using-offset)."""
    key_size: int = 0
    """Bytes for one key of encryption, a multiple of `max_align`; 0 without encryption."""

    @property
    def magic(self) -> bytes:
        """The 16 bytes of a good magic."""
        if self.max_align == _OLD_ALIGN:
            return _MAGIC_8
        return self.max_align.to_bytes(2, "little") + _MAGIC_TAIL

    @property
    def info_size(self) -> int:
        """The trailer without its status, in bytes."""
        cells = 5 if self.tlv_sizes else 4
        return cells * self.max_align + align_up(MAGIC_SIZE, self.max_align) + 2 * self.key_size

    def trailer_size(self, write_size: int) -> int:
        """Return the bytes of a slot's trailer; `write_size` is the distance of status steps."""
        return self.max_sectors * self.states * write_size + self.info_size

    def scratch_trailer_size(self, write_size: int) -> int:
        """Return the bytes of the scratch area's trailer, which has the status of one sector alone."""
        return self.states * write_size + self.info_size

    def layout(self, size: int, write_size: int, *, scratch: bool = False) -> "TrailerLayout":
        """Return where the fields are in an area of `size` bytes.

        Args:
            size: The area's size.
            write_size: Its write alignment.
            scratch: Whether it is the scratch area.
        """
        magic = size - MAGIC_SIZE
        image_ok = align_down(magic - self.max_align, self.max_align)
        copy_done = image_ok - self.max_align
        swap_info = copy_done - self.max_align
        tlv_sizes = swap_info - self.max_align if self.tlv_sizes else None
        swap_size = (swap_info if tlv_sizes is None else tlv_sizes) - self.max_align
        keys = tuple(swap_size - (slot + 1) * self.key_size for slot in range(2)) if self.key_size else ()
        total = self.scratch_trailer_size(write_size) if scratch else self.trailer_size(write_size)
        return TrailerLayout(size, magic, image_ok, copy_done, swap_info, tlv_sizes, swap_size, keys, size - total)


@dataclass(frozen=True, slots=True)
class TrailerLayout:
    """Offset of each field in one area, in bytes from its start."""

    size: int
    """Of the area."""
    magic: int
    image_ok: int
    copy_done: int
    swap_info: int
    tlv_sizes: int | None
    swap_size: int
    keys: tuple[int, ...]
    """Of slot 0 and of slot 1; empty without encryption."""
    status: int
    """Where the trailer starts; negative if the area is smaller than its trailer."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a trailer, for pictures."""

    name: str
    offset: int
    size: int
    data: bytes
    written: bool
    """False: all erased."""


class Trailer:
    """Reads and writes the trailer of one area.

    Args:
        area: The slot, or the scratch area.
        rules: The build constants.
        scratch: Whether it is the scratch area.
    """

    __slots__ = ("area", "layout", "rules")

    def __init__(self, area: FlashArea, rules: TrailerRules, *, scratch: bool = False) -> None:
        self.area = area
        self.rules = rules
        self.layout = rules.layout(area.size, area.align, scratch=scratch)

    def state(self) -> TrailerState:
        """Read and decode the four fields that decide (bootutil_public.c, boot_read_swap_state)."""
        info = self._byte(self.layout.swap_info)
        swap_type, image = SwapType.NONE, 0
        if info != self.area.erased and info & 0xF <= SwapType.REVERT:
            swap_type, image = SwapType(info & 0xF or SwapType.NONE), info >> 4
        return TrailerState(
            self._magic(),
            swap_type,
            image,
            self._flag(self.layout.copy_done),
            self._flag(self.layout.image_ok),
        )

    def swap_info(self) -> tuple[int, int]:
        """Read type and image number as they stand; erased reads as NONE of image 0."""
        info = self._byte(self.layout.swap_info)
        return (SwapType.NONE, 0) if info == self.area.erased else (info & 0xF, info >> 4)

    def swap_size(self) -> int:
        """Read how many bytes are being swapped."""
        return int(_U32.unpack(self.area.read(self.layout.swap_size, _U32.size))[0])

    def tlv_sizes(self) -> tuple[int, int]:
        """Read the sizes of the unprotected TLV areas of primary and secondary (swap-using-offset)."""
        word = int(_U32.unpack(self.area.read(self._tlv_sizes_offset(), _U32.size))[0])
        return word & 0xFFFF, word >> 16

    def write_magic(self) -> None:
        """Write the magic, with the erased bytes that fill its cell."""
        cell = align_up(MAGIC_SIZE, self.rules.max_align)
        data = self.rules.magic.rjust(cell, bytes([self.area.erased]))
        self.area.write(align_down(self.layout.magic, self.rules.max_align), data)

    def write_image_ok(self) -> None:
        """Set image_ok."""
        self._write(self.layout.image_ok, bytes([_SET]))

    def write_copy_done(self) -> None:
        """Set copy_done."""
        self._write(self.layout.copy_done, bytes([_SET]))

    def write_swap_info(self, swap_type: int, image: int) -> None:
        """Write type and image number."""
        self._write(self.layout.swap_info, bytes([swap_type & 0xF | (image & 0xF) << 4]))

    def write_swap_size(self, size: int) -> None:
        """Write how many bytes are being swapped."""
        self._write(self.layout.swap_size, _U32.pack(size))

    def write_tlv_sizes(self, primary: int, secondary: int) -> None:
        """Write the sizes of the unprotected TLV areas (swap-using-offset)."""
        self._write(self._tlv_sizes_offset(), _U32.pack(primary & 0xFFFF | (secondary & 0xFFFF) << 16))

    def write_status(self, step: int, write_size: int, value: int) -> None:
        """Write the status byte of a step, counted from 0 (loader.c, boot_write_status)."""
        data = bytes([value]).ljust(self.area.align, bytes([self.area.erased]))
        self.area.write(self.layout.status + step * write_size, data)

    def load_status(self, first: int, write_size: int, values: bytes) -> None:
        """Put the status bytes of several steps there, as `write_status` would, without counting operations."""
        blank = bytearray([self.area.erased]) * (len(values) * write_size)
        blank[::write_size] = values
        self.area.load(self.layout.status + first * write_size, bytes(blank))

    def status(self, count: int, write_size: int) -> bytes:
        """Read the first bytes of `count` status steps."""
        return self.area.read(self.layout.status, count * write_size)[::write_size]

    def fields(self) -> tuple[Field, ...]:
        """Return all fields in the order in which they lie, for pictures."""
        at, cell = self.layout, self.rules.max_align
        spans = [("status", max(at.status, 0), min((*at.keys, at.swap_size)) - max(at.status, 0))]
        spans += [(f"key {slot}", offset, self.rules.key_size) for slot, offset in reversed([*enumerate(at.keys)])]
        spans.append(("swap_size", at.swap_size, cell))
        if at.tlv_sizes is not None:
            spans.append(("tlv_sizes", at.tlv_sizes, cell))
        spans += [("swap_info", at.swap_info, cell), ("copy_done", at.copy_done, cell), ("image_ok", at.image_ok, cell)]
        spans.append(("magic", at.magic, MAGIC_SIZE))
        return tuple(self._field(*span) for span in spans)

    def _field(self, name: str, offset: int, size: int) -> Field:
        data = self.area.read(offset, size)
        return Field(name, offset, size, data, data.count(self.area.erased) != size)

    def _tlv_sizes_offset(self) -> int:
        if self.layout.tlv_sizes is None:
            raise ValueError("this build's trailer has no sizes of TLV areas")
        return self.layout.tlv_sizes

    def _write(self, offset: int, data: bytes) -> None:
        size = align_up(len(data), self.area.align)
        self.area.write(offset, data.ljust(size, bytes([self.area.erased])))

    def _byte(self, offset: int) -> int:
        return self.area.read(offset, 1)[0]

    def _magic(self) -> Magic:
        data = self.area.read(self.layout.magic, MAGIC_SIZE)
        if data.count(self.area.erased) == MAGIC_SIZE:
            return Magic.UNSET
        return Magic.GOOD if data == self.rules.magic else Magic.BAD

    def _flag(self, offset: int) -> Flag:
        value = self._byte(offset)
        if value == self.area.erased:
            return Flag.UNSET
        return Flag.SET if value == _SET else Flag.BAD

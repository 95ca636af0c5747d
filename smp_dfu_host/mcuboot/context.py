"""What one boot knows and has said so far, and the flash work that all modes share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from smp_dfu_host.errors import SmpHostError
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid, ImageVersion, check_header
from smp_dfu_host.mcuboot.options import BootOptions, SlotPair
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.swap_keys import SwapKeys
from smp_dfu_host.mcuboot.swap_type import SwapType, decide
from smp_dfu_host.mcuboot.tlv import tlv_bounds
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.verify import ImageInfo, validate

COPY_SIZE = 1024
"""Bytes copied at a time (loader.c, BUF_SZ); each is one flash operation."""
RUN = 64 * COPY_SIZE
"""Bytes read at a time: more than most sectors, so that there is one read a sector."""
PRIMARY, SECONDARY = 0, 1
_SLOT = re.compile(r"\bslot ([01])\b")
_NO_HEADER = ImageHeader(0, 0, 0, 0, 0, 0, ImageVersion(0, 0, 0))


class BootStopped(SmpHostError):  # noqa: N818  (reads as what it says)
    """The real boot loader would hang or crash here, at this boot and at all that follow."""


class Phase(Enum):
    """The two halves of a swap using move; other modes have but the first."""

    MOVE = auto()
    SWAP = auto()


class Source(Enum):
    """Which trailer tells of an interrupted swap."""

    NONE = auto()
    PRIMARY = auto()
    SCRATCH = auto()


@dataclass(slots=True)
class BootStatus:
    """How far a swap has got (bootutil_priv.h, struct boot_status)."""

    phase: Phase = Phase.MOVE
    index: int = 1
    """The sector or unit under way, counted from 1."""
    state: int = 1
    """The step within it, counted from 1; also the byte written when the step is done."""
    source: Source = Source.NONE
    swap_type: int = SwapType.NONE
    """As it stands in flash, sense or nonsense."""
    swap_size: int = 0
    """Bytes of the larger image."""
    use_scratch: bool = False
    """Whether the status goes to the scratch area for now (swap-using-scratch)."""
    tlv_sizes: tuple[int, int] = (0, 0)
    """Bytes of the unprotected TLV areas of both images (swap-using-offset)."""

    @property
    def fresh(self) -> bool:
        """Whether no step was done yet."""
        return self.phase is Phase.MOVE and self.index == 1 and self.state == 1


@dataclass(slots=True)
class ImageState:
    """One image pair during a boot."""

    index: int
    pair: SlotPair
    headers: list[ImageHeader] = field(default_factory=lambda: [_NO_HEADER, _NO_HEADER])
    """As last read, per slot."""
    swap_type: SwapType = SwapType.NONE
    active: int | None = None
    """The slot that runs; for modes that pick one."""
    base: int = 0
    """Where the image of the secondary slot starts (swap-using-offset); otherwise 0."""
    keys: SwapKeys | None = None
    """The keys of its images; None: the boot loader does not decrypt."""
    base_known: bool = False
    """Whether `base` was set by a header that was found."""

    def slot(self, number: int) -> FlashArea:
        """Return slot 0 or 1."""
        return self.pair.slot(number)

    def base_of(self, slot: int) -> int:
        """Return where the image of a slot starts in it."""
        return self.base if slot == SECONDARY else 0


class BootContext:
    """One boot: the build, the images, what was said.

    Args:
        options: The build.
        pairs: The slots of each image.
        scratch: The scratch area, if the mode has one.
        counters: The stored security counters, one an image; changed in place.
    """

    __slots__ = ("_checked", "_rules", "_trailers", "actions", "counters", "images", "options", "proofs", "scratch")

    def __init__(
        self, options: BootOptions, pairs: Sequence[SlotPair], scratch: FlashArea | None, counters: list[int]
    ) -> None:
        self.options = options
        self.images = [ImageState(index, pair, keys=self._keys(options)) for index, pair in enumerate(pairs)]
        self.scratch = scratch
        self.counters = counters
        self.actions: list[str] = []
        self.proofs = Proofs()
        self._rules = options.rules
        self._trailers: dict[FlashArea, Trailer] = {}
        self._checked: dict[FlashArea, tuple[object, ImageInfo | ImageInvalid]] = {}

    @staticmethod
    def _keys(options: BootOptions) -> SwapKeys | None:
        return SwapKeys(options.decryption, save_tlv=options.save_tlv) if options.decryption else None

    def say(self, image: ImageState, text: str) -> None:
        """Note what was done, or why, in plain words, with slots counted through all images."""
        numbered = _SLOT.sub(lambda found: f"slot {2 * image.index + int(found[1])}", text)
        self.actions.append(f"image {image.index}: {numbered}" if len(self.images) > 1 else numbered)

    def trailer(self, area: FlashArea) -> Trailer:
        """Return the trailer of an area."""
        if (known := self._trailers.get(area)) is None:
            known = self._trailers[area] = Trailer(area, self._rules, scratch=area is self.scratch)
        return known

    def write_size(self, image: ImageState) -> int:
        """Return the distance of status steps: the larger write alignment of primary and scratch."""
        align = image.pair.primary.align
        return max(align, self.scratch.align) if self.scratch else align

    def swap_type(self, image: ImageState) -> SwapType:
        """Return what the trailers ask for (boot_swap_type_multi)."""
        primary, secondary = (self.trailer(image.slot(slot)).state() for slot in (PRIMARY, SECONDARY))
        return decide(primary, secondary, self.options.table)

    def header_erased(self, image: ImageState, slot: int) -> bool:
        """Tell whether the four bytes of the magic are erased (boot_check_header_erased)."""
        return image.headers[slot].magic == int.from_bytes(bytes([image.slot(slot).erased]) * 4, "little")

    def check_image(self, image: ImageState, slot: int, limit: int) -> ImageInfo:
        """Check header, size, hash and signature of an image whose header was read.

        What was found is kept until the slot changes, and what was computed for longer: no image is hashed twice.

        Raises:
            ImageInvalid: With the reason in words.
        """
        area, header, base = image.slot(slot), image.headers[slot], image.base_of(slot)
        asked = (area.generation, header, base, limit)
        known = self._checked.get(area)
        if known is None or known[0] != asked:
            known = self._checked[area] = asked, self._check(image, slot, limit)
        if isinstance(known[1], ImageInvalid):
            raise known[1]
        return known[1]

    def _check(self, image: ImageState, slot: int, limit: int) -> ImageInfo | ImageInvalid:
        area, header, base = image.slot(slot), image.headers[slot], image.base_of(slot)
        counter = self.counters[image.index] if self.options.rollback else None
        try:
            check_header(header, area.size, encryption=image.keys is not None)
            encrypted = image.keys is not None and self.encrypts(slot)
            source = image.keys.view(slot, area, header, base) if image.keys and encrypted else area
            return validate(
                source, header, self.options.policy, base=base, limit=limit, counter=counter, proofs=self.proofs
            )
        except ImageInvalid as exc:
            return exc

    def encrypts(self, slot: int) -> bool:
        """Tell whether payloads are encrypted in a slot: in slot 0 only if nothing runs from there."""
        return slot == SECONDARY or self.options.mode.loads

    def image_size(self, image: ImageState, slot: int) -> int:
        """Return the bytes of a slot's image up to its last TLV; 0 if it has no image.

        Raises:
            BootStopped: If there is a header but no TLV area: MCUboot asserts.
        """
        header = image.headers[slot]
        if not header.present:
            return 0
        try:
            return tlv_bounds(image.slot(slot), header, image.base_of(slot)).end
        except ImageInvalid as exc:
            raise BootStopped(f"the size of the image in slot {slot} cannot be told: {exc}") from exc

    def trailer_sectors_offset(self, image: ImageState, area: FlashArea) -> int:
        """Return where the first sector starts that holds a byte of the trailer."""
        size = self._rules.trailer_size(max(self.write_size(image), area.align))
        return area.sector_offset(area.sector_at(area.size - size))

    def erase_trailer(self, image: ImageState, area: FlashArea) -> None:
        """Erase the sectors of a slot's trailer, the last one first (swap_scramble_trailer_sectors)."""
        offset = self.trailer_sectors_offset(image, area)
        area.erase_sectors(offset, area.size - offset, backwards=True)

    def erase_slot(self, area: FlashArea) -> None:
        """Erase a whole slot (boot_scramble_slot)."""
        area.erase_sectors(0, area.size)

    def replace(
        self,
        image: ImageState,
        source: FlashArea,
        target: FlashArea,
        start: int,
        to: int,
        size: int,
        shift: int = 0,
    ) -> None:
        """Erase the sectors at `to` and copy bytes there; the arguments are those of `copy`."""
        target.erase_sectors(to, size)
        self.copy(image, source, target, start, to, size, shift)

    def copy(
        self,
        image: ImageState,
        source: FlashArea,
        target: FlashArea,
        start: int,
        to: int,
        size: int,
        shift: int = 0,
    ) -> None:
        """Copy bytes onto erased ones (boot_copy_region).

        Args:
            image: Whose bytes they are.
            source: Where they are read.
            target: Where they are written.
            start: Offset of the first byte in the source.
            to: Offset of the first byte in the target.
            size: How many.
            shift: How much further than in its image's own place the first byte is written.
        """
        for offset in range(0, size, RUN):
            data = source.read(start + offset, min(RUN, size - offset))
            target.write_pieces(to + offset, self._crypt(image, source, target, data, to + offset - shift), COPY_SIZE)

    def _crypt(self, image: ImageState, source: FlashArea, target: FlashArea, data: bytes, offset: int) -> bytes:
        """Decrypt what comes to slot 0, encrypt what leaves it.

        Raises:
            BootStopped: If there is no key for it: MCUboot asserts.
        """
        primary = image.pair.primary
        if image.keys is None or (source is primary) == (target is primary):
            return data
        slot = PRIMARY if source is primary else SECONDARY
        try:
            return image.keys.crypt(slot, data, offset, image.headers[slot])
        except ImageInvalid as exc:
            raise BootStopped(f"the swap cannot go on: {exc}") from exc

"""What lies where in a slot, from the flash alone: the segments of a picture that is true to scale.

    0                                                                size
    | header | image | TLVs | erased / old data ... | swap status | trailer |

The header says how long the image is; everything behind its TLVs is told apart sector by sector into erased flash and
what an earlier image or an interrupted swap left. Without a header the whole slot is told apart so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import FlashArea, Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid, read_header
from smp_dfu_host.mcuboot.swap_type import Magic, TrailerState
from smp_dfu_host.mcuboot.tlv import tlv_bounds
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.verify import Examination, examine
from smp_dfu_host.store.fitness import image_start
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import Listed, SlotView, read_listed
from smp_dfu_host.store.slots import SlotStore


class Part(Enum):
    """What a stretch of a slot is; the value is its name in JSON."""

    HEADER = "header"
    IMAGE = "image"
    TLVS = "tlvs"
    FREE = "free"
    """Erased."""
    DATA = "data"
    """Written, but belongs to no image that the header knows of."""
    STATUS = "status"
    """One byte a step of a swap."""
    TRAILER = "trailer"
    """Swap size, swap info, copy done, image ok, magic."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a slot."""

    part: Part
    offset: int
    """From the start of the slot, in bytes."""
    size: int
    """In bytes, more than 0."""

    @property
    def end(self) -> int:
        """Where the next segment starts."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class SlotSurvey:
    """All that there is to say about a slot."""

    image: int
    slot: int
    """Counted through all images."""
    size: int
    """In bytes."""
    address: int
    """Of the first byte, in flash."""
    segments: tuple[Segment, ...]
    found: Examination
    """What the boot loader would say about an image in it."""
    view: SlotView | None
    """What clients are told; None if the slot does not read as an image."""
    trailer: TrailerState
    steps: int
    """Steps of a swap that are noted as done."""


def survey_slots(store: SlotStore) -> tuple[SlotSurvey, ...]:
    """Look at all slots of a store.

    Raises:
        StoreError: If they cannot be read.
    """
    views = {each.slot: each for each in store.slots()}
    with store.reading() as areas:
        loader = store.bootloader(areas)
        return tuple(_survey_slot(store, loader, slot, views.get(slot)) for slot in store.layout.slots)


@dataclass(frozen=True, slots=True)
class ScratchSurvey:
    """All that there is to say about the scratch area."""

    size: int
    """In bytes."""
    address: int
    """Of the first byte, in flash."""
    segments: tuple[Segment, ...]
    trailer: TrailerState


def survey_scratch(store: SlotStore) -> ScratchSurvey | None:
    """Look at the scratch area; None: the mode has none.

    Raises:
        StoreError: If it cannot be read.
    """
    with store.reading() as areas:
        if (area := areas.scratch) is None:
            return None
        trailer = store.bootloader(areas).scratch_trailer()
        state, (status, fields) = trailer.state(), _tail(trailer, swaps=True)
        if state.magic is not Magic.GOOD:  # most of the time, bytes of images lie where a trailer would be
            segments = tuple(_merged(_sectors(area, 0, area.size, Part.DATA)))
            return ScratchSurvey(area.size, area.address, segments, state)
        tail = (Segment(Part.STATUS, status, fields - status), Segment(Part.TRAILER, fields, area.size - fields))
        segments = tuple(_merged([*_sectors(area, 0, status, Part.DATA), *tail]))
        return ScratchSurvey(area.size, area.address, segments, state)


def present_images(store: SlotStore) -> tuple[Listed | None, ...]:
    """Return the image of each slot, also where an image list does not look; nothing is verified.

    Raises:
        StoreError: If the slots cannot be read.
    """
    kind = store.options.policy.digest
    with store.reading() as areas:
        bases = [image_start(area, store.image_base(slot)) for slot, area in enumerate(areas)]
        return tuple(read_listed(area, base, kind) for area, base in zip(areas, bases, strict=True))


def _survey_slot(store: SlotStore, loader: Bootloader, slot: int, view: SlotView | None) -> SlotSurvey:
    image, number = divmod(slot, SLOTS_OF_IMAGE)
    trailer, swaps = loader.trailer(image, number), store.options.mode.swaps
    base = image_start(trailer.area, store.image_base(slot))
    return SlotSurvey(
        image=image,
        slot=slot,
        size=trailer.area.size,
        address=trailer.area.address,
        segments=slot_segments(trailer, swaps=swaps, base=base),
        found=_examine(store, loader, slot, base),
        view=view,
        trailer=trailer.state(),
        steps=_steps(trailer) if swaps else 0,
    )


def _examine(store: SlotStore, loader: Bootloader, slot: int, base: int) -> Examination:
    """Say about a slot's image what a boot would say, which decrypts it if need be."""
    image, number = divmod(slot, SLOTS_OF_IMAGE)
    area = loader.trailer(image, number).area
    header = read_header(area, base) if area.size >= ImageHeader.SIZE else None
    if header is None or not header.present:
        return examine(area, store.options.policy, base=base)
    try:
        info = loader.check_image(image, number, base)
    except ImageInvalid as exc:
        return Examination(header, None, None, str(exc))
    bootable = "" if header.bootable else "it is flagged as not bootable"
    return Examination(header, info.tlvs, info if header.bootable else None, bootable)


def _tail(trailer: Trailer, *, swaps: bool) -> tuple[int, int]:
    """Return where status and fields start; what swaps nothing has no status, and its images may go further."""
    at = trailer.layout
    return (max(at.status, 0), at.swap_size) if swaps else (at.swap_info, at.swap_info)


def _steps(trailer: Trailer) -> int:
    area = trailer.area
    count = trailer.rules.max_sectors * trailer.rules.states
    return sum(value != area.erased for value in trailer.status(count, area.align))


def slot_segments(trailer: Trailer, *, swaps: bool, base: int = 0) -> tuple[Segment, ...]:
    """Return everything that lies in the slot of a trailer.

    Args:
        trailer: Of the slot.
        swaps: Whether the mode keeps a swap status.
        base: Where the image starts.

    Raises:
        StoreError: If the slot cannot be read.
    """
    return survey(trailer.area, *_tail(trailer, swaps=swaps), base)


def image_segments(source: Readable, limit: int, base: int = 0) -> tuple[Segment, ...]:
    """Return header, image and TLVs of a slot or a file; nothing if there is no image.

    Args:
        source: What holds the image.
        limit: Where it must end, in bytes; what lies beyond is cut off. TLVs that cannot be read are left out.
        base: Where it starts.
    """
    try:
        header = read_header(source, base)
    except ImageInvalid:
        return ()
    if not header.present or not ImageHeader.SIZE <= header.hdr_size < limit - base:
        return ()
    try:
        end = tlv_bounds(source, header, base).end
    except ImageInvalid:
        end = header.tlv_offset
    starts = (0, header.hdr_size, header.tlv_offset)
    ends = (header.hdr_size, header.tlv_offset, end)
    parts = (Part.HEADER, Part.IMAGE, Part.TLVS)
    found = (
        Segment(part, base + start, min(base + stop, limit) - base - start)
        for part, start, stop in zip(parts, starts, ends, strict=True)
    )
    return tuple(segment for segment in found if segment.size > 0)


def survey(area: FlashArea, status: int, trailer: int, base: int = 0) -> tuple[Segment, ...]:
    """Return everything that lies in a slot, in order and without gaps.

    Args:
        area: The slot.
        status: Where the swap status starts; `trailer` in a mode that keeps none.
        trailer: Where the trailer's fields start.
        base: Where the image starts.

    Raises:
        StoreError: If the slot cannot be read.
    """
    image = image_segments(area, trailer, base)
    end = image[-1].end if image else 0
    before = tuple(_sectors(area, 0, base, Part.DATA)) if image else ()
    status = max(status, end)  # a direct-xip image may lie where a swap would write its status
    tail = (Segment(Part.STATUS, status, trailer - status), Segment(Part.TRAILER, trailer, area.size - trailer))
    if image and image[-1].part is Part.IMAGE:  # no TLVs: not all of it is there
        body = image[-1]
        image = (image[0], *_sectors(area, body.offset, body.end, Part.IMAGE))
    return tuple(_merged([*before, *image, *_sectors(area, end, status, Part.DATA), *tail]))


def _sectors(area: FlashArea, start: int, end: int, written: Part) -> Iterator[Segment]:
    while start < end:
        stop = min(area.sector_offset(area.sector_at(start) + 1), end)
        part = Part.FREE if area.is_erased(start, stop - start) else written
        yield Segment(part, start, stop - start)
        start = stop


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    last: Segment | None = None
    for segment in segments:
        if last and last.part is segment.part:
            last = Segment(last.part, last.offset, last.size + segment.size)
            continue
        if last:
            yield last
        last = segment if segment.size else None
    if last:
        yield last

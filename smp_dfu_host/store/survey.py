"""What lies where in a slot, from the flash alone: the segments of a picture that is true to scale.

    0                                                                size
    | header | image | TLVs | erased / old data ... | swap status | trailer |

The header says how long the image is; everything behind its TLVs is told apart sector by sector into erased flash and
what an earlier image or an interrupted swap left. Without a header the whole slot is told apart so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from smp_dfu_host.mcuboot.flash import FlashArea, Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid, read_header
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType, TrailerState
from smp_dfu_host.mcuboot.tlv import tlv_bounds
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.mcuboot.verify import Examination, examine
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import SlotView
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
    limit = store.max_image_size()
    with store.reading() as areas:
        loader = store.bootloader(areas)
        trailers = [loader.trailer(*divmod(slot, SLOTS_OF_IMAGE)) for slot in store.layout.slots]
        return tuple(
            SlotSurvey(
                image=slot // SLOTS_OF_IMAGE,
                slot=slot,
                size=trailer.area.size,
                address=trailer.area.address,
                segments=slot_segments(trailer, swaps=store.options.mode.swaps),
                found=examine(trailer.area, store.options.policy, limit=limit),
                view=views.get(slot),
                trailer=trailer.state(),
                steps=_steps(trailer) if store.options.mode.swaps else 0,
            )
            for slot, trailer in enumerate(trailers)
        )


def swapping(primary: SlotSurvey, secondary: SlotSurvey) -> bool:
    """Tell whether a swap of these two was interrupted and the next boot goes on with it.

    That is so from the erase of the secondary trailer to the writing of copy_done (mcuboot
    boot/bootutil/src/swap_move.c, boot_status_source; mcuboot-slots.md section 8).
    """
    mine = primary.trailer
    begun = primary.steps > 0 or mine.swap_type is not SwapType.NONE
    open_ended = mine.magic is Magic.GOOD and mine.copy_done is Flag.UNSET
    return open_ended and begun and secondary.trailer.magic is not Magic.GOOD


def _tail(trailer: Trailer, *, swaps: bool) -> tuple[int, int]:
    """Return where status and fields start; what swaps nothing has no status, and its images may go further."""
    at = trailer.layout
    return (max(at.status, 0), at.swap_size) if swaps else (at.swap_info, at.swap_info)


def _steps(trailer: Trailer) -> int:
    area, at = trailer.area, trailer.layout
    count = trailer.rules.max_sectors * trailer.rules.states
    return sum(value != area.erased for value in trailer.status(count, area.align)) if at.status >= 0 else 0


def slot_segments(trailer: Trailer, *, swaps: bool) -> tuple[Segment, ...]:
    """Return everything that lies in the slot of a trailer; `swaps`: whether the mode keeps a swap status.

    Raises:
        StoreError: If the slot cannot be read.
    """
    return survey(trailer.area, *_tail(trailer, swaps=swaps))


def image_segments(source: Readable, limit: int) -> tuple[Segment, ...]:
    """Return header, image and TLVs at the start of a slot or a file; nothing if there is no image.

    Args:
        source: What holds the image.
        limit: Where it must end, in bytes; what lies beyond is cut off. TLVs that cannot be read are left out.
    """
    try:
        header = read_header(source)
    except ImageInvalid:
        return ()
    if not header.present or not ImageHeader.SIZE <= header.hdr_size < limit:
        return ()
    try:
        end = tlv_bounds(source, header).end
    except ImageInvalid:
        end = header.tlv_offset
    starts = (0, header.hdr_size, header.tlv_offset)
    ends = (header.hdr_size, header.tlv_offset, end)
    parts = (Part.HEADER, Part.IMAGE, Part.TLVS)
    found = (
        Segment(part, start, min(stop, limit) - start) for part, start, stop in zip(parts, starts, ends, strict=True)
    )
    return tuple(segment for segment in found if segment.size > 0)


def survey(area: FlashArea, status: int, trailer: int) -> tuple[Segment, ...]:
    """Return everything that lies in a slot, in order and without gaps.

    Args:
        area: The slot.
        status: Where the swap status starts; `trailer` in a mode that keeps none.
        trailer: Where the trailer's fields start.

    Raises:
        StoreError: If the slot cannot be read.
    """
    image = image_segments(area, trailer)
    end = image[-1].end if image else 0
    status = max(status, end)  # a direct-xip image may lie where a swap would write its status
    tail = (Segment(Part.STATUS, status, trailer - status), Segment(Part.TRAILER, trailer, area.size - trailer))
    if image and image[-1].part is Part.IMAGE:  # no TLVs: not all of it is there
        body = image[-1]
        image = (image[0], *_sectors(area, body.offset, body.end, Part.IMAGE))
    return tuple(_merged([*image, *_sectors(area, end, status, Part.DATA), *tail]))


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

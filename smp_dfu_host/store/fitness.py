"""Whether the boot loader would run an image that was just put into a slot, once it is asked to: validation on arrival.

    header ─► room, TLVs ─► hash, signature, counter ─► flags, address, downgrade, dependencies that can never be met

Nothing is refused here that the boot loader would accept. So what may yet change is left to it: whether the images that
this one depends on are there, since they can be uploaded after it, and in modes that pick a slot the version.
Sources: mcuboot boot/bootutil/src/loader.c, boot_validate_slot, check_downgrade_prevention,
boot_verify_slot_dependency; ram_load.c.
"""

from collections.abc import Callable

from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.context import BootContext, ImageState
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import (
    IMAGE_MAGIC,
    ImageFlag,
    ImageHeader,
    ImageInvalid,
    ImageVersion,
    check_header,
    check_loadable,
    read_header,
)
from smp_dfu_host.mcuboot.options import BootOptions, Downgrade, Mode, SlotPair
from smp_dfu_host.mcuboot.proofs import Proofs
from smp_dfu_host.mcuboot.ram_load import ram_place
from smp_dfu_host.mcuboot.rollback import downgrade, lower_version
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.tlv import TlvArea, TlvType, read_tlvs, tlv_bounds
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas

_DEPENDENCY_SIZE = 12


class Fitness:
    """The checks of one slot.

    Args:
        options: The boot loader's build.
        areas: All slots.
        slot: The one that the image is in, counted through all images.
        counters: The stored security counters.
        proofs: What was computed of the image before; None: nothing.
    """

    def __init__(
        self, options: BootOptions, areas: Areas, slot: int, counters: tuple[int, ...], proofs: Proofs | None = None
    ) -> None:
        self._options = options
        self._areas = areas
        self._image, self._slot = divmod(slot, SLOTS_OF_IMAGE)
        self._area = areas[slot]
        self._base = image_start(self._area, image_base(options, slot, self._area.sectors))
        self._counters = counters
        self._proofs = proofs

    def check_header(self, header: ImageHeader) -> None:
        """Refuse a header that no image with it would run.

        Raises:
            SlotRefusal: With the reason.
        """
        limit = self.limit
        if header.hashed_size > limit:
            reason = f"image of {header.hashed_size} bytes and more, the boot loader takes {limit}"
            raise SlotRefusal(Fault.TOO_LARGE, reason)
        try:
            if self._changes:
                check_header(header, self._area.size, encryption=self._options.decryption is not None)
            else:
                check_loadable(header, self._area.size)
        except ImageInvalid as exc:
            raise SlotRefusal(Fault.BAD_HEADER, str(exc)) from exc
        if not header.bootable:
            raise SlotRefusal(Fault.BAD_HEADER, "the image is flagged as not bootable")
        self._check_address(header)
        self._check_version(header)

    def check(self) -> None:
        """Refuse an image that would not run.

        Raises:
            SlotRefusal: With the reason.
            StoreError: If the slot cannot be read.
        """
        try:
            header = read_header(self._area, self._base)
            if not header.present:
                why = f"header magic is 0x{header.magic:08x}, not 0x{IMAGE_MAGIC:08x}; was it signed with imgtool?"
                raise SlotRefusal(Fault.BAD_HEADER, why)
            self._check_place()
            self.check_header(header)
            if self._trusted:
                return
            tlvs = self._read_tlvs(header)
            self._check_load(header)
            self._loader.check_image(self._image, self._slot, self._base, self._proofs)
        except ImageInvalid as exc:
            raise SlotRefusal(Fault.INVALID_IMAGE, str(exc)) from exc
        self._check_counter(header)
        if len(self._areas) > SLOTS_OF_IMAGE:
            self._check_dependencies(header, tlvs)

    @property
    def limit(self) -> int:
        """The most bytes that an image in this slot may have."""
        if self._options.mode.picks_slot:
            return self._loader.trailer(self._image, self._slot).layout.swap_info
        return self._loader.max_image_size(self._image)

    @property
    def _changes(self) -> bool:
        """Whether the mode changes or picks slots; the others look at less of a header."""
        return self._options.mode.updates or self._options.mode.picks_slot

    @property
    def _trusted(self) -> bool:
        """Whether the boot loader runs what is in this slot unseen."""
        return self._slot == 0 and not self._options.validate_primary and not self._options.mode.picks_slot

    @property
    def _loader(self) -> Bootloader:
        return make_bootloader(self._options, self._areas, list(self._counters) or None)

    def _check_place(self) -> None:
        """Refuse a marked update in the first sector of slot 1, which swap-using-offset wants free."""
        if self._options.mode is not Mode.SWAP_USING_OFFSET or self._slot == 0:
            return
        asked = self._loader.swap_type(self._image)
        if asked in (SwapType.TEST, SwapType.PERM) and read_header(self._area).present:
            raise SlotRefusal(Fault.BAD_HEADER, "it lies in the first sector, an update belongs into the second")

    def _read_tlvs(self, header: ImageHeader) -> TlvArea:
        try:
            end = tlv_bounds(self._area, header, self._base).end
        except ImageInvalid as exc:
            raise SlotRefusal(Fault.NO_TLVS, str(exc)) from exc
        if end > (limit := self.limit):
            raise SlotRefusal(Fault.TOO_LARGE, f"image of {end} bytes, the boot loader takes {limit}")
        try:
            return read_tlvs(self._area, header, self._base)
        except ImageInvalid as exc:
            raise SlotRefusal(Fault.INVALID_TLV, str(exc)) from exc

    def _check_address(self, header: ImageHeader) -> None:
        mode, address = self._options.mode, self._area.address
        if mode.loads and not header.flags & ImageFlag.RAM_LOAD:
            raise SlotRefusal(Fault.BAD_HEADER, "its image is not made to be loaded to RAM")
        fixed = mode.picks_slot and not mode.loads and bool(header.flags & ImageFlag.ROM_FIXED)
        if fixed and header.load_addr != address:
            reason = f"image for flash address 0x{header.load_addr:x}, the slot is at 0x{address:x}"
            raise SlotRefusal(Fault.BAD_ADDRESS, reason)

    def _check_load(self, header: ImageHeader) -> None:
        if not self._options.mode.loads:
            return
        try:
            ram_place(self._area, header, self._options.ram)
        except ImageInvalid as exc:
            raise SlotRefusal(Fault.BAD_ADDRESS, str(exc)) from exc

    def _check_version(self, header: ImageHeader) -> None:
        kind = self._options.downgrade
        if kind is Downgrade.BY_VERSION or (kind is Downgrade.BY_COUNTER and self._options.mode is Mode.OVERWRITE_ONLY):
            self._compare(header, lower_version)

    def _check_counter(self, header: ImageHeader) -> None:
        if self._options.downgrade is Downgrade.BY_COUNTER and self._options.mode.swaps:
            self._compare(header, downgrade)

    def _compare(self, header: ImageHeader, lower: Callable[[BootContext, ImageState], str]) -> None:
        """Compare the image with the one that it would replace, if that one is there.

        A build with bootstrap that swaps lets any image replace one that is not valid.
        """
        options = self._options
        running = read_header(self._areas[self._image * SLOTS_OF_IMAGE])
        if self._slot == 0 or not running.present or (options.bootstrap and options.mode.swaps):
            return
        pairs = [SlotPair(*pair) for pair in zip(self._areas[0::2], self._areas[1::2], strict=True)]
        context = BootContext(options, pairs, self._areas.scratch, list(self._counters))
        image = context.images[self._image]
        image.base = self._base
        image.headers[:] = [running, header]
        if reason := lower(context, image):
            raise SlotRefusal(Fault.NOT_NEWER, reason)

    def _check_dependencies(self, header: ImageHeader, tlvs: TlvArea) -> None:
        for entry in tlvs.find(TlvType.DEPENDENCY):
            if not entry.protected:
                continue
            images = len(self._areas) // SLOTS_OF_IMAGE
            if len(entry.data) != _DEPENDENCY_SIZE:
                raise SlotRefusal(Fault.INVALID_TLV, f"dependency of {len(entry.data)} bytes, not {_DEPENDENCY_SIZE}")
            if (number := entry.data[0]) >= images:
                raise SlotRefusal(Fault.INVALID_TLV, f"it wants an image {number}, there are {images}")
            wanted = ImageVersion(*ImageVersion.STRUCT.unpack(entry.data[4:]))
            if number == self._image and header.version.compare(wanted, build=self._options.compare_build) < 0:
                raise SlotRefusal(Fault.INVALID_TLV, f"it wants itself in version {wanted} or later")


def image_start(area: FlashArea, upload: int) -> int:
    """Return where the image of a slot starts: where swap-using-offset wants uploads, or where it swaps out to.

    Args:
        area: The slot.
        upload: Where the image of an upload starts in it.
    """
    try:
        swapped_out = upload and not read_header(area, upload).present and read_header(area).present
    except ImageInvalid:
        return 0
    return 0 if swapped_out else upload


def image_base(options: BootOptions, slot: int, sectors: tuple[int, ...]) -> int:
    """Return where an uploaded image starts in a slot: with swap-using-offset, one sector into slot 1."""
    return sectors[0] if options.mode is Mode.SWAP_USING_OFFSET and slot % SLOTS_OF_IMAGE else 0

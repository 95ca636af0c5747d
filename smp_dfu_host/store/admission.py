"""Whether an upload request may be served, and how: the checks before anything is written, in Zephyr's order.

Source: zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src/zephyr_img_mgmt.c, img_mgmt_upload_inspect. Different on purpose:
lengths that cannot come out right are refused at once, and with `[image] validate_upload` so is a header that the boot
loader refuses.
"""

from typing import NamedTuple

from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageFlag, ImageHeader
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.slots import SlotStore

SHA_SIZE = 32
"""Most bytes of the `sha` that clients name an upload by; shorter ones are taken as they are."""


class Chunk(NamedTuple):
    """An upload request; None: not given."""

    off: int | None
    data: bytes = b""
    size: int | None = None
    """`len`: of the whole upload, in bytes; wanted at offset 0."""
    sha: bytes = b""
    """SHA-256 of the whole upload, or the beginning of it."""
    image: int = 0
    """Which image it is of; not looked at if there is one."""
    upgrade: bool = False
    """Refuse what is not higher than the running version."""


class Step(NamedTuple):
    """What is to be done with a chunk."""

    proceed: bool
    """False: nothing is written; `off` is where the client has to go on."""
    off: int
    slot: int = 0
    size: int = 0
    """Of the whole upload, in bytes."""
    sha: bytes = b""

    @property
    def image(self) -> int:
        """Which image the slot is of."""
        return self.slot // SLOTS_OF_IMAGE

    @property
    def first(self) -> bool:
        """Whether a new session begins with it."""
        return self.proceed and not self.off


class Admission:
    """The checks of a first chunk.

    Args:
        store: Where it is to go.
        validate: Whether to refuse what the boot loader would refuse later.
        check_address: Whether to refuse an image that is built for another slot.
        direct: Whether `image` names a slot; there is one image then.
    """

    def __init__(self, store: SlotStore, *, validate: bool, check_address: bool = True, direct: bool = False) -> None:
        self._store = store
        self._validate = validate
        self._checks_address = check_address
        self._direct = direct

    def check(self, chunk: Chunk) -> None:
        """Check what can be seen from the request alone.

        Raises:
            SlotRefusal: If it cannot begin an upload.
        """
        if len(chunk.data) < ImageHeader.SIZE:
            raise SlotRefusal(
                Fault.SHORT_HEADER, f"first chunk of {len(chunk.data)} bytes, a header has {ImageHeader.SIZE}"
            )
        if chunk.size is None:
            raise SlotRefusal(Fault.NO_LENGTH, "first chunk without len")
        if ImageHeader.parse(chunk.data).magic != IMAGE_MAGIC:
            raise SlotRefusal(Fault.BAD_MAGIC, f"first chunk begins with {chunk.data[:4].hex()}, not an image's magic")
        if len(chunk.sha) > SHA_SIZE:
            raise SlotRefusal(Fault.INVALID_HASH, f"sha of {len(chunk.sha)} bytes, limit is {SHA_SIZE}")

    def place(self, chunk: Chunk) -> Step:
        """Find a slot for a new upload that passed `check`.

        Raises:
            SlotRefusal: If no slot is free, or the image does not fit it.
        """
        layout = self._store.layout
        slot = self._slot(chunk.image)
        size, limit = chunk.size or 0, layout.size(slot) - self._store.image_base(slot)
        if size > limit:
            raise SlotRefusal(Fault.TOO_LARGE, f"{size} bytes, slot {slot} has {limit}")
        header = ImageHeader.parse(chunk.data)
        self._check_address(header, slot)
        if chunk.upgrade:
            self._check_newer(header, slot)
        if len(chunk.data) > size:  # behind Zephyr's checks, which do not have it
            raise SlotRefusal(Fault.OVERRUN, f"first chunk of {len(chunk.data)} bytes, len is {size}")
        if self._validate:
            self._check_bootable(header, slot, size)
        return Step(proceed=True, off=0, slot=slot, size=size, sha=chunk.sha)

    def _slot(self, image: int) -> int:
        """Return the slot that `image` leads to; in a device with one image it is not looked at, or a slot and one."""
        if self._store.layout.images > 1:
            return self._store.upload_slot(image)
        slot = self._store.upload_slot()
        if self._direct and image not in (0, slot + 1):
            raise SlotRefusal(Fault.NO_SLOT, f"image {image}: slot {slot} takes an upload, by 0 or {slot + 1}")
        return slot

    def _check_address(self, header: ImageHeader, slot: int) -> None:
        mode, address = self._store.options.mode, self._store.layout.slot_address(slot)
        fixed = bool(header.flags & ImageFlag.ROM_FIXED) and mode.picks_slot and not mode.loads
        if self._checks_address and fixed and header.load_addr != address:
            reason = f"image for flash address 0x{header.load_addr:x}, slot {slot} is at 0x{address:x}"
            raise SlotRefusal(Fault.BAD_ADDRESS, reason)

    def _check_newer(self, header: ImageHeader, slot: int) -> None:
        """Compare with the running version of the same image; Zephyr always takes that of the application itself."""
        running = self._store.running_slot(slot // SLOTS_OF_IMAGE)
        listed = None if running is None else self._store.listed(running)
        if listed is None:
            raise SlotRefusal(Fault.VERSION_UNKNOWN, "the running image cannot be read")
        if header.version.compare(listed.header.version, build=self._store.options.compare_build) <= 0:
            reason = f"version {header.version} is not higher than {listed.header.version}, which runs"
            raise SlotRefusal(Fault.NOT_NEWER, reason)

    def _check_bootable(self, header: ImageHeader, slot: int, size: int) -> None:
        with self._store.reading() as areas:
            self._store.fitness(areas, slot).check_header(header)
            area = areas[slot]
        base = self._store.image_base(slot)
        last = area.sector_at(base + size - 1)
        erased = area.sector_offset(last) + area.sectors[last] - base
        # What lies behind the upload is erased up to here, and no TLV area begins with an erased byte.
        if any(size <= offset < erased for offset in (header.hashed_size, header.hashed_size + 1)):
            reason = f"upload of {size} bytes, the header says {header.hashed_size} and a TLV area"
            raise SlotRefusal(Fault.NO_TLVS, reason)

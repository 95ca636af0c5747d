"""What a boot loader is built with, what it works on, and what it says when it is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from smp_dfu_host.mcuboot.encryption import DecryptionKey
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.mcuboot.swap_type import OFFSET_TABLE, TABLE, Row, SwapType
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.mcuboot.trailer import TrailerRules, align_up
from smp_dfu_host.mcuboot.verify import HashKind, PublicKey, VerifyPolicy


class Mode(Enum):
    """How an update gets to run."""

    SINGLE_SLOT = "single-slot"
    SWAP_USING_SCRATCH = "swap-using-scratch"
    OVERWRITE_ONLY = "overwrite-only"
    SWAP_USING_MOVE = "swap-using-move"
    DIRECT_XIP = "direct-xip"
    DIRECT_XIP_WITH_REVERT = "direct-xip-with-revert"
    RAM_LOAD = "ram-load"
    RAM_LOAD_WITH_REVERT = "ram-load-with-revert"
    FIRMWARE_LOADER = "firmware-loader"
    SINGLE_SLOT_RAM_LOAD = "single-slot-ram-load"
    SWAP_USING_OFFSET = "swap-using-offset"

    @property
    def number(self) -> int:
        """What the boot loader info command reports (mcuboot boot/bootutil/include/bootutil/boot_status.h)."""
        return _NUMBERS[self]

    @property
    def picks_slot(self) -> bool:
        """Whether the higher version runs, from the slot that it is in or from RAM, and nothing is swapped."""
        return self in (Mode.DIRECT_XIP, Mode.DIRECT_XIP_WITH_REVERT, Mode.RAM_LOAD, Mode.RAM_LOAD_WITH_REVERT)

    @property
    def loads(self) -> bool:
        """Whether the image is copied to RAM and runs there."""
        return self in (Mode.RAM_LOAD, Mode.RAM_LOAD_WITH_REVERT, Mode.SINGLE_SLOT_RAM_LOAD)

    @property
    def in_place(self) -> bool:
        """Whether an image runs in the slot that it was put into, and so has to be linked for that one."""
        return not (self.updates or self.loads)

    @property
    def forgets(self) -> bool:
        """Whether a picked image that is not confirmed before the next boot is erased."""
        return self in (Mode.DIRECT_XIP_WITH_REVERT, Mode.RAM_LOAD_WITH_REVERT)

    @property
    def updates(self) -> bool:
        """Whether the boot loader changes what is in slot 0."""
        return self.swaps or self is Mode.OVERWRITE_ONLY

    @property
    def swaps(self) -> bool:
        """Whether the images of the two slots change places."""
        return self in (Mode.SWAP_USING_SCRATCH, Mode.SWAP_USING_MOVE, Mode.SWAP_USING_OFFSET)


_NUMBERS = {
    Mode.SINGLE_SLOT: 0,
    Mode.SWAP_USING_SCRATCH: 1,
    Mode.OVERWRITE_ONLY: 2,
    Mode.SWAP_USING_MOVE: 3,
    Mode.DIRECT_XIP: 4,
    Mode.DIRECT_XIP_WITH_REVERT: 5,
    Mode.RAM_LOAD: 6,
    Mode.RAM_LOAD_WITH_REVERT: 6,
    Mode.FIRMWARE_LOADER: 7,
    Mode.SINGLE_SLOT_RAM_LOAD: 8,
    Mode.SWAP_USING_OFFSET: 9,
}
_STATES = {
    Mode.SWAP_USING_OFFSET: 2,
    Mode.SINGLE_SLOT: 0,
    Mode.FIRMWARE_LOADER: 0,
    Mode.SINGLE_SLOT_RAM_LOAD: 0,
}
"""Status steps a sector where they are not 3 (mcuboot boot/bootutil/src/bootutil_priv.h)."""


class Downgrade(Enum):
    """What keeps older images out (MCUBOOT_DOWNGRADE_PREVENTION)."""

    ALLOWED = "allowed"
    BY_VERSION = "by-version"
    BY_COUNTER = "by-counter"
    """Security counters are compared, versions are not (swap modes; others compare versions all the same)."""


@dataclass(frozen=True, slots=True)
class RamRegion:
    """Where images may be loaded to."""

    start: int
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class BootOptions:
    """The build: MCUboot's options that this model knows."""

    mode: Mode = Mode.SWAP_USING_MOVE
    max_align: int = 8
    """BOOT_MAX_ALIGN: 8, 16 or 32 bytes."""
    max_sectors: int = 128
    """MCUBOOT_MAX_IMG_SECTORS."""
    keys: tuple[PublicKey, ...] = ()
    """All of one kind; empty: the hash alone decides."""
    hash: HashKind | None = None
    """MCUBOOT_SHA512 and the like; None: what goes with the keys."""
    pure: bool = False
    """MCUBOOT_SIGN_PURE: Ed25519 over the image itself."""
    allow_list: bool = False
    """MCUBOOT_USE_TLV_ALLOW_LIST."""
    validate_primary: bool = True
    """MCUBOOT_VALIDATE_PRIMARY_SLOT; without it the magic of the image in slot 0 is enough."""
    compare_build: bool = False
    """MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER."""
    overwrite_fast: bool = True
    """MCUBOOT_OVERWRITE_ONLY_FAST: only as many sectors as the image takes are copied."""
    validate_once: bool = False
    """MCUBOOT_VALIDATE_PRIMARY_SLOT_ONCE; single-slot mode alone."""
    bootstrap: bool = False
    """MCUBOOT_BOOTSTRAP: a slot 0 without a valid image is filled from slot 1."""
    downgrade: Downgrade = Downgrade.ALLOWED
    rollback: bool = False
    """MCUBOOT_HW_ROLLBACK_PROT: every image needs a security counter that is not below the stored one."""
    decryption: DecryptionKey | None = None
    """Opens encrypted images (MCUBOOT_ENC_IMAGES); None: they are refused."""
    save_tlv: bool = False
    """MCUBOOT_SWAP_SAVE_ENCTLV: trailers hold wrapped keys, not plain ones."""
    loader_asked_for: bool = False
    """Firmware-loader mode: whether a pin or the boot mode asks for the loader in slot 1."""
    ram: RamRegion | None = None
    """IMAGE_EXECUTABLE_RAM_START and _SIZE; for the modes that load to RAM."""

    @property
    def rules(self) -> TrailerRules:
        """The trailer that this build makes."""
        offset = self.mode is Mode.SWAP_USING_OFFSET
        return TrailerRules(self.max_align, self.max_sectors, _STATES.get(self.mode, 3), offset, self._key_size)

    @property
    def _key_size(self) -> int:
        if self.decryption is None:
            return 0
        return align_up(self.decryption.tlv_size if self.save_tlv else self.decryption.aes_size, self.max_align)

    @property
    def policy(self) -> VerifyPolicy:
        """What this build wants of an image."""
        sha512 = self.decryption is not None and self.decryption.tlv is TlvType.ENC_X25519_SHA512
        return VerifyPolicy(self.keys, self.hash, self.allow_list, self.pure, sha512)

    @property
    def table(self) -> tuple[Row, ...]:
        """The table of swap types of this build."""
        return OFFSET_TABLE if self.mode is Mode.SWAP_USING_OFFSET else TABLE


@dataclass(frozen=True, slots=True)
class SlotPair:
    """The two slots of one image."""

    primary: FlashArea
    secondary: FlashArea

    def slot(self, number: int) -> FlashArea:
        """Return slot 0 or 1."""
        return (self.primary, self.secondary)[number]


@dataclass(frozen=True, slots=True)
class BootResult:
    """What a boot did."""

    ok: bool
    """Whether there is an image to run."""
    stopped: str | None
    """Why the real boot loader would hang or crash here; None: it does not."""
    pre_swap_type: tuple[SwapType, ...]
    """Per image, what the trailers asked for."""
    swap_type_done: tuple[SwapType, ...]
    """Per image, what was done in the end; empty in modes that swap nothing."""
    active_slots: tuple[int | None, ...]
    """Per image, the slot that runs; None: none."""
    image_off: int | None
    """Flash address of the image to run; None if there is none."""
    header: ImageHeader | None
    """Of the image to run."""
    nv: tuple[int, ...]
    """The stored security counters."""
    ops: int
    """Flash writes and erases."""
    actions: tuple[str, ...]
    """What was done and why, in plain words."""

    @property
    def running(self) -> tuple[int | None, ...]:
        """Per image, the slot that runs, counted through all images: image i has slots 2i and 2i+1."""
        return tuple(None if slot is None else 2 * image + slot for image, slot in enumerate(self.active_slots))


def slots_of(pairs: Sequence[SlotPair]) -> list[FlashArea]:
    """Return all slots, image by image."""
    return [area for pair in pairs for area in (pair.primary, pair.secondary)]

"""What the store refuses, by name; the image group has MCUmgr's number for each."""

from enum import Enum, auto

from smp_dfu_host.errors import StoreError


class Fault(Enum):
    """Why something is refused (zephyr include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h has the like)."""

    NOT_SUPPORTED = auto()
    """The boot loader's mode has no such thing."""
    HASH_NOT_FOUND = auto()
    INVALID_HASH = auto()
    """A hash of a length that no image can have, or a test without one."""
    ROLLED_BACK = auto()
    """The image was tried and swapped out again since it was uploaded."""
    ALREADY_PENDING = auto()
    TEST_OF_RUNNING = auto()
    IN_USE = auto()
    """The slot runs, or is what a revert goes back to."""
    INVALID_SLOT = auto()
    NO_AREA = auto()
    """There is no flash behind a slot of that number."""
    NO_OFFSET = auto()
    NO_LENGTH = auto()
    SHORT_HEADER = auto()
    BAD_MAGIC = auto()
    BAD_ADDRESS = auto()
    """The image wants to lie at another flash address."""
    VERSION_UNKNOWN = auto()
    """The running image cannot be read."""
    NOT_NEWER = auto()
    TOO_LARGE = auto()
    OVERRUN = auto()
    BAD_HEADER = auto()
    """The boot loader would refuse it: flags, a size that cannot be."""
    NO_TLVS = auto()
    """The same: the header does not lead to a TLV area."""
    INVALID_TLV = auto()
    """The same: a TLV is broken, or asks for what cannot be."""
    INVALID_IMAGE = auto()
    """The same: hash, signature, security counter."""
    NO_SLOT = auto()
    """The mode, or the number of images, leaves no slot for it."""
    OTHER_IMAGE = auto()
    """An image other than the first one may not be confirmed so."""


class SlotRefusal(StoreError):  # noqa: N818  (reads as what it says)
    """A request that the slots' state, or the image, does not allow."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault
        """Which rule it is."""

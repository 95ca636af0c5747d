"""The image group's codes, and what of the store's becomes which of them."""

import logging
from collections.abc import Mapping
from enum import IntEnum

from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal, StoreError
from smp_dfu_host.mcuboot.request import SetNextError
from smp_dfu_host.store.faults import Fault, SlotRefusal

log = logging.getLogger(__name__)

GROUP = 1


class ImgRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h)."""

    UNKNOWN = 1
    FLASH_CONFIG_QUERY_FAIL = 2
    NO_IMAGE = 3
    NO_TLVS = 4
    INVALID_TLV = 5
    TLV_MULTIPLE_HASHES_FOUND = 6
    TLV_INVALID_SIZE = 7
    HASH_NOT_FOUND = 8
    NO_FREE_SLOT = 9
    FLASH_OPEN_FAILED = 10
    FLASH_READ_FAILED = 11
    FLASH_WRITE_FAILED = 12
    FLASH_ERASE_FAILED = 13
    INVALID_SLOT = 14
    NO_FREE_MEMORY = 15
    INVALID_PAGE_OFFSET = 19
    INVALID_OFFSET = 20
    INVALID_LENGTH = 21
    INVALID_IMAGE_HEADER = 22
    INVALID_IMAGE_HEADER_MAGIC = 23
    INVALID_HASH = 24
    INVALID_FLASH_ADDRESS = 25
    VERSION_GET_FAILED = 26
    CURRENT_VERSION_IS_NEWER = 27
    IMAGE_ALREADY_PENDING = 28
    INVALID_IMAGE_VECTOR_TABLE = 29
    INVALID_IMAGE_TOO_LARGE = 30
    INVALID_IMAGE_DATA_OVERRUN = 31
    IMAGE_CONFIRMATION_DENIED = 32
    IMAGE_SETTING_TEST_TO_ACTIVE_DENIED = 33


_CODES = {
    Fault.HASH_NOT_FOUND: ImgRc.HASH_NOT_FOUND,
    Fault.ROLLED_BACK: ImgRc.HASH_NOT_FOUND,  # what clients understand: the image is not there to be confirmed
    Fault.INVALID_HASH: ImgRc.INVALID_HASH,
    Fault.ALREADY_PENDING: ImgRc.IMAGE_ALREADY_PENDING,
    Fault.TEST_OF_RUNNING: ImgRc.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED,
    Fault.IN_USE: ImgRc.NO_FREE_SLOT,
    Fault.INVALID_SLOT: ImgRc.INVALID_SLOT,
    Fault.NO_AREA: ImgRc.FLASH_OPEN_FAILED,
    Fault.NO_OFFSET: ImgRc.INVALID_OFFSET,
    Fault.NO_LENGTH: ImgRc.INVALID_LENGTH,
    Fault.SHORT_HEADER: ImgRc.INVALID_IMAGE_HEADER,
    Fault.BAD_MAGIC: ImgRc.INVALID_IMAGE_HEADER_MAGIC,
    Fault.BAD_ADDRESS: ImgRc.INVALID_FLASH_ADDRESS,
    Fault.VERSION_UNKNOWN: ImgRc.VERSION_GET_FAILED,
    Fault.NOT_NEWER: ImgRc.CURRENT_VERSION_IS_NEWER,
    Fault.TOO_LARGE: ImgRc.INVALID_IMAGE_TOO_LARGE,
    Fault.OVERRUN: ImgRc.INVALID_IMAGE_DATA_OVERRUN,
    Fault.BAD_HEADER: ImgRc.INVALID_IMAGE_HEADER,
    Fault.NO_TLVS: ImgRc.NO_TLVS,
    Fault.INVALID_TLV: ImgRc.INVALID_TLV,
    Fault.INVALID_IMAGE: ImgRc.INVALID_HASH,  # hash and signature: there is none for signatures alone
    Fault.NO_SLOT: ImgRc.NO_FREE_SLOT,
    Fault.OTHER_IMAGE: ImgRc.IMAGE_CONFIRMATION_DENIED,
}
_TRAILER_CODES = {3: ImgRc.INVALID_IMAGE_HEADER_MAGIC, 4: ImgRc.INVALID_IMAGE_VECTOR_TABLE}
"""By the boot utility's code: BOOT_EBADIMAGE, BOOT_EBADVECT (img_mgmt_state.c, img_mgmt_set_next_boot_slot_common)."""
_RSN = {
    ImgRc.INVALID_OFFSET: "header malformed",
    ImgRc.INVALID_LENGTH: "header malformed",
    ImgRc.INVALID_IMAGE_HEADER: "header malformed",
    ImgRc.INVALID_IMAGE_HEADER_MAGIC: "magic mismatch",
    ImgRc.NO_FREE_SLOT: "no slot",
    ImgRc.FLASH_WRITE_FAILED: "fa write fail",
    ImgRc.FLASH_ERASE_FAILED: "fa erase fail",
    ImgRc.INVALID_FLASH_ADDRESS: "img addr mismatch",
    ImgRc.CURRENT_VERSION_IS_NEWER: "downgrade",
    ImgRc.INVALID_IMAGE_TOO_LARGE: "img too large",
    ImgRc.INVALID_IMAGE_DATA_OVERRUN: "data overrun",
}
"""Reasons that version 0 tells beside the `rc` of an upload (CONFIG_MCUMGR_GRP_IMG_VERBOSE_ERR)."""
V0_RC: Mapping[int, Rc] = {
    ImgRc.NO_IMAGE: Rc.ENOENT,
    ImgRc.NO_TLVS: Rc.ENOENT,
    ImgRc.NO_FREE_SLOT: Rc.EBADSTATE,
    ImgRc.CURRENT_VERSION_IS_NEWER: Rc.EBADSTATE,
    ImgRc.IMAGE_ALREADY_PENDING: Rc.EBADSTATE,
    ImgRc.NO_FREE_MEMORY: Rc.ENOMEM,
    ImgRc.INVALID_SLOT: Rc.EINVAL,
    ImgRc.INVALID_PAGE_OFFSET: Rc.EINVAL,
    ImgRc.INVALID_OFFSET: Rc.EINVAL,
    ImgRc.INVALID_LENGTH: Rc.EINVAL,
    ImgRc.INVALID_IMAGE_HEADER: Rc.EINVAL,
    ImgRc.INVALID_HASH: Rc.EINVAL,
    ImgRc.INVALID_FLASH_ADDRESS: Rc.EINVAL,
}
"""What version 0 makes of the codes; one that is missing becomes `EUNKNOWN`."""


class StoreRefused(GroupError):  # noqa: N818  (reads as what it says)
    """A refusal of the store's, told apart from one of a hook's."""


class refusals:  # noqa: N801  (used like contextlib.suppress)
    """Turns the store's refusals into the group's codes: the one table of them. One may be used again and again.

    Args:
        otherwise: The code of what is no refusal but a fault: of the disk, or of a file in the store.
        verbose: Whether version 0 gets the reason in words.

    Raises:
        MgmtError: For what the boot loader's mode does not have.
        GroupError: For everything else.
    """

    __slots__ = ("_otherwise", "_verbose")

    def __init__(self, otherwise: ImgRc, *, verbose: bool = False) -> None:
        self._otherwise = otherwise
        self._verbose = verbose

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, exc: BaseException | None, _where: object) -> None:
        if isinstance(exc, StoreError):
            raise self._answer(exc) from exc

    def _answer(self, exc: StoreError) -> Refusal:
        if isinstance(exc, SetNextError):
            return StoreRefused(GROUP, _TRAILER_CODES[exc.rc], str(exc))
        if not isinstance(exc, SlotRefusal):
            log.error("%s", exc)  # the disk's fault, in one line
            return self._refused(self._otherwise, exc)
        if exc.fault is Fault.NOT_SUPPORTED:
            return MgmtError(Rc.ENOTSUP, str(exc))
        return self._refused(_CODES[exc.fault], exc)

    def _refused(self, code: ImgRc, exc: StoreError) -> StoreRefused:
        return StoreRefused(GROUP, code, str(exc), _RSN.get(code) if self._verbose else None)

"""The codes of the file system group, and which of them a file that cannot be used gets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum

from smp_dfu_host.errors import GroupError, Rc
from smp_dfu_host.store.mount import MountError, MountFault

GROUP = 8


class FsRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/fs_mgmt/fs_mgmt.h)."""

    UNKNOWN = 1
    FILE_INVALID_NAME = 2
    FILE_NOT_FOUND = 3
    FILE_IS_DIRECTORY = 4
    FILE_OPEN_FAILED = 5
    FILE_SEEK_FAILED = 6
    FILE_READ_FAILED = 7
    FILE_TRUNCATE_FAILED = 8
    FILE_DELETE_FAILED = 9
    FILE_WRITE_FAILED = 10
    FILE_OFFSET_NOT_VALID = 11
    FILE_OFFSET_LARGER_THAN_FILE = 12
    CHECKSUM_HASH_NOT_FOUND = 13
    MOUNT_POINT_NOT_FOUND = 14
    READ_ONLY_FILESYSTEM = 15
    FILE_EMPTY = 16
    FILE_CLOSE_FAILED = 17


V0_RC: Mapping[int, Rc] = {
    FsRc.FILE_INVALID_NAME: Rc.EINVAL,
    FsRc.CHECKSUM_HASH_NOT_FOUND: Rc.EINVAL,
    FsRc.FILE_NOT_FOUND: Rc.ENOENT,
    FsRc.MOUNT_POINT_NOT_FOUND: Rc.ENOENT,
}
"""Version 0's translations; all others become `EUNKNOWN`."""

READING: Mapping[MountFault, FsRc] = {
    MountFault.NAME: FsRc.FILE_INVALID_NAME,
    MountFault.ABSENT: FsRc.FILE_NOT_FOUND,
    MountFault.DIRECTORY: FsRc.FILE_IS_DIRECTORY,
}
"""Codes where a file is looked up or opened to be read; `UNKNOWN` for what is missing."""

WRITING: Mapping[MountFault, FsRc] = {
    MountFault.NAME: FsRc.FILE_INVALID_NAME,
    MountFault.ABSENT: FsRc.MOUNT_POINT_NOT_FOUND,
    MountFault.READ_ONLY: FsRc.READ_ONLY_FILESYSTEM,
}
"""The same where it is opened to be written."""


@contextmanager
def refusals(codes: Mapping[MountFault, FsRc], failed: FsRc = FsRc.UNKNOWN) -> Iterator[None]:
    """Answer a file that cannot be used.

    Args:
        codes: By what is wrong.
        failed: For everything else.
    """
    try:
        yield
    except MountError as exc:
        raise GroupError(GROUP, codes.get(exc.fault, failed), str(exc)) from exc

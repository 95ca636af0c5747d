"""Checksums and hashes of files, as the file system group knows them.

After zephyr subsys/mgmt/mcumgr/grp/fs_mgmt/src/fs_mgmt_hash_checksum_crc32.c and fs_mgmt_hash_checksum_sha256.c.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from smp_dfu_host.store.mount import MountedFile

DEFAULT_TYPE = "crc32"
TYPE_LIMIT = 8
"""Bytes of a type's name (HASH_CHECKSUM_TYPE_SIZE)."""
_READ_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of checksum or hash."""

    work: Callable[[Iterable[bytes]], int | bytes]
    """Works it out."""
    format: int
    """Of the result: 0 a number, 1 bytes."""
    size: int
    """Of the result, in bytes."""


def crc32(data: Iterable[bytes]) -> int:
    """Return the CRC-32 of IEEE 802.3."""
    value = 0
    for chunk in data:
        value = zlib.crc32(chunk, value)
    return value


def sha256(data: Iterable[bytes]) -> bytes:
    """Return the SHA-256."""
    value = hashlib.sha256()
    for chunk in data:
        value.update(chunk)
    return value.digest()


TYPES: Mapping[str, Kind] = {"crc32": Kind(crc32, 0, 4), "sha256": Kind(sha256, 1, 32)}
"""The kinds by type, in the order in which they are listed."""


def chunks(file: MountedFile, offset: int, size: int) -> Iterator[bytes]:
    """Yield that part of a file, piece by piece; it ends early if the file does.

    Raises:
        MountError: If it cannot be read.
    """
    end = offset + size
    while chunk := file.read(offset, min(end - offset, _READ_SIZE)):
        yield chunk
        offset += len(chunk)

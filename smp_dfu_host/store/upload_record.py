"""The upload session's file: one record of fixed size, and in it two numbers that change.

    magic (8) | boot id (16) | counter (8) | inode (8) | slot, size (4 each)
    | sha size (2) | sha (32) | owner size (2) | owner (200) | CRC-32 of all this (4)
    | off, its complement (4 each) | durable, its complement (4 each)

Little-endian. One `pwrite` of `off` is what a chunk costs beside its data; `durable` is written by another thread. The
file exists as long as the session does: whoever removes it ends the session, in every process. It lies in one disk
sector; the CRC and the complements tell a torn one.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import ClassVar
from uuid import UUID
from zlib import crc32

from smp_dfu_host.store.files import read_file

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another text after every start of the host."""
_MAGIC = b"SMPDFU\x00\x02"
_OWNER_SIZE = 200
_STRUCT = Struct(f"<8s16sQQIIH32sH{_OWNER_SIZE}s")
_CRC = Struct("<I")
_NUMBER = Struct("<II")
_ONES = 0xFFFFFFFF
_OFF_AT = _STRUCT.size + _CRC.size
_DURABLE_AT = _OFF_AT + _NUMBER.size


def boot_id() -> bytes:
    """Return what is the same until the host starts again, 16 bytes."""
    return UUID(BOOT_ID.read_text().strip()).bytes


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """What must outlive the process."""

    SIZE: ClassVar[int] = _DURABLE_AT + _NUMBER.size

    boot: bytes
    """The host's start in which it was written."""
    counter: int
    """The DFU lock's when the session was opened; another one now means that somebody else was at it."""
    inode: int
    """Of the slot's file; another one now means that the slot was replaced."""
    slot: int
    size: int
    """Of the whole upload, in bytes."""
    off: int
    """How much of it is written."""
    durable: int
    """How much of it is synced: that much survives a power cut of the host."""
    sha: bytes
    """As the client gave it, up to 32 bytes; empty: it gave none, and cannot resume."""
    owner: bytes
    """Whose it is, `Peer.owner`, cut to 200 bytes."""

    def pack(self) -> bytes:
        """Return the file's contents."""
        body = _STRUCT.pack(
            _MAGIC,
            self.boot,
            self.counter,
            self.inode,
            self.slot,
            self.size,
            len(self.sha),
            self.sha,
            len(self.owner),
            self.owner,
        )
        return body + _CRC.pack(crc32(body)) + _number(self.off) + _number(self.durable)

    @classmethod
    def unpack(cls, data: bytes) -> "UploadRecord | None":
        """Return the record in a file's contents, or None if there is no whole one."""
        body, crc = data[: _STRUCT.size], data[_STRUCT.size : _OFF_AT]
        if len(data) < cls.SIZE or not data.startswith(_MAGIC) or crc != _CRC.pack(crc32(body)):
            return None
        (off, other), (durable, another) = (_NUMBER.unpack_from(data, at) for at in (_OFF_AT, _DURABLE_AT))
        if off != other ^ _ONES or durable != another ^ _ONES:
            return None
        _, boot, counter, inode, slot, size, sha_size, sha, owner_size, owner = _STRUCT.unpack(body)
        return cls(boot, counter, inode, slot, size, off, durable, sha[:sha_size], owner[:owner_size])

    @classmethod
    def read(cls, path: Path) -> "UploadRecord | None":
        """Return the record in a file, or None if there is none.

        Raises:
            StoreError: If the file is there and cannot be read.
        """
        data = read_file(path)
        return None if data is None else cls.unpack(data)

    def owned_by(self, owner: str) -> bool:
        """Tell whether the session is that owner's."""
        return self.owner == owner_bytes(owner)

    def write(self, descriptor: int) -> None:
        """Put it into the open file."""
        os.pwrite(descriptor, self.pack(), 0)


def write_off(descriptor: int, off: int) -> None:
    """Put how much is written into the open file."""
    os.pwrite(descriptor, _number(off), _OFF_AT)


def write_durable(descriptor: int, durable: int) -> None:
    """Put how much is synced into the open file."""
    os.pwrite(descriptor, _number(durable), _DURABLE_AT)


def _number(number: int) -> bytes:
    return _NUMBER.pack(number, number ^ _ONES)


def owner_bytes(owner: str) -> bytes:
    """Return an owner as the record has it."""
    return owner.encode(errors="surrogateescape")[:_OWNER_SIZE]

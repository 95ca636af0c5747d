"""The 8-byte SMP header.

     byte  0                     1      2..3    4..5   6         7
          [reserved|version|op]  flags  length  group  sequence  command
           3 bits   2 bits  3 bits

Multi-byte fields are big-endian; `length` counts the CBOR payload only, in bytes. Version 0 is what clients call SMP
version 1, version 1 is their version 2 (zephyr doc/services/device_mgmt/smp_protocol.rst).
"""

from enum import IntEnum
from struct import Struct
from struct import error as StructError  # noqa: N812  (its name says nothing by itself)
from typing import ClassVar, NamedTuple

from smp_dfu_host.errors import WireError

NEWEST_VERSION = 1
"""The highest version that we speak."""


_STRUCT = Struct(">BBHHBB")


class Op(IntEnum):
    """What a message is; 4 to 7 are unused."""

    READ = 0
    READ_RSP = 1
    WRITE = 2
    WRITE_RSP = 3


_READ, _READ_RSP, _WRITE_RSP = int(Op.READ), int(Op.READ_RSP), int(Op.WRITE_RSP)
"""Plain numbers, for what is done with every message: to get at an enumeration's takes five times as long."""


class _Fields(NamedTuple):
    # A tuple, as one is made for every message, and a frozen dataclass takes three times as long.

    op: int
    """0..7, see `Op`."""
    version: int
    """0..3."""
    flags: int
    """Not looked at; 0 in replies."""
    length: int
    """Of the payload, in bytes, as the sender says."""
    group: int
    """0..65535."""
    sequence: int
    """0..255; echoed."""
    command: int
    """0..255."""


class Header(_Fields):
    """The header of one message; the reserved bits are not looked at."""

    __slots__ = ()
    SIZE: ClassVar[int] = _STRUCT.size

    @classmethod
    def parse(cls, data: bytes | bytearray, offset: int = 0) -> "Header":
        """Read the header that begins at the offset.

        Raises:
            WireError: If fewer than eight bytes are there.
        """
        try:
            first, flags, length, group, sequence, command = _STRUCT.unpack_from(data, offset)
        except StructError as exc:
            raise WireError(f"header of {max(0, len(data) - offset)} bytes, must be {cls.SIZE}") from exc
        return tuple.__new__(cls, (first & 7, first >> 3 & 3, flags, length, group, sequence, command))

    def pack(self) -> bytes:
        """Return the eight bytes."""
        op, version, *others = self
        return _STRUCT.pack(version << 3 | op, *others)

    def reply(self, length: int) -> "Header":
        """Return the header of the reply with a payload of so many bytes (zephyr smp.c, smp_make_rsp_hdr)."""
        op, version, _, _, group, sequence, command = self
        op = _READ_RSP if op == _READ else _WRITE_RSP
        return tuple.__new__(Header, (op, min(version, NEWEST_VERSION), 0, length, group, sequence, command))

    def __str__(self) -> str:
        return f"op {self.op} v{self.version} {self.group}/{self.command} seq {self.sequence}, {self.length} bytes"


assert Header.SIZE == 8  # noqa: S101  (the protocol's number)

"""What btmon has recorded: a btsnoop file of its monitor format (bluez doc/btsnoop.txt, src/shared/btsnoop.c).

    file     "btsnoop\\0"  version u32  format u32, then records
    record   size u32  size kept u32  controller u16  opcode u16  drops u32  time u64 (us), then the packet

Multi-byte fields of these headers are big-endian, those of the packets little-endian.
"""

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND, EVENT, ACL_SENT, ACL_RECEIVED = 2, 3, 4, 5
"""Opcodes of records (bluez src/shared/btsnoop.h)."""
MONITOR = 2001
CONTINUED = 0x10
"""Packet boundary flag of what continues an earlier piece (Core Specification, vol 4 part E 5.4.2)."""
CONFIG = "/run/ble-vm/ctl/config"
"""Says how btmon is called in the virtual machine."""

_FILE = struct.Struct(">8sII")
_RECORD = struct.Struct(">IIHHIQ")


@dataclass(frozen=True)
class Packet:
    """One packet between a host and its controller."""

    time_s: float
    controller: int
    kind: int
    """COMMAND and so on."""
    data: bytes

    @property
    def code(self) -> int:
        """The opcode of a command; the code of an event, with the subevent's behind an LE meta event's."""
        if self.kind == COMMAND:
            return int(struct.unpack_from("<H", self.data)[0])
        return 0x3E00 | self.data[2] if self.data[0] == 0x3E else self.data[0]

    @property
    def body(self) -> bytes:
        """What follows the header of a command or an event (and the subevent)."""
        if self.kind == COMMAND:
            return self.data[3:]
        return self.data[3:] if self.data[0] == 0x3E else self.data[2:]


def read(path: Path) -> list[Packet]:
    """Return the packets of a record that may still be growing."""
    return list(_packets(path.read_bytes()))


def _packets(data: bytes) -> Iterator[Packet]:
    magic, _, form = _FILE.unpack_from(data)
    assert (magic, form) == (b"btsnoop\0", MONITOR)
    offset = _FILE.size
    while offset + _RECORD.size <= len(data):
        _, size, controller, opcode, _, time_us = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if opcode in (COMMAND, EVENT, ACL_SENT, ACL_RECEIVED) and offset + size <= len(data):
            yield Packet(time_us / 1e6, controller, opcode, data[offset : offset + size])
        offset += size


def commands(packets: list[Packet], controller: int, *codes: int) -> list[Packet]:
    """Return the commands of those opcodes that a controller got."""
    return [each for each in packets if (each.controller, each.kind) == (controller, COMMAND) and each.code in codes]


def events(packets: list[Packet], controller: int, *codes: int) -> list[Packet]:
    """Return the events of those codes that a controller gave."""
    return [each for each in packets if (each.controller, each.kind) == (controller, EVENT) and each.code in codes]


def att(packets: list[Packet], controller: int, kind: int) -> list[Packet]:
    """Return the ATT packets that a host sent or received, without their headers; of long ones the first piece."""
    return [
        Packet(each.time_s, controller, kind, each.data[8:])
        for each in packets
        if (each.controller, each.kind) == (controller, kind)
        and each.data[6:8] == b"\x04\x00"
        and each.data[1] & 0x30 != CONTINUED
    ]


@asynccontextmanager
async def recorded(path: Path) -> AsyncIterator[Path]:
    """Record all controllers of the virtual machine meanwhile; at real-time priority, so that it is never behind."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f". {CONFIG}; exec chrt -f 5 $BTMON -w {path}", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            while not path.exists() or path.stat().st_size <= _FILE.size:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield path
    finally:
        os.kill(process.pid, signal.SIGTERM)
        await process.wait()

"""D-Bus messages as bytes: cut out of the stream, and the writes of centrals taken apart without dbus-next.

    message      0 'l' | type | flags | 1    4 size of body    8 serial    12 size of fields    16 fields | to 8 | body
    WriteValue   size | value | to 4 | size | to 8 | options       (`aya{sv}`; sizes are uint32, `to` pads to so many)

dbus-next 0.2.3 takes a hundred times as long for such a message, nearly all of that for names that never change: path,
member, sender, the central, its MTU. So a WriteValue that dbus-next has taken apart is recognized from then on: one
whose bytes differ from it in serial, sizes and value alone says the same about the rest.
"""

import struct
from collections.abc import Callable, Mapping

from dbus_next.constants import MessageFlag, MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

Written = Callable[[bytes, Mapping[str, Variant]], None]
"""Takes a value and WriteValue's options, which must stay as they are."""

HEADER = struct.Struct("<4xIII")
"""Size of the body, serial, size of the fields; of a little-endian message."""
BIG_HEADER = struct.Struct(">4xIII")
SIZE = struct.Struct("<I")
LITTLE, BIG = ord("l"), ord("B")
LONGEST = 1 << 27
"""Bytes of a message (D-Bus Specification, Message Format)."""
REMEMBERED = 64
"""How many kinds of options are remembered; a central has up to eight at one MTU, one for each size modulo 8."""


class Frames:
    """Cuts messages out of what was received."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next whole message; None if there is none yet.

        Raises:
            ValueError: If it is none.
        """
        if len(self._buffer) < HEADER.size:
            return None
        if (size := _size(self._buffer)) > LONGEST:
            raise ValueError(f"D-Bus message of {size} bytes, limit is {LONGEST}")
        if len(self._buffer) < size:
            return None
        frame = bytes(self._buffer[:size])
        del self._buffer[:size]
        return frame


class Writes:
    """Recognizes the WriteValue calls of one characteristic.

    Args:
        path: The characteristic's.
        take: Called for each, unless it wants an answer.
    """

    def __init__(self, path: str, take: Written) -> None:
        self._path = path
        self._take = take
        self._heads: set[bytes] = set()
        self._options: dict[tuple[int, bytes], Mapping[str, Variant]] = {}

    def took(self, frame: bytes) -> bool:
        """Take a write like one that was learned; False: dbus-next must look."""
        if frame[0] != LITTLE:
            return False
        head, value, rest = _apart(frame)
        if head not in self._heads or (options := self._options.get(rest)) is None:
            return False
        self._take(value, options)
        return True

    def learn(self, frame: bytes, message: Message) -> None:
        """Recognize such a message from now on, if it is a write."""
        if frame[0] != LITTLE or not self._is_write(message):
            return
        head, _, rest = _apart(frame)
        if len(self._options) >= REMEMBERED or len(self._heads) >= REMEMBERED:
            self._heads.clear()
            self._options.clear()
        self._heads.add(head)
        self._options[rest] = message.body[1]

    def _is_write(self, message: Message) -> bool:
        return (
            message.message_type is MessageType.METHOD_CALL
            and bool(message.flags & MessageFlag.NO_REPLY_EXPECTED)
            and (message.path, message.member, message.signature) == (self._path, "WriteValue", "aya{sv}")
            and message.interface == "org.bluez.GattCharacteristic1"
        )


def _apart(frame: bytes) -> tuple[bytes, bytes, tuple[int, bytes]]:
    """Return what names the call, the value, and the options with what decides about their padding.

    All of it is nonsense if it is no WriteValue.
    """
    _, _, fields = HEADER.unpack_from(frame)
    body = _padded(HEADER.size + fields)
    if len(frame) < body + SIZE.size:
        return b"", b"", (0, b"")
    (size,) = SIZE.unpack_from(frame, body)
    start = body + SIZE.size
    end = start + size
    return frame[:4] + frame[HEADER.size : body], frame[start:end], (end % 8, frame[end:])


def _size(buffer: bytearray) -> int:
    if buffer[0] not in (LITTLE, BIG):
        raise ValueError(f"D-Bus message that begins with {buffer[0]:#04x}, neither `l` nor `B`")
    body, _, fields = (HEADER if buffer[0] == LITTLE else BIG_HEADER).unpack_from(buffer)
    return int(_padded(HEADER.size + fields) + body)


def _padded(size: int) -> int:
    return size + 7 & ~7

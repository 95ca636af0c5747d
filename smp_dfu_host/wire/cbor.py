"""Reading CBOR as strictly as Zephyr does: heads, typed values, skipping of anything.

cbor2 writes our replies (body.py) but reads more than Zephyr's decoder: strings in chunks, a key given twice,
numbers for keys. What it would let pass must be refused here.

     byte  0              1..8
          [major|info]    argument, big-endian: none, 1, 2, 4 or 8 bytes as info is 0..23, 24, 25, 26 or 27
           3 bits 5 bits  info 31: no argument, the end is marked by 0xff

Readers take the data and the offset of an item, and return the value and the offset behind it. What is malformed or of
another type raises `MgmtError(Rc.EINVAL)`; what is cut short may raise IndexError or struct.error instead, which
`decode` of body.py turns into the same. Skipping does not recurse: nesting costs a client's bytes but not our stack.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from smp_dfu_host.errors import MgmtError, Rc

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
"""Major types."""

SHORT = 24
"""Arguments below that lie in the first byte."""

INDEFINITE = -1
"""The argument of a string, array or map whose end is marked, and of the mark itself (major type `SIMPLE`)."""

BREAK = 0xFF
"""The mark at the end of an item of indefinite length."""

_FALSE, _TRUE = 0xF4, 0xF5
_SHORT_TEXT = TEXT << 5
_UINT_OF_4, _BYTES_OF_2 = UINT << 5 | 26, BYTES << 5 | 25
"""Heads whose argument has so many bytes."""

_U16, _U32, _U64 = Struct(">H"), Struct(">I"), Struct(">Q")

Reader = Callable[[bytes, int], tuple[Any, int]]


def malformed(what: str, offset: int) -> MgmtError:
    """Return the refusal of an item that is not what it should be."""
    return MgmtError(Rc.EINVAL, f"{what} at byte {offset} of the payload")


def read_head(data: bytes, offset: int) -> tuple[int, int, int]:
    """Return an item's major type, its argument and the offset behind the head; any length of argument will do."""
    first = data[offset]
    major, info = first >> 5, first & 31
    if info < 24:
        return major, info, offset + 1
    if info == 24:
        return major, data[offset + 1], offset + 2
    if info == 25:
        return major, _U16.unpack_from(data, offset + 1)[0], offset + 3
    if info == 26:
        return major, _U32.unpack_from(data, offset + 1)[0], offset + 5
    if info == 27:
        return major, _U64.unpack_from(data, offset + 1)[0], offset + 9
    if info == 31 and major not in (UINT, NEGATIVE, TAG):
        return major, INDEFINITE, offset + 1
    raise malformed("reserved item", offset)


def read_key(data: bytes, offset: int) -> tuple[bytes, int]:
    """Read a text that is a map's key, as its bytes."""
    size = data[offset] - _SHORT_TEXT
    start = offset + 1
    if not 0 <= size < 24:  # nearly all are that short
        major, size, start = read_head(data, offset)
        if major != TEXT or size < 0:
            raise malformed("key that is no text", offset)
    end = start + size
    if end > len(data):
        raise malformed("key that is no text", offset)
    return data[start:end], end


def read_text(data: bytes, offset: int) -> tuple[str, int]:
    """Read a text; invalid UTF-8 becomes lone surrogates, which `encode` turns back into the same bytes."""
    raw, end = _read_string(data, offset, TEXT)
    return raw.decode("utf-8", "surrogateescape"), end


def read_bytes(data: bytes, offset: int) -> tuple[bytes, int]:
    """Read a byte string."""
    if data[offset] == _BYTES_OF_2:  # most data
        start = offset + 3
        end = start + _U16.unpack_from(data, offset + 1)[0]
        if end <= len(data):
            return data[start:end], end
    return _read_string(data, offset, BYTES)


def _read_string(data: bytes, offset: int, wanted: int) -> tuple[bytes, int]:
    major, size, start = read_head(data, offset)
    end = start + size
    # An indefinite size is negative; Zephyr refuses strings in chunks too (zcbor_tstr_decode, zcbor_bstr_decode).
    if major != wanted or size < 0 or end > len(data):
        raise malformed("no text" if wanted == TEXT else "no byte string", offset)
    return data[start:end], end


def read_bool(data: bytes, offset: int) -> tuple[bool, int]:
    """Read true or false; 0 and 1 are neither."""
    value = data[offset]
    if value not in (_FALSE, _TRUE):
        raise malformed("neither true nor false", offset)
    return value == _TRUE, offset + 1


def int_reader(low: int, high: int) -> Reader:
    """Return a reader of integers between those, both included."""

    def read_int(data: bytes, offset: int) -> tuple[int, int]:
        if data[offset] == _UINT_OF_4 and high >= 0xFFFFFFFF and low <= 0:  # most offsets; they come with every chunk
            return _U32.unpack_from(data, offset + 1)[0], offset + 5
        major, value, end = read_head(data, offset)
        if major == NEGATIVE:
            value = -1 - value
        if major > NEGATIVE or not low <= value <= high:
            raise malformed(f"no integer between {low} and {high}", offset)
        return value, end

    return read_int


def list_reader(read_item: Reader) -> Reader:
    """Return a reader of lists, definite or not, whose items all are of one kind; it returns a tuple."""

    def read_list(data: bytes, offset: int) -> tuple[tuple[Any, ...], int]:
        major, count, end = read_head(data, offset)
        if major != ARRAY:
            raise malformed("no list", offset)
        items = []
        while count:
            if count < 0 and data[end] == BREAK:
                end += 1
                break
            item, end = read_item(data, end)
            items.append(item)
            count -= 1
        return tuple(items), end

    return read_list


def skip(data: bytes, offset: int) -> int:
    """Return the offset behind the item, whatever it is and however it is nested."""
    open_items: list[int] = []
    count = 1
    while True:
        if count == 0 or (count < 0 and data[offset] == BREAK):
            offset += count < 0
            if not open_items:
                return offset
            count = open_items.pop()
            continue
        major, value, end = read_head(data, offset)
        if count > 0:
            count -= 1
        if major in (BYTES, TEXT):
            end = _skip_string(data, end, major, value)
        elif major in (ARRAY, MAP, TAG):
            open_items.append(count)
            count = 1 if major == TAG else value * 2 if major == MAP and value > 0 else value
        elif value == INDEFINITE:
            raise malformed("end of nothing", offset)
        offset = end


def _skip_string(data: bytes, offset: int, major: int, size: int) -> int:
    """Return the offset behind a string whose head is read; one of indefinite size consists of definite ones."""
    if size >= 0:
        offset += size
    else:
        while data[offset] != BREAK:
            chunk, size, end = read_head(data, offset)
            if chunk != major or size < 0:
                raise malformed("no chunk of a string", offset)
            offset = end + size
        offset += 1
    if offset > len(data):
        raise malformed("string that is cut short", len(data))
    return offset

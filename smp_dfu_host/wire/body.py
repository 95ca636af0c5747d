"""Bodies: the CBOR maps behind the header, as typed values.

A body is a frozen slotted dataclass whose field names are the keys of the map; a field that is None is absent. What a
request may hold, its fields' types and defaults say; a field without a default must be there:

    @dataclass(frozen=True, slots=True)
    class Upload(Body):
        off: Uint32 | None = None
        data: bytes = b""

`decode` is as strict as Zephyr's map decoder (zephyr subsys/mgmt/mcumgr/util/src/zcbor_bulk.c): a key that is no text,
a known key that comes twice or has a value of another type, and a map that is cut short are refused with rc 3; unknown
keys and whatever stands behind the map are skipped. `encode` writes maps and lists with indefinite length, as Zephyr
does: so replies are as long as Zephyr's, and the phone apps' fast decoder of upload replies knows them.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import cbor2

from smp_dfu_host.errors import MgmtError, Rc
from smp_dfu_host.wire import cbor


@dataclass(frozen=True, slots=True)
class Range:
    """The range of an integer field, both ends included."""

    low: int
    high: int


Uint8 = Annotated[int, Range(0, 0xFF)]
Uint16 = Annotated[int, Range(0, 0xFFFF)]
Uint32 = Annotated[int, Range(0, 0xFFFFFFFF)]
Uint64 = Annotated[int, Range(0, 0xFFFFFFFFFFFFFFFF)]
Int32 = Annotated[int, Range(-0x80000000, 0x7FFFFFFF)]
Int64 = Annotated[int, Range(-0x8000000000000000, 0x7FFFFFFFFFFFFFFF)]
# A request's plain `int` is a Uint64.


@dataclass(frozen=True, slots=True)
class Body:
    """The base of all bodies; by itself the empty map."""


B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read a type of body, worked out once."""

    readers: Mapping[bytes, tuple[str, cbor.Reader]]
    """By key."""
    quick: Mapping[bytes, tuple[str, cbor.Reader]]
    """By key and the head before it, as they mostly stand in the payload."""
    required: frozenset[str]
    """Fields without a default."""


_EMPTY_MAP = cbor.MAP << 5
_BEFORE_TEXT = (cbor.TEXT << 5) - 1
"""What the head of a text of less than 24 bytes is above its whole size."""

_plans: dict[type[Body], _Plan] = {}
"""A cache; request bodies are a fixed, small set of classes."""


def decode(kind: type[B], payload: bytes) -> B:
    """Read a request's map; what stands behind it is ignored.

    Raises:
        MgmtError: `EINVAL` if the payload is no map, or not the map that this body wants.
    """
    if (plan := _plans.get(kind)) is None:
        plan = _plans[kind] = _plan(kind)
    try:
        values = _read_map(plan, payload)
    except (IndexError, struct.error) as exc:
        raise MgmtError(Rc.EINVAL, f"map of {len(payload)} bytes is cut short") from exc
    if plan.required and not plan.required <= values.keys():
        raise MgmtError(Rc.EINVAL, f"missing: {', '.join(sorted(plan.required - values.keys()))}")
    return kind(**values)


def _read_map(plan: _Plan, data: bytes) -> dict[str, Any]:
    """Return the values of the known keys; one pass over the top level of the map."""
    count, offset = data[0] - _EMPTY_MAP, 1
    if not 0 <= count < cbor.SHORT:  # nearly all are that short
        major, count, offset = cbor.read_head(data, 0)
        if major != cbor.MAP:
            raise cbor.malformed("no map", 0)
    values: dict[str, Any] = {}
    quick = plan.quick
    while count:
        if count < 0 and data[offset] == cbor.BREAK:
            break
        count -= 1  # an indefinite count is negative and stays so
        start = offset
        offset += data[offset] - _BEFORE_TEXT  # behind the key, if it is a short text, as nearly all are
        if (known := quick.get(data[start:offset])) is None:
            key, offset = cbor.read_key(data, start)
            if (known := plan.readers.get(key)) is None:
                offset = cbor.skip(data, offset)
                continue
        name, read = known
        if name in values:
            raise cbor.malformed(f"second {name}", start)
        values[name], offset = read(data, offset)
    return values


def _plan(kind: type[Body]) -> _Plan:
    hints = get_type_hints(kind, include_extras=True)
    readers = {each.name: (each.name, _reader(hints[each.name])) for each in fields(kind)}
    without = {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}
    return _Plan(
        {name.encode(): reader for name, reader in readers.items()},
        {cbor2.dumps(name): reader for name, reader in readers.items()},
        frozenset(without),
    )


def _reader(hint: Any) -> cbor.Reader:
    """Return the reader for a field's type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (hint,) = (each for each in arguments if each is not NoneType)
        return _reader(hint)
    if origin is Annotated:
        return cbor.int_reader(arguments[1].low, arguments[1].high)
    if origin in (tuple, list):
        return cbor.list_reader(_reader(arguments[0]))
    if hint is int:
        return _reader(Uint64)
    return {bool: cbor.read_bool, str: cbor.read_text, bytes: cbor.read_bytes}[hint]


def encode(body: Body | Mapping[str, object]) -> bytes:
    """Return the map; fields and values that are None are left out.

    Values may be integers, booleans, texts, byte strings, bodies, mappings and sequences of those.
    """
    try:
        if type(body) is dict and all(map(_ATOMS.__contains__, map(type, body.values()))):
            return cbor2.dumps(body, indefinite_containers=True)
        return cbor2.dumps(_plain(body, _as_it_is), indefinite_containers=True)
    except UnicodeEncodeError:  # a text that came with invalid UTF-8 goes back as it came
        return cbor2.dumps(_plain(body, _RawText), indefinite_containers=True, default=_encode_raw)


@dataclass(frozen=True, slots=True)
class _RawText:
    """A text that may hold lone surrogates, which stand for the bytes that they were read from."""

    text: str


def _as_it_is(text: str) -> str:
    return text


_ATOMS = frozenset({int, bool, bytes})
_names: dict[type[Body], tuple[str, ...]] = {}
"""The fields of each type of body; a cache."""


def _plain(value: object, text: Callable[[str], object]) -> object:
    """Return the value as cbor2 takes it."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Body):
        names = _names.get(type(value)) or _name(type(value))
        items = ((name, getattr(value, name)) for name in names)
        return {name: item if type(item) in _ATOMS else _plain(item, text) for name, item in items if item is not None}
    match value:
        case str():
            return text(value)
        case bytes():
            return value
        case Mapping():
            return {text(key): _plain(item, text) for key, item in value.items() if item is not None}
        case Sequence():
            return [_plain(item, text) for item in value]
    return value


def _name(kind: type[Body]) -> tuple[str, ...]:
    names = _names[kind] = tuple(each.name for each in fields(kind))
    return names


def _encode_raw(encoder: cbor2.CBOREncoder, value: object) -> None:
    if not isinstance(value, _RawText):
        raise TypeError(f"{type(value).__name__} has no form in CBOR")
    raw = value.text.encode("utf-8", "surrogateescape")
    encoder.encode_length(cbor.TEXT, len(raw))
    encoder.write(raw)

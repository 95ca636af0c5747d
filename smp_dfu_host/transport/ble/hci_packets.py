"""The few HCI packets that connection parameters need (Core Specification, vol 4 part E).

    command   01  opcode u16  length u8  parameters
    event     04  code u8     length u8  parameters; an LE meta event's begin with a subevent code

Multi-byte fields are little-endian. Only connections in the peripheral's role are of interest.
"""

import struct
from dataclasses import dataclass

from smp_dfu_host.transport.ble.advertising import Interval
from smp_dfu_host.transport.ble.hci import shown
from smp_dfu_host.transport.ble.parameters import Parameters, Request

COMMAND, EVENT = 0x01, 0x04
"""Packet types."""
DISCONNECT = 0x0406
LE_SET_ADVERTISING_PARAMETERS, LE_SET_ADVERTISING_ENABLE = 0x2006, 0x200A
LE_CONNECTION_UPDATE = 0x2013
"""Opcodes (7.1.6, 7.8.5, 7.8.9, 7.8.18)."""
DISCONNECTION_COMPLETE, COMMAND_STATUS, LE_META = 0x05, 0x0F, 0x3E
"""Event codes (7.7.5, 7.7.15, 7.7.65)."""
CONNECTION_COMPLETE, CONNECTION_UPDATE_COMPLETE, ENHANCED_CONNECTION_COMPLETE = 0x01, 0x03, 0x0A
"""LE meta event's subevents (7.7.65.1, 7.7.65.3, 7.7.65.10)."""
PERIPHERAL = 1
"""A connection's role."""
REMOTE_USER_TERMINATED = 0x13
ADVERTISING_MS = 0.625
"""Steps of advertising intervals."""
ALL_CHANNELS = 0x07

_REASONS = {
    0x02: "there is no such connection",
    0x0C: "another change is under way",
    0x1A: "the central cannot be asked",
    0x1E: "the central finds them invalid",
    0x20: "the central knows no such request",
    0x23: "another change is under way",
    0x2A: "another change is under way",
    0x3B: "the central finds them unacceptable",
}
"""Error codes (vol 1 part F) that answer such a request."""

_HEAD = struct.Struct("<BHB")
_CONNECTION = struct.Struct("<BHBB6s")
_PARAMETERS = struct.Struct("<HHH")


@dataclass(frozen=True, slots=True)
class Connected:
    """A central has connected."""

    handle: int
    address: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection has ended."""

    handle: int
    reason: int


@dataclass(frozen=True, slots=True)
class Updated:
    """Other parameters are in force, or the request for them failed."""

    handle: int
    status: int
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Taken:
    """The controller has taken a request for other parameters, or refused it at once; it does not say which."""

    status: int


Event = Connected | Disconnected | Updated | Taken


def reason(status: int) -> str:
    """Say what an error code means."""
    return _REASONS.get(status, f"error 0x{status:02x}")


def update_command(handle: int, request: Request) -> bytes:
    """Return the command that asks for other parameters."""
    wanted = (request.min_interval, request.max_interval, request.latency, request.timeout)
    return _HEAD.pack(COMMAND, LE_CONNECTION_UPDATE, 14) + struct.pack("<7H", handle, *wanted, 0, 0)


def disconnect_command(handle: int) -> bytes:
    """Return the command that ends a connection."""
    return _HEAD.pack(COMMAND, DISCONNECT, 3) + struct.pack("<HB", handle, REMOTE_USER_TERMINATED)


def advertising_commands(interval: Interval) -> tuple[bytes, ...]:
    """Return the commands that change the interval of a legacy, connectable advertisement from the public address."""
    low, high = (int(end / ADVERTISING_MS) for end in (interval.min_ms, interval.max_ms))
    parameters = struct.pack("<HHBBB6sBB", low, high, 0, 0, 0, bytes(6), ALL_CHANNELS, 0)
    off, on = (_HEAD.pack(COMMAND, LE_SET_ADVERTISING_ENABLE, 1) + bytes((enable,)) for enable in (0, 1))
    return off, _HEAD.pack(COMMAND, LE_SET_ADVERTISING_PARAMETERS, len(parameters)) + parameters, on


def parse(packet: bytes) -> Event | None:
    """Return what a packet from the controller says; None if it is none of the events above, or is cut short."""
    try:
        if packet[0] != EVENT or len(packet) < 3 + packet[2]:
            return None
        return _event(packet[1], packet[3:])
    except (struct.error, IndexError):
        return None


def _event(code: int, body: bytes) -> Event | None:
    match code:
        case 0x05:
            status, handle, why = struct.unpack_from("<BHB", body)
            return None if status else Disconnected(handle, why)
        case 0x0F:
            status, _, opcode = struct.unpack_from("<BBH", body)
            return Taken(status) if opcode == LE_CONNECTION_UPDATE else None
        case 0x3E:
            return _meta(body[0], body[1:])
    return None


def _meta(subevent: int, body: bytes) -> Event | None:
    if subevent == CONNECTION_UPDATE_COMPLETE:
        status, handle = struct.unpack_from("<BH", body)
        return Updated(handle, status, _parameters(body, 3))
    if subevent not in (CONNECTION_COMPLETE, ENHANCED_CONNECTION_COMPLETE):
        return None
    status, handle, role, _, address = _CONNECTION.unpack_from(body)
    resolvable = 12 if subevent == ENHANCED_CONNECTION_COMPLETE else 0  # two more addresses
    parameters = _parameters(body, _CONNECTION.size + resolvable)
    return Connected(handle, shown(address), parameters) if not status and role == PERIPHERAL else None


def _parameters(body: bytes, offset: int) -> Parameters:
    return Parameters(*_PARAMETERS.unpack_from(body, offset))

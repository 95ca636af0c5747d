"""HCI packets, as a controller sends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.transport.ble.advertising import Interval
from smp_dfu_host.transport.ble.hci_packets import (
    Connected,
    Disconnected,
    Taken,
    Updated,
    advertising_commands,
    disconnect_command,
    parse,
    reason,
    update_command,
)
from smp_dfu_host.transport.ble.parameters import Parameters, Request

# packet type, event code, length, subevent, status, handle, role, address type, address, interval, latency, timeout,
# clock accuracy
CONNECTED = bytes.fromhex("04 3e 13 01 00 2a00 01 00 01000101 00aa 2400 0000 2a00 01")
ENHANCED = bytes.fromhex(
    "04 3e 1f 0a 00 2a00 01 00 01000101aa00 000000000000 000000000000 2400 0000 2a00 01"  # the two resolvable ones
)
UPDATED = bytes.fromhex("04 3e 0a 03 00 2a00 0600 0000 9001")

EVENTS = [
    (CONNECTED, Connected(0x2A, "AA:00:01:01:00:01", Parameters(36, 0, 42))),
    (ENHANCED, Connected(0x2A, "00:AA:01:01:00:01", Parameters(36, 0, 42))),
    (UPDATED, Updated(0x2A, 0, Parameters(6, 0, 400))),
    (bytes.fromhex("04 3e 0a 03 3b 2a00 0000 0000 0000"), Updated(0x2A, 0x3B, Parameters(0, 0, 0))),
    (bytes.fromhex("04 05 04 00 2a00 13"), Disconnected(0x2A, 0x13)),
    (bytes.fromhex("04 0f 04 00 01 1320"), Taken(0)),
    (bytes.fromhex("04 0f 04 1a 01 1320"), Taken(0x1A)),
]


@pytest.mark.parametrize(("packet", "event"), EVENTS)
def test_an_event_is_read_also_with_bytes_behind_it(packet: bytes, event: object) -> None:
    assert parse(packet) == event
    assert parse(packet + b"\xff") == event


@pytest.mark.parametrize("packet", [packet for packet, _ in EVENTS])
def test_what_is_cut_short_is_nothing(packet: bytes) -> None:
    for size in range(len(packet)):
        assert parse(packet[:size]) is None


@pytest.mark.parametrize(
    "packet",
    [
        CONNECTED[:7] + b"\0" + CONNECTED[8:],  # we are the central
        CONNECTED[:4] + b"\x3e" + CONNECTED[5:],  # it has failed
        bytes.fromhex("04 05 04 0c 2a00 13"),  # the disconnection has failed
        bytes.fromhex("04 0f 04 00 01 0604"),  # the status of another command
        bytes.fromhex("04 3e 01 02"),  # an advertising report
        bytes.fromhex("04 0e 04 01 1320 00"),  # a command complete event
        bytes.fromhex("02 3e 0a 03 00 2a00 0600 0000 9001"),  # no event at all
    ],
)
def test_other_packets_are_nothing(packet: bytes) -> None:
    assert parse(packet) is None


@given(st.binary(max_size=300))
def test_no_packet_raises(packet: bytes) -> None:
    parse(packet)
    parse(b"\x04\x3e" + packet)


def test_commands() -> None:
    asked = update_command(0x2A, Request(24, 40, 3, 400))
    assert asked == bytes.fromhex("01 1320 0e 2a00 1800 2800 0300 9001 0000 0000")
    assert disconnect_command(0x2A) == bytes.fromhex("01 0604 03 2a00 13")


def test_changing_the_advertising_interval_is_off_parameters_on() -> None:
    assert advertising_commands(Interval(30, 60)) == (
        bytes.fromhex("01 0a20 01 00"),
        bytes.fromhex("01 0620 0f 3000 6000 00 00 00 000000000000 07 00"),
        bytes.fromhex("01 0a20 01 01"),
    )


def test_an_error_is_said_in_words_or_by_its_number() -> None:
    assert reason(0x3B) == "the central finds them unacceptable"
    assert reason(0xFE) == "error 0xfe"


def test_a_request_is_met_by_what_lies_in_its_range() -> None:
    request = Request(24, 40, 2, 400)
    assert request.met_by(Parameters(24, 2, 42))
    assert request.met_by(Parameters(40, 2, 42))
    for wrong in (Parameters(23, 2, 400), Parameters(41, 2, 400), Parameters(30, 1, 400)):
        assert not request.met_by(wrong)


def test_parameters_say_themselves_in_ms() -> None:
    now = Parameters(6, 4, 400)
    assert (str(now), now.interval_ms, now.timeout_ms) == ("7.5 ms, latency 4", 7.5, 4000)

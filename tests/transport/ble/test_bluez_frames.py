"""Messages taken apart without dbus-next: what comes out is what dbus-next itself says."""

# mypy: disable-error-code="no-untyped-call"

import io
from typing import Any

import pytest
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.constants import MessageFlag
from dbus_next.message import Message
from dbus_next.signature import Variant
from hypothesis import example, given
from hypothesis import strategies as st

from smp_dfu_host.transport.ble.bluez_frames import LONGEST, REMEMBERED, Frames, Writes

PATH = "/org/smp_dfu_host/service0001/char0001"


def write(value: bytes, central: str = "A", mtu: int = 247, **changes: Any) -> bytes:
    """A WriteValue as bluetoothd sends it."""
    options = {"device": Variant("o", f"/org/bluez/hci0/dev_{central}"), "mtu": Variant("q", mtu)}
    named: dict[str, Any] = {
        "path": PATH,
        "interface": "org.bluez.GattCharacteristic1",
        "member": "WriteValue",
        "signature": "aya{sv}",
        "body": [value, options],
        "flags": MessageFlag.NO_REPLY_EXPECTED,
        "destination": ":1.5",
        "serial": 7,
        **changes,
    }
    return bytes(Message(**named)._marshall())


def parsed(frame: bytes) -> Message:
    message = Unmarshaller(io.BytesIO(frame)).unmarshall()
    assert isinstance(message, Message)
    return message


class Server:
    """Takes messages as the bus does."""

    def __init__(self) -> None:
        self.quick: list[tuple[bytes, str, int]] = []
        self.slow: list[bytes] = []
        self.writes = Writes(PATH, lambda value, said: self.quick.append((value, *central(said))))

    def feed(self, frame: bytes) -> None:
        if not self.writes.took(frame):
            self.slow.append(frame)
            self.writes.learn(frame, parsed(frame))


def central(options: Any) -> tuple[str, int]:
    return options["device"].value, options["mtu"].value


WRITE = st.tuples(st.binary(max_size=40), st.sampled_from(["A", "BB", "CCC"]), st.sampled_from([23, 247, 517]))


@given(st.lists(WRITE, max_size=40), st.integers(1, 700))
@example([(bytes(size), "A", 23) for size in (*range(9), *range(9))], 1)
def test_every_write_comes_out_as_dbus_next_has_it_whatever_the_pieces(
    writes: list[tuple[bytes, str, int]], size: int
) -> None:
    """Value and central, in order; and nothing is quick that was not seen before."""
    stream = b"".join(write(*one, serial=number + 1) for number, one in enumerate(writes))
    frames, server, got = Frames(), Server(), []
    for at in range(0, len(stream), size):
        frames.feed(stream[at : at + size])
        while frame := frames.next():
            server.feed(frame)
            if server.slow and server.slow[-1] is frame:
                value, options = parsed(frame).body
                got.append((value, *central(options)))
            else:
                got.append(server.quick[-1])
    assert got == [(value, f"/org/bluez/hci0/dev_{name}", mtu) for value, name, mtu in writes]
    assert len(server.slow) == len({(name, mtu, len(value) % 8) for value, name, mtu in writes})


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": MessageFlag.NONE},
        {"member": "WriteValues"},
        {"path": f"{PATH}2"},
        {"interface": "org.bluez.GattDescriptor1"},
        {"destination": ":1.6"},
        {"signature": "ays", "body": [b"hello", "text"]},
        {"signature": "", "body": []},
        {"signature": "u", "body": [0xFFFFFFFF]},
    ],
)
def test_another_call_goes_the_long_way_though_writes_are_known(changes: dict[str, Any]) -> None:
    server = Server()
    for _ in range(2):
        server.feed(write(b"hello"))
    assert len(server.quick) == 1
    server.feed(write(b"hello", **changes))
    assert len(server.quick) == 1


def test_a_call_that_wants_an_answer_is_never_taken() -> None:
    server = Server()
    for _ in range(3):
        server.feed(write(b"hello", flags=MessageFlag.NONE))
    assert server.quick == []


def test_a_value_with_the_size_of_everything_goes_the_long_way() -> None:
    """The size that it tells is beyond its end."""
    server = Server()
    server.feed(write(b"hello"))
    bad = bytearray(write(b"hello"))
    at = bad.index(b"hello") - 4
    bad[at : at + 4] = b"\xff\xff\xff\x7f"
    assert not server.writes.took(bytes(bad))


def test_a_big_endian_message_is_cut_out_and_goes_the_long_way() -> None:
    frame = bytes.fromhex("42 01 01 01 00000000 00000001 00000004 01016f00 00000000")
    frames, server = Frames(), Server()
    frames.feed(frame + write(b"x"))
    assert frames.next() == frame
    assert not server.writes.took(frame)
    assert frames.next() == write(b"x")
    assert frames.next() is None


def test_what_is_remembered_is_bounded() -> None:
    server = Server()
    for number in range(3 * REMEMBERED):
        server.feed(write(b"x", str(number)))
        server.feed(write(b"y", str(number)))
        assert len(server.writes._options) <= REMEMBERED
    assert len(server.quick) == 3 * REMEMBERED


@pytest.mark.parametrize("head", [b"x" + bytes(15), b"l\x01\x00\x01" + b"\xff" * 12])
def test_what_is_no_message_is_an_error(head: bytes) -> None:
    frames = Frames()
    frames.feed(head)
    with pytest.raises(ValueError, match=f"neither|limit is {LONGEST}"):
        frames.next()

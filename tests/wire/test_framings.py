"""What all framings promise alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.wire.console import LINE_SIZE, ConsoleFraming, ShellFraming
from smp_dfu_host.wire.raw import DatagramFraming, Framing, RawFraming
from smp_dfu_host.wire.raw_serial import RawSerialFraming
from tests.strategies import cuts, messages

LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of framing, and how its packets may be cut on their way."""

    make: Callable[[], Framing]
    least: int = 1
    """Bytes of the smallest packet that it splits into."""
    most: int = LIMIT
    """Bytes of the largest packet that it takes."""
    stream: bool = True
    """Whether packets may arrive in other pieces than they were sent in."""


class _Whole:
    """Raw serial, which splits nothing, as the others are called."""

    def __init__(self) -> None:
        self._framing = RawSerialFraming(LIMIT)

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._framing.feed(data)

    def split(self, message: bytes, _size: int) -> Iterator[bytes]:
        return self._framing.split(message)

    def reset(self) -> None:
        self._framing.reset()


FRAMINGS = {
    "raw": Kind(lambda: RawFraming(LIMIT)),
    "raw aligned": Kind(lambda: RawFraming(LIMIT, aligned=True), stream=False),
    "raw serial": Kind(_Whole),
    "console": Kind(lambda: ConsoleFraming(LIMIT), least=15, most=LINE_SIZE),
    "shell": Kind(lambda: ShellFraming(LIMIT), least=15, most=LINE_SIZE),
    "datagram": Kind(DatagramFraming, least=LIMIT, stream=False),
}

sent = st.lists(messages().filter(lambda message: message[0] & 7 < 4), min_size=1, max_size=5)


@pytest.mark.parametrize("name", FRAMINGS)
@given(sent=sent, size=st.integers(1, 600), data=st.data())
def test_split_then_feed_is_identity(name: str, sent: list[bytes], size: int, data: st.DataObject) -> None:
    """Whatever the size of the packets, and however a stream is cut, what went in comes out, in order."""
    kind = FRAMINGS[name]
    framing = kind.make()
    packets = [piece for message in sent for piece in framing.split(message, min(max(size, kind.least), kind.most))]
    arrived = data.draw(cuts(b"".join(packets))) if kind.stream else packets
    assert [message for packet in arrived for message in framing.feed(packet)] == sent


@pytest.mark.parametrize("name", FRAMINGS)
@given(sent=sent, size=st.integers(1, 600))
def test_what_is_under_way_is_forgotten_by_a_reset(name: str, sent: list[bytes], size: int) -> None:
    """After a reset the next message comes out whole, however much of another one came before."""
    kind = FRAMINGS[name]
    framing = kind.make()
    first = list(framing.split(sent[0], min(max(size, kind.least), kind.most)))
    for packet in first[:-1]:
        assert list(framing.feed(packet)) == []
    framing.reset()
    packets = framing.split(sent[-1], LIMIT if name != "console" and name != "shell" else 127)
    assert [message for packet in packets for message in framing.feed(packet)] == [sent[-1]]

import asyncio
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import link as ble
from smp_dfu_host.transport.ble.link import BleLink, Centrals, Limits, fragment_size
from tests.transport.inbox import RecordingInbox

A, B = "/dev_A", "/dev_B"
LIMITS = Limits(2475, 512)


def message(payload: bytes = b"", sequence: int = 0) -> bytes:
    return struct.pack(">BBHHBB", 2, 0, len(payload), 0, sequence, 0) + payload


class FakeGatt:
    """Keeps what is sent; `held` centrals take nothing until released."""

    def __init__(self) -> None:
        self.addresses = {A: "AA:00:00:00:00:01", B: "AA:00:00:00:00:02"}
        self.sent: list[tuple[str, bytes]] = []
        self.dropped: list[str] = []
        self.ways: dict[str, object] = {}
        self.free = asyncio.Event()
        self.free.set()

    def address(self, key: str) -> str:
        return self.addresses[key]

    async def notify(self, key: str, value: bytes) -> None:
        await self.free.wait()
        self.sent.append((key, value))
        await asyncio.sleep(0)  # as a socket may: let another sender in

    def notify_now(self, key: str, value: bytes) -> bool:
        if self.free.is_set():
            self.sent.append((key, value))
        return self.free.is_set()

    def way(self, key: str) -> object:
        return self.ways.get(key)

    def disconnect(self, key: str) -> None:
        self.dropped.append(key)

    def to(self, key: str) -> list[bytes]:
        return [value for receiver, value in self.sent if receiver == key]


class Rig:
    """Centrals over a fake GATT."""

    def __init__(self, *, single: bool = False, limits: Limits = LIMITS) -> None:
        self.gatt = FakeGatt()
        self.inbox = RecordingInbox()
        self.changes = 0
        self.centrals = Centrals(self.gatt, limits, single=single, changed=self._changed)
        self.centrals.open(self.inbox)

    def _changed(self) -> None:
        self.changes += 1

    def link(self, key: str = A) -> BleLink:
        made = self.centrals.connected(key)
        assert made is not None
        return made


Make = Callable[..., Rig]


@pytest.fixture
async def rig() -> AsyncIterator[Make]:
    """Makes rigs and ends their links."""
    made: list[Rig] = []

    def make(**options: object) -> Rig:
        made.append(Rig(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.centrals.close()


@pytest.mark.parametrize(
    ("mtu", "limit", "size"),
    [(23, 512, 18), (0, 512, 18), (247, 512, 242), (517, 512, 512), (65535, 512, 512), (517, 20, 20), (247, 100, 100)],
)
def test_fragment_size_is_what_the_mtu_carries_and_bluez_keeps(mtu: int, limit: int, size: int) -> None:
    assert fragment_size(mtu, limit) == size


async def test_a_message_in_several_writes_reaches_the_inbox_whole(rig: Make) -> None:
    one = rig()
    sent = message(bytes(1000))
    for at in range(0, len(sent), 244):
        one.centrals.written(A, sent[at : at + 244], 247)
    link, packet = await one.inbox.next()
    assert packet == sent
    assert str(link.peer) == "ble AA:00:00:00:00:01"
    assert link.peer.owner == "ble:AA:00:00:00:00:01"


async def test_two_centrals_are_reassembled_apart(rig: Make) -> None:
    one = rig()
    first, second = message(b"a" * 100, 1), message(b"b" * 100, 2)
    for at in range(0, 108, 20):
        one.centrals.written(A, first[at : at + 20], 23)
        one.centrals.written(B, second[at : at + 20], 23)
    got = [await one.inbox.next() for _ in range(2)]
    assert [(link.peer.address, packet) for link, packet in got] == [
        ("AA:00:00:00:00:01", first),
        ("AA:00:00:00:00:02", second),
    ]


@given(
    sizes=st.lists(st.integers(0, 900), min_size=1, max_size=20), mtu=st.integers(23, 517), limit=st.integers(20, 512)
)
def test_what_is_sent_can_be_put_together_by_the_length_in_the_header(sizes: list[int], mtu: int, limit: int) -> None:
    """Whatever the MTU: in order, no fragment too long, the header whole in the first one."""
    sent = [message(bytes(size), number % 256) for number, size in enumerate(sizes)]

    async def send() -> list[bytes]:
        one = Rig(limits=Limits(2475, limit))
        link = one.link()
        link.written(message(), mtu)
        for each in sent:
            await link.send(each)
        one.centrals.close()
        return one.gatt.to(A)

    pieces = asyncio.run(send())
    assert b"".join(pieces) == b"".join(sent)
    assert max(map(len, pieces)) <= fragment_size(mtu, limit)
    rest = iter(pieces)
    for each in sent:
        piece = next(rest)
        assert len(piece) >= 8
        while len(piece) < len(each):
            piece += next(rest)
        assert piece == each


async def test_replies_that_are_sent_at_once_do_not_interleave(rig: Make) -> None:
    one = rig()
    link = one.link()
    sent = [message(bytes([number]) * 300, number) for number in range(4)]
    await asyncio.gather(*map(link.send, sent))
    assert b"".join(one.gatt.to(A)) == b"".join(sent)


async def test_what_fits_into_a_notification_is_sent_now_unless_something_must_be_waited_for(rig: Make) -> None:
    one = rig()
    link = one.link()
    link.written(message(), 247)
    assert link.send_now(message(bytes(234)))
    assert not link.send_now(message(bytes(235)))  # takes two
    one.gatt.free.clear()
    assert not link.send_now(message())
    sending = asyncio.create_task(link.send(message(bytes(500))))
    await asyncio.sleep(0)
    one.gatt.free.set()
    assert not link.send_now(message())  # would come between two notifications of that one
    await sending
    one.centrals.disconnected(A)
    assert not link.send_now(message())
    assert one.gatt.to(A) == [message(bytes(234)), *[message(bytes(500))[at : at + 242] for at in range(0, 508, 242)]]
    assert link.counters["sent"] == 2


async def test_a_slow_inbox_never_blocks_or_loses_what_is_written(rig: Make) -> None:
    one = rig()
    one.inbox.room.clear()
    sent = [message(struct.pack(">I", number)) for number in range(500)]
    for each in sent:
        one.centrals.written(A, each, 23)
    one.inbox.room.set()
    assert [(await one.inbox.next())[1] for _ in sent] == sent


async def test_a_central_that_never_waits_for_answers_is_dropped_in_the_end(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ble, "QUEUE_LIMIT", 1000)
    one = rig()
    one.inbox.room.clear()
    for _ in range(9):
        one.centrals.written(A, message(bytes(100)), 517)
    assert one.gatt.dropped == []
    one.centrals.written(A, message(bytes(100)), 517)
    assert one.gatt.dropped == [A]


async def test_a_message_over_the_limit_is_dropped_and_the_next_one_taken(rig: Make) -> None:
    one = rig(limits=Limits(100, 512))
    one.centrals.written(A, message(bytes(93)), 517)
    one.centrals.written(A, message(bytes(92)), 517)
    assert (await one.inbox.next())[1] == message(bytes(92))


async def test_half_a_message_dies_with_the_connection(rig: Make) -> None:
    one = rig()
    one.centrals.written(A, message(b"lost")[:10], 23)
    one.centrals.disconnected(A)
    one.centrals.written(A, message(b"next"), 23)
    assert (await one.inbox.next())[1] == message(b"next")


async def test_a_subscription_begins_anew(rig: Make) -> None:
    one = rig()
    one.centrals.written(A, message(b"lost")[:10], 23)
    one.centrals.subscribed(A)
    one.centrals.written(A, message(b"next"), 23)
    assert (await one.inbox.next())[1] == message(b"next")


async def test_a_link_that_is_gone_sends_nothing_and_delivers_nothing(rig: Make) -> None:
    one = rig()
    link = one.link()
    one.gatt.free.clear()
    sending = asyncio.create_task(link.send(message(bytes(100))))
    one.inbox.room.clear()
    one.centrals.written(A, message(), 23)
    await asyncio.sleep(0)
    one.centrals.disconnected(A)
    assert link.closed
    assert one.inbox.gone == [link]
    one.gatt.free.set()
    one.inbox.room.set()
    with pytest.raises(TransportError):
        await sending
    assert len(one.gatt.sent) == 1
    assert one.inbox.packets.empty()


async def test_a_central_joins_once_and_leaves_once(rig: Make) -> None:
    one = rig()
    link: Link = one.link()
    assert one.link() is link
    assert one.inbox.present == [link]
    one.centrals.disconnected(A)
    one.centrals.disconnected(A)
    assert one.inbox.gone == [link]
    assert one.changes == 2


async def test_a_single_central_keeps_its_link_and_the_second_is_dropped(rig: Make) -> None:
    one = rig(single=True)
    one.centrals.written(A, message(b"first"), 23)
    assert one.centrals.full
    one.centrals.written(B, message(b"second"), 23)
    one.centrals.subscribed(B)
    assert one.gatt.dropped == [B]
    one.centrals.disconnected(B)
    one.centrals.written(B, message(b"again"), 23)
    assert one.gatt.dropped == [B, B]
    assert one.centrals.keys == (A,)
    assert (await one.inbox.next())[1] == message(b"first")
    one.centrals.disconnected(A)
    assert not one.centrals.full
    one.link(B)


async def test_while_closed_nobody_is_admitted(rig: Make) -> None:
    one = rig()
    link = one.link()
    one.centrals.close()
    assert link.closed
    assert one.inbox.gone == [link]
    one.centrals.written(A, message(), 23)
    assert one.gatt.dropped == [A]
    assert one.centrals.keys == ()


async def test_the_owner_is_the_identity_once_pairing_has_told_it(rig: Make) -> None:
    one = rig()
    link = one.link()
    one.gatt.addresses[A] = "00:11:22:33:44:55"
    one.centrals.identified(A)
    one.centrals.identified(B)
    assert link.peer.owner == "ble:00:11:22:33:44:55"


@pytest.mark.parametrize(("mtu", "size"), [(23, 2475), (498, 2475), (513, 2475), (514, 510), (517, 510)])
async def test_a_client_that_could_write_more_than_bluez_takes_is_told_a_smaller_buffer(
    rig: Make, mtu: int, size: int
) -> None:
    one = rig(limits=Limits(2475, 512, longest_write=510))
    link = one.link()
    link.written(message(), mtu)
    assert link.mtu == mtu
    assert link.buf_size == size
    one.centrals.written(A, message(bytes(2467)), mtu)
    assert len((await one.inbox.next())[1]) == 8
    assert len((await one.inbox.next())[1]) == 2475


async def test_each_central_is_counted_by_itself(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one = rig()
    first, second = one.link(A), one.link(B)
    for _ in range(3):
        one.centrals.written(A, message(), 23)
    one.centrals.written(B, message(), 23)
    one.centrals.written(B, message(bytes(2468))[:20], 23)
    await first.send(message(bytes(100)))
    assert first.counters == {"received": 3, "refused": 0, "sent": 1}
    assert second.counters == {"received": 1, "refused": 1, "sent": 0}
    one.centrals.disconnected(B)
    assert "ble AA:00:00:00:00:02: disconnected; messages: 1 received, 1 refused, 0 sent" in caplog.text


STEPS = st.lists(
    st.tuples(st.sampled_from(["connected", "subscribed", "reserve", "disconnected"]), st.sampled_from([A, B]))
)


@given(single=st.booleans(), steps=STEPS)
def test_a_central_that_was_promised_to_be_alone_is_alone_until_it_leaves_or_subscribes(
    single: bool, steps: list[tuple[str, str]]
) -> None:
    """Whatever happens; and nobody is kept out for longer than that."""

    async def run() -> None:
        one = Rig(single=single)
        promised = ""
        for step, key in steps:
            result = getattr(one.centrals, step)(key)
            if step == "reserve" and result:
                promised = key
            elif step in ("subscribed", "disconnected") and promised == key:
                promised = ""
            keys = one.centrals.keys
            assert not promised or keys == (promised,)
            assert one.centrals.full == (bool(promised) or (single and bool(keys)))
            assert len(keys) <= (1 if single or promised else 2)
        one.centrals.close()

    asyncio.run(run())

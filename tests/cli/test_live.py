"""The state behind the live display."""

from smp_dfu_host.cli.live import Board
from smp_dfu_host.cli.render import ClientLine
from smp_dfu_host.dispatch.events import BlePeerConnParamsEvent, EventManager, PeerJoined, PeerLeft
from smp_dfu_host.dispatch.hooks import ChunkWritten, CommandReceived, DfuPending, DfuStopped, Event, Hooks
from smp_dfu_host.dispatch.peer import Peer
from tests.fakes import FakeClock, at_once

PHONE = Peer("ble", "AA:BB:CC:DD:EE:FF", "ble:AA:BB:CC:DD:EE:FF")
LAPTOP = Peer("udp", "127.0.0.1:5", "udp:127.0.0.1")


class Bench:
    """A board on real events and hooks, with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.events, self.hooks = EventManager(self.clock), Hooks()
        self.board = Board(self.clock.time)
        self.board.watch(self.events, self.hooks)

    def submit(self, event: object) -> None:
        self.events.submit(event)
        self.clock.advance(0)

    def command(self, group: int, command: int, op: int = 2) -> None:
        at_once(self.hooks.notify(Event.CMD_RECV, CommandReceived(group, command, op, PHONE)))

    def chunk(self, off: int, size: int = 200_000) -> None:
        self.command(1, 1)
        at_once(self.hooks.notify(Event.IMG_DFU_CHUNK_WRITE_COMPLETE, ChunkWritten(PHONE, 0, 1, off, size)))

    @property
    def line(self) -> ClientLine:
        return self.board.lines()[0]


def test_clients_come_and_go() -> None:
    bench = Bench()
    bench.submit(PeerJoined(PHONE))
    bench.submit(PeerJoined(LAPTOP))
    assert [line.who for line in bench.board.lines()] == ["ble AA:BB:CC:DD:EE:FF", "udp 127.0.0.1:5"]
    bench.submit(PeerLeft(PHONE))
    bench.submit(PeerLeft(PHONE))
    assert [line.who for line in bench.board.lines()] == ["udp 127.0.0.1:5"]


def test_connection_interval_is_shown_as_long_as_it_is_known() -> None:
    bench = Bench()
    bench.submit(PeerJoined(PHONE))
    bench.submit(PeerJoined(LAPTOP))
    bench.submit(BlePeerConnParamsEvent(PHONE.address, 7.5, 0, 4000))
    assert [line.who for line in bench.board.lines()] == ["ble AA:BB:CC:DD:EE:FF every 7.5 ms", "udp 127.0.0.1:5"]
    bench.submit(PeerLeft(PHONE))
    bench.submit(PeerJoined(PHONE))
    assert bench.board.lines()[-1].who == "ble AA:BB:CC:DD:EE:FF"


def test_last_command_is_named() -> None:
    bench = Bench()
    bench.command(0, 0)
    assert bench.line.what == "echo"
    bench.command(1, 0, op=2)
    assert bench.line.what == "image state (write)"
    bench.command(1, 0, op=0)
    assert bench.line.what == "image state"
    bench.command(64, 3, op=0)
    assert bench.line.what == "group 64 command 3"


def test_upload_shows_how_far_and_how_fast() -> None:
    bench = Bench()
    bench.command(1, 1)
    assert bench.line.what == "upload"
    for second in range(5):
        bench.chunk(1000 + 20_000 * second)
        bench.clock.advance(1)
    assert (bench.line.done, bench.line.total, bench.line.rate) == (81_000, 200_000, 20_000)
    assert bench.line.what == "to slot 1"


def test_speed_is_that_of_the_last_seconds() -> None:
    bench = Bench()
    bench.chunk(0)
    bench.clock.advance(100)
    bench.chunk(1000)
    bench.clock.advance(1)
    bench.chunk(31_000)
    assert bench.line.rate == 30_000


def test_silence_is_no_speed() -> None:
    bench = Bench()
    bench.chunk(0)
    bench.clock.advance(1)
    bench.chunk(1000)
    bench.clock.advance(3)
    assert bench.line.rate == 0
    assert bench.line.numbers.endswith("waiting")


def test_upload_begun_anew_has_no_negative_speed() -> None:
    bench = Bench()
    bench.chunk(100_000)
    bench.clock.advance(1)
    bench.chunk(500)
    assert bench.line.rate == 0


def test_end_of_an_upload_takes_the_bar_away() -> None:
    bench = Bench()
    bench.chunk(100_000)
    at_once(bench.hooks.notify(Event.IMG_DFU_PENDING, DfuPending(PHONE, 0, 1, 200_000)))
    assert bench.line == ClientLine("ble AA:BB:CC:DD:EE:FF", "uploaded 200.0 kB")


def test_failed_upload_says_why() -> None:
    bench = Bench()
    bench.chunk(100_000)
    at_once(bench.hooks.notify(Event.IMG_DFU_STOPPED, DfuStopped(PHONE, "flash is full")))
    assert bench.line.what == "failed: flash is full"
    assert not bench.line.total

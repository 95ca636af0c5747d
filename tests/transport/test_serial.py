"""Serial lines over real ptys."""

import asyncio
import errno
import logging
import os
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from smp import packet as console

from smp_dfu_host.config import SerialConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.serial import FRAMINGS, SerialTransport, lines
from smp_dfu_host.transport.tty import explain_link, explain_tty
from tests.client import LineChannel
from tests.transport.inbox import RecordingInbox

ECHO = bytes.fromhex("08 00 0003 0000 07 00 a16164")


@asynccontextmanager
async def serving(transport: SerialTransport) -> AsyncIterator[RecordingInbox]:
    inbox = RecordingInbox()
    await transport.open(inbox)
    await transport.online()
    try:
        async with asyncio.timeout(10):
            yield inbox
    finally:
        await transport.close()


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "line"


def pty(link: Path, stall_s: float = 10.0) -> SerialTransport:
    return SerialTransport(SerialConfig(pty=link), 2475, stall_s=stall_s)


class Wire:
    """A cable with a plug: what a USB adapter looks like from both ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plug()

    def plug(self) -> None:
        self.far, self._near = os.openpty()
        os.set_blocking(self.far, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._near))

    def unplug(self) -> None:
        os.close(self.far)
        os.close(self._near)
        self.path.unlink()


async def logged(words: str) -> None:
    """Wait until the transport logs that."""
    seen = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                seen.set()

    listener, log = Listener(), logging.getLogger("smp_dfu_host.transport.serial")
    log.addHandler(listener)
    try:
        await seen.wait()
    finally:
        log.removeHandler(listener)


async def test_request_and_reply_cross_a_pty(link: Path) -> None:
    async with serving(pty(link)) as inbox:
        client = LineChannel(link)
        await client.send(ECHO)
        peer_link, packet = await inbox.next()
        await peer_link.send(bytes(range(256)) * 9)
        assert packet == ECHO
        assert await client.receive() == bytes(range(256)) * 9
        assert (peer_link.peer.owner, peer_link.buf_size) == (f"serial:{link}", 2475)
        client.close()


async def test_open_says_where() -> None:
    transport = pty(Path("/tmp/smp-dfu-host-test-line"))
    assert await transport.open(RecordingInbox()) == {"transport": "serial", "path": "/tmp/smp-dfu-host-test-line"}
    await transport.close()


async def test_pty_outlives_clients_that_close_it(link: Path) -> None:
    async with serving(pty(link)) as inbox:
        for number in range(3):
            client = LineChannel(link)
            await client.send(ECHO)
            peer_link, _ = await inbox.next()
            await peer_link.send(b"reply %d" % number)
            assert await client.receive() == b"reply %d" % number
            client.close()
        assert len(inbox.present) == 1


async def test_packet_in_pieces_and_between_other_text_is_found(link: Path) -> None:
    text = b"boot: hello\r\n" + b"".join(console.encode(ECHO, line_length=12)) + b"more text\n"
    async with serving(pty(link)) as inbox:
        client = LineChannel(link)
        for byte in text:
            await client.write(bytes([byte]))
        assert (await inbox.next())[1] == ECHO
        client.close()


async def test_pty_is_raw_even_for_clients_that_set_nothing(link: Path) -> None:
    async with serving(pty(link)):
        fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
        iflag, oflag, _, lflag, *_ = termios.tcgetattr(fd)
        os.close(fd)
    assert (iflag, oflag, lflag) == (0, 0, 0)


async def test_full_inbox_stops_the_reading_and_loses_nothing(link: Path) -> None:
    packets = [bytes([number]) * 1000 for number in range(100)]
    async with serving(pty(link)) as inbox:
        inbox.room.clear()
        client = LineChannel(link)
        sending = asyncio.create_task(client.send_all(packets))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.05)
        inbox.room.set()
        assert [(await inbox.next())[1] for _ in packets] == packets
        await sending
        client.close()


async def test_reply_that_nobody_reads_is_dropped_and_the_line_goes_on(link: Path) -> None:
    async with serving(pty(link, stall_s=0.05)) as inbox:
        client = LineChannel(link)
        await client.send(ECHO)
        peer_link, _ = await inbox.next()
        with pytest.raises(TransportError, match="nobody reads"):
            await peer_link.send(bytes(60_000))
        assert inbox.gone == [peer_link]
        await client.send(ECHO)
        fresh, _ = await inbox.next()
        await fresh.send(b"fresh")
        assert await client.receive() == b"fresh"
        client.close()


async def test_reply_that_was_given_up_half_way_does_not_swallow_the_next(link: Path) -> None:
    async with serving(pty(link)) as inbox:
        client = LineChannel(link)
        await client.send(ECHO)
        peer_link, _ = await inbox.next()
        sending = asyncio.create_task(peer_link.send(bytes(60_000)))
        await asyncio.sleep(0)
        sending.cancel()
        next_one = asyncio.create_task(peer_link.send(b"the next"))
        while (line := await client.line()) != b"".join(console.encode(b"the next")):
            assert line[:2] in (console.START_DELIMITER, console.CONTINUE_DELIMITER)
        await next_one
        client.close()


async def test_reply_that_the_line_takes_at_once_is_sent_now(link: Path) -> None:
    async with serving(pty(link)) as inbox:
        client = LineChannel(link)
        await client.send(ECHO)
        peer_link, _ = await inbox.next()
        assert peer_link.send_now(b"now")
        assert peer_link.send_now(b"and now")
        assert [await client.receive(), await client.receive()] == [b"now", b"and now"]
        client.close()


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_reply_that_the_line_takes_in_part_is_sent_on_from_there(link: Path, framing: str) -> None:
    """`send` of the same message sends the rest; of another one, what was begun is given up."""
    large = [bytes([number]) * 60_000 for number in (1, 2)]
    async with serving(SerialTransport(SerialConfig(pty=link, framing=framing), 60_000)) as inbox:
        client = LineChannel(link)
        await (client.write(ECHO) if framing == "raw" else client.send(ECHO))
        peer_link, _ = await inbox.next()
        expected = b"".join(FRAMINGS[framing](60_000).split(large[0]))
        assert not peer_link.send_now(large[0])
        sending = asyncio.create_task(peer_link.send(large[0]))
        assert await client.exactly(len(expected)) == expected
        await sending
        assert not peer_link.send_now(large[1])
        assert not peer_link.send_now(b"the line is full, and in the middle of another one")
        next_one = asyncio.create_task(peer_link.send(b"the next"))
        end = FRAMINGS[framing](60_000).RESYNC + b"".join(FRAMINGS[framing](60_000).split(b"the next"))
        seen = b""
        while not seen.endswith(end):
            seen += await client.exactly(1)
        assert b"in the middle" not in seen
        await next_one
        client.close()


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_message_of_the_whole_buffer_crosses_the_line_in_every_framing(link: Path, framing: str) -> None:
    largest = bytes.fromhex("08 00 0178 0000 07 00") + bytes(376)
    async with serving(SerialTransport(SerialConfig(pty=link, framing=framing), 384)) as inbox:
        client = LineChannel(link)
        plain = framing == "raw"
        await (client.write(largest) if plain else client.send(largest))
        peer_link, packet = await inbox.next()
        await peer_link.send(largest)
        assert packet == largest
        assert await (client.exactly(384) if plain else client.receive()) == largest
        client.close()


async def test_raw_reply_that_was_given_up_half_way_puts_nothing_of_ours_before_the_next(link: Path) -> None:
    async with serving(SerialTransport(SerialConfig(pty=link, framing="raw"), 384)) as inbox:
        client = LineChannel(link)
        await client.write(ECHO)
        peer_link, _ = await inbox.next()
        sending = asyncio.create_task(peer_link.send(bytes(60_000)))
        await asyncio.sleep(0)
        sending.cancel()
        next_one = asyncio.create_task(peer_link.send(b"the next"))
        seen = b""
        while not seen.endswith(b"the next"):
            seen += await client.exactly(1)
        assert seen.strip(b"\0") == b"the next"
        await next_one
        client.close()


async def test_noise_on_a_raw_line_is_dropped_and_told(link: Path) -> None:
    async with serving(SerialTransport(SerialConfig(pty=link, framing="raw"), 384)) as inbox:
        client = LineChannel(link)
        heard = asyncio.create_task(logged("1 broken packets dropped"))
        await asyncio.sleep(0)
        await client.write(b"\xff" * 8)
        await heard
        await client.write(ECHO)
        assert (await inbox.next())[1] == ECHO
        client.close()


async def test_offline_drops_the_link_and_what_arrives(link: Path) -> None:
    transport = pty(link)
    async with serving(transport) as inbox:
        client = LineChannel(link)
        await client.send(b"before!!")
        peer_link, _ = await inbox.next()
        await transport.offline()
        assert (inbox.gone, link.is_symlink()) == ([peer_link], True)
        with pytest.raises(TransportError, match="gone"):
            await peer_link.send(b"late reply")
        await client.send(b"while away")
        await transport.online()
        await client.send(b"after!!!")
        assert (await inbox.next())[1] == b"after!!!"
        client.close()


async def test_link_goes_with_the_transport(link: Path) -> None:
    transport = pty(link)
    async with serving(transport):
        assert link.is_symlink()
    assert not link.is_symlink()
    await transport.close()


async def test_link_that_was_replaced_by_somebody_is_left_alone(link: Path) -> None:
    async with serving(pty(link)):
        link.unlink()
        link.write_text("mine")
    assert link.read_text() == "mine"


async def test_stale_link_is_replaced(link: Path) -> None:
    link.symlink_to("/dev/pts/99999")
    async with serving(pty(link)):
        client = LineChannel(link)
        client.close()


async def test_path_that_another_server_holds_is_refused(link: Path) -> None:
    async with serving(pty(link)):
        target = os.readlink(link)
        with pytest.raises(TransportError, match="another process serves it"):
            await pty(link).open(RecordingInbox())
        assert os.readlink(link) == target


async def test_file_is_never_overwritten(link: Path) -> None:
    link.write_text("precious")
    with pytest.raises(TransportError, match="no link to a pty; remove it"):
        await pty(link).open(RecordingInbox())
    assert link.read_text() == "precious"
    link.unlink()
    link.symlink_to("/etc/passwd")
    with pytest.raises(TransportError, match="no link to a pty"):
        await pty(link).open(RecordingInbox())


async def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=f"there is no folder {tmp_path}/none"):
        await pty(tmp_path / "none" / "line").open(RecordingInbox())


async def test_tty_carries_a_packet_each_way(link: Path) -> None:
    wire = Wire(link)
    async with serving(SerialTransport(SerialConfig(device=link, baudrate=115200), 384)) as inbox:
        os.write(wire.far, b"".join(console.encode(ECHO)))
        peer_link, packet = await inbox.next()
        await peer_link.send(b"reply")
        reply = os.read(wire.far, 4096)
    assert (packet, reply) == (ECHO, b"".join(console.encode(b"reply")))
    wire.unplug()


async def test_tty_that_is_unplugged_comes_back(link: Path, caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(link)
    async with serving(SerialTransport(SerialConfig(device=link), 384, retry_s=0.01)) as inbox:
        os.write(wire.far, b"".join(console.encode(b"first...")))
        first, _ = await inbox.next()
        with caplog.at_level(logging.INFO):
            wire.unplug()
            await inbox.departed.wait()
            wire.plug()
            await logged("back")
        os.write(wire.far, b"".join(console.encode(b"second..")))
        second, packet = await inbox.next()
        with pytest.raises(TransportError):
            await first.send(b"reply to the first")
        assert (packet, second is first) == (b"second..", False)
        assert "looking for it" in caplog.text
    wire.unplug()


async def test_close_while_unplugged(link: Path) -> None:
    wire = Wire(link)
    transport = SerialTransport(SerialConfig(device=link), 384, retry_s=0.01)
    async with serving(transport):
        wire.unplug()
    await transport.close()


async def test_reply_in_flight_ends_when_the_line_is_closed(link: Path) -> None:
    transport = pty(link)
    async with serving(transport) as inbox:
        client = LineChannel(link)
        await client.send(ECHO)
        peer_link, _ = await inbox.next()
        sending = asyncio.create_task(peer_link.send(bytes(60_000)))
        await asyncio.sleep(0)
        await transport.close()
        with pytest.raises(TransportError):
            await sending
        client.close()


@pytest.mark.parametrize(
    ("device", "words"), [("/dev/ttyNONE9", "no such tty"), ("/dev/null", "not a serial port"), ("/", "director")]
)
async def test_bad_device_is_explained(device: str, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        await SerialTransport(SerialConfig(device=Path(device)), 384).open(RecordingInbox())


async def test_odd_baudrate_names_the_nearest(link: Path) -> None:
    wire = Wire(link)
    with pytest.raises(TransportError, match=r"100000 baud is not possible; choose .*115200"):
        await SerialTransport(SerialConfig(device=link, baudrate=100000), 384).open(RecordingInbox())
    wire.unplug()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    assert "usermod -aG" in explain_tty(PermissionError(errno.EACCES, ""), tmp_path / "tty")
    assert "dialout" in explain_tty(PermissionError(errno.EACCES, ""), tmp_path / "tty")
    assert "fuser" in explain_tty(OSError(errno.EBUSY, ""), tmp_path)
    assert "choose another path" in explain_link(PermissionError(errno.EACCES, ""), tmp_path)
    assert explain_link(OSError(errno.EIO, "broken"), tmp_path) == "broken"


def test_a_tty_and_a_pty_are_two_lines() -> None:
    tty, made = Path("/dev/ttyS0"), Path("/tmp/line")
    both = SerialConfig(device=tty, pty=made)
    assert [(line.device, line.pty) for line in lines(both)] == [(tty, None), (None, made)]
    assert list(lines(SerialConfig())) == []

"""What both apps do alike: requests with sequence numbers and time limits, and what comes back."""

import asyncio
import struct
from typing import Any

import cbor2

from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.loopback import LoopbackTransport
from tests.apps.radio import Air, Radio
from tests.fakes import BLE

HEADER = struct.Struct(">BBHHBB")
READ, WRITE = 0, 2
OS, IMAGE, SETTINGS, BASIC, MEMFAULT = 0, 1, 3, 63, 128
ECHO, RESET, PARAMS, INFO, BOOT_INFO = 0, 5, 6, 7, 8
STATE, UPLOAD, ERASE, SLOT_INFO = 0, 1, 5, 6
NOT_SUPPORTED = 8

Reply = dict[str, Any]


class Refused(Exception):  # noqa: N818  (it says what it is)
    """The device answered with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply
        self.group: int | None = reply.get("err", {}).get("group")
        """The group that defines `rc`; None: a code of SMP's own."""
        self.rc = int(reply.get("err", reply)["rc"])


class UpgradeFailed(Exception):  # noqa: N818  (the apps' word)
    """The app shows that to the user."""


class Phone:
    """A phone with one connection at a time.

    Args:
        transport: Of the device.
        air: What lies between them.
        peer: Who the phone is.
    """

    def __init__(self, transport: LoopbackTransport, air: Air | None = None, peer: Peer = BLE) -> None:
        self.air = air or Air()
        self.latest = b""
        """The last reply that was waited for."""
        self._transport = transport
        self._peer = peer
        self._radio: Radio | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._connecting = asyncio.Lock()

    @property
    def radio(self) -> Radio:
        """The connection."""
        assert self._radio is not None, "not connected"
        return self._radio

    async def connect(self) -> None:
        """Connect as the app does, up to where requests can be sent."""
        await self.link(10.0)

    async def link(self, limit_s: float) -> None:
        """Connect, as soon as the device can be reached.

        Raises:
            TimeoutError: If it could not be reached in that time.
        """
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    self._radio = Radio(self.air, self._transport, self._arrived, self._peer)
                except TransportError:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def unlink(self) -> None:
        """Disconnect."""
        await self.radio.drop()

    async def exchange(self, frame: bytes, limit_s: float) -> bytes:
        """Send a frame, over a new connection if the old one is gone; return the reply with its sequence number.

        Raises:
            TimeoutError: If none came in that time; then a later one is not expected any more.
        """
        async with self._connecting:
            if self.radio.dropped.is_set():
                await self.connect()
        return await self._exchange(frame, limit_s)

    async def _exchange(self, frame: bytes, limit_s: float) -> bytes:
        sequence = frame[6]
        future = self._waiting[sequence] = asyncio.get_running_loop().create_future()
        try:
            self.radio.write(frame)
            async with asyncio.timeout(limit_s):
                self.latest = await future
                return self.latest
        finally:
            if self._waiting.get(sequence) is future:
                del self._waiting[sequence]

    def _arrived(self, reply: bytes) -> None:
        """Hand a reply to who waits for its number; others are dropped, as both apps do."""
        future = self._waiting.get(reply[6])
        if future is not None and not future.done():
            future.set_result(reply)


def frame(op: int, group: int, command: int, body: Reply, sequence: int, version: int = 1) -> bytes:
    """Return a request."""
    payload = cbor2.dumps(body)
    return HEADER.pack(version << 3 | op, 0, len(payload), group, sequence, command) + payload


def body_of(request: bytes, reply: bytes) -> Reply:
    """Return a reply's body.

    Raises:
        Refused: If it is an error.
    """
    asked, answer = HEADER.unpack_from(request), HEADER.unpack_from(reply)
    assert answer[3:] == asked[3:], f"reply {answer} to the request {asked}"
    assert answer[0] & 7 == (asked[0] & 7) + 1, f"reply {answer} to the request {asked}"
    body: Reply = cbor2.loads(reply[HEADER.size :])
    if "err" in body:
        assert body["err"].keys() == {"group", "rc"}, "Android cannot read more than that"
    if body.get("err", body).get("rc", 0):
        raise Refused(body)
    return body

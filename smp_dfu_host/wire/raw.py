"""Messages without framing: put together by the length in their headers, or one datagram each.

     packet 1            packet 2       packet 3
    [header | CBOR...]  [...CBOR...]   [...CBOR]     one message over three Bluetooth writes

One framing serves one peer, so that a peer that stops in the middle of a message costs nobody else anything.
"""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from smp_dfu_host.errors import WireError
from smp_dfu_host.wire.header import Header, Op


class Framing(Protocol):
    """How packets of whole messages travel over a link; no I/O, one for each peer."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what arrived and return the packets that it completes.

        Raises:
            WireError: If what arrived can be no part of a message; nothing of it is kept.
        """
        ...

    def split(self, message: bytes, size: int) -> Iterator[bytes]:
        """Return the pieces in which the message goes out, of at most so many bytes each."""
        ...

    def reset(self) -> None:
        """Forget the message that is under way."""
        ...


class RawFraming:
    """Puts messages together from pieces of any size: Bluetooth LE writes, raw serial.

    Args:
        max_size: Largest message taken, header included, in bytes; a limit for safety.
        clock: Returns monotonic time in seconds.
        timeout_s: A message whose next piece takes longer is forgotten; else a broken one would swallow the next
            (CONFIG_MCUMGR_TRANSPORT_SERIAL_RAW_INPUT_TIMEOUT_TIME_MS is 3 s in Zephyr's raw serial too).
        aligned: True where every message begins at the start of a piece or straight behind another one, as over
            Bluetooth LE: less than a header behind a whole message is refused instead of kept.
        noisy: True where bytes may be damaged or no messages at all, as on a serial line: an op that there is none of
            is refused instead of answered (zephyr subsys/mgmt/mcumgr/transport/src/serial_util.c, raw frames).
    """

    def __init__(
        self,
        max_size: int,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = 3.0,
        *,
        aligned: bool = False,
        noisy: bool = False,
    ) -> None:
        self._max_size = max_size
        self._clock = clock
        self._timeout_s = timeout_s
        self._aligned = aligned
        self._noisy = noisy
        self._buffer = bytearray()
        self._fed_at = 0.0
        self.expired = 0
        """How many messages were forgotten for want of their next piece."""

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take a piece; return the messages that it completes.

        Raises:
            WireError: While iterating, behind the last good message: if a message is larger than allowed, is followed
                by less than a header where that cannot be, or is noise; nothing is kept.
        """
        now = self._clock()
        if self._buffer and now - self._fed_at > self._timeout_s:
            self.expired += 1
            self._buffer.clear()
        self._fed_at = now
        self._buffer += data
        return self._messages()

    def _messages(self) -> Iterator[bytes]:
        whole = False
        while len(self._buffer) >= Header.SIZE:
            size = self._checked_size(Header.parse(self._buffer))
            if len(self._buffer) < size:
                return
            message = bytes(self._buffer[:size])
            del self._buffer[:size]
            whole = True
            yield message
        if whole and self._aligned and self._buffer:
            extra = len(self._buffer)
            self._buffer.clear()
            raise WireError(f"{extra} bytes behind a whole message")

    def _checked_size(self, header: Header) -> int:
        """Return the size of the message that begins with that header."""
        size = Header.SIZE + header.length
        if size > self._max_size:
            self._buffer.clear()
            raise WireError(f"message of {size} bytes, limit is {self._max_size}")
        if self._noisy and header.op > max(Op):
            self._buffer.clear()
            raise WireError(f"message with op {header.op}, the highest is {max(Op)}")
        return size

    def split(self, message: bytes, size: int) -> Iterator[bytes]:
        """Return the message in pieces of at most so many bytes."""
        return (message[start : start + size] for start in range(0, len(message), size))

    def reset(self) -> None:
        """Forget the message that is under way, as when the link is lost or the peer unsubscribes."""
        self._buffer.clear()


class DatagramFraming:
    """One datagram is one packet, both ways."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return the datagram; an empty one is nothing."""
        return iter((data,) if data else ())

    def split(self, message: bytes, size: int) -> Iterator[bytes]:
        """Return the message as it is.

        Raises:
            WireError: If it is larger than a datagram may be.
        """
        if len(message) > size:
            raise WireError(f"message of {len(message)} bytes, datagrams hold {size}")
        return iter((message,))

    def reset(self) -> None:
        """Do nothing: no message is ever under way."""

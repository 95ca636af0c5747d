"""Messages straight on a serial line, one behind the other: no lines, no base64, no CRC.

    [header | CBOR...][header | CBOR...]...

Where a message ends its header alone says, so this is for lines that lose nothing, such as USB. Noise is told by a
header that cannot be: an op above 3, or more than the buffer holds. Then all that has arrived is dropped, and so is a
message whose rest does not come within three seconds (zephyr subsys/mgmt/mcumgr/transport/src/smp_raw_uart.c).
"""

import time
from collections.abc import Callable, Iterator

from smp_dfu_host.errors import WireError
from smp_dfu_host.wire.raw import RawFraming


class RawSerialFraming:
    """Finds messages in the bytes of a tty and writes them as they are.

    Args:
        max_size: Largest message taken, header included, in bytes.
        clock: Returns monotonic time in seconds.
    """

    RESYNC = b""
    """Behind a message that went out in part: nothing helps, the peer waits for the rest until its own time limit."""

    def __init__(self, max_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._messages = RawFraming(max_size, clock, noisy=True)
        self._broken = 0

    @property
    def dropped(self) -> int:
        """How many messages were broken or never completed."""
        return self._broken + self._messages.expired

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the tty; yield the messages that they complete. What is broken is dropped and counted."""
        try:
            yield from self._messages.feed(data)
        except WireError:
            self._broken += 1

    def split(self, message: bytes) -> Iterator[bytes]:
        """Return the message in one piece."""
        return iter((message,))

    def reset(self) -> None:
        """Forget the message that is under way."""
        self._messages.reset()

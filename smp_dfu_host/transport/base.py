"""What every transport is: bytes from peers to the inbox, and replies back.

A transport lives through resets: `open` once, then `online` and `offline` around every run of the boot loader, `close`
at the end. Between `offline` and `online` the device is "rebooting": links are dropped for real and what arrives is
lost.
"""

from collections.abc import Mapping
from typing import Protocol

from smp_dfu_host.dispatch.peer import Inbox


class Transport(Protocol):
    """A way for peers to reach the server."""

    @property
    def name(self) -> str:
        """`ble`, `udp` or `serial`."""
        ...

    async def open(self, inbox: Inbox) -> Mapping[str, str | int]:
        """Acquire what is needed (socket, tty, GATT registration) and return where we are reached, for the ready line.

        Raises:
            TransportError: If something is missing; the message says what, and what to do about it.
        """
        ...

    async def online(self) -> None:
        """Take peers and packets from now on."""
        ...

    async def offline(self) -> None:
        """Drop every link for real and take no packets until `online`; returns when the links are down."""
        ...

    async def close(self) -> None:
        """Give back what `open` acquired; can be called twice."""
        ...

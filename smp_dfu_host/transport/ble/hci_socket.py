"""A raw HCI socket: commands past bluetoothd to the controller, and a copy of what the controller says.

The kernel lets nobody send the commands, or see the events, without CAP_NET_RAW (linux net/bluetooth/hci_sock.c,
hci_sec_filter). bluetoothd and the kernel go on undisturbed: both see the same events, and commands of this socket go
through the kernel's own queue.
"""

import asyncio
import ctypes
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from smp_dfu_host.transport.ble.hci import AF_BLUETOOTH, BTPROTO_HCI
from smp_dfu_host.transport.ble.hci_packets import COMMAND_STATUS, DISCONNECTION_COMPLETE, EVENT, LE_META

log = logging.getLogger(__name__)

SOL_HCI, HCI_FILTER = 0, 2
HCI_CHANNEL_RAW = 0
PACKETS_A_TURN = 32
"""How many packets are taken before everything else has its turn."""
LONGEST = 260
"""Bytes of an event: three of header, 255 of parameters, one of packet type."""

_FILTER = struct.Struct("=IQHxx")
"""struct hci_ufilter: packet types, event codes (bit by bit), an opcode."""


class Controller(Protocol):
    """Where commands go."""

    def send(self, packet: bytes) -> None:
        """Give the controller a command.

        Raises:
            OSError: If it is not taken.
        """
        ...

    def close(self) -> None:
        """Send and hear nothing any more; can be called twice."""
        ...


class HciSocket:
    """A socket bound to one adapter (see `Controller`).

    Args:
        adapter: Such as `hci0`.
        heard: Called with each event of the kinds that `hci_packets.parse` knows, and some others.

    Raises:
        PermissionError: Without CAP_NET_RAW.
        OSError: If there is no such adapter.
    """

    def __init__(self, adapter: str, heard: Callable[[bytes], None]) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = socket.socket(AF_BLUETOOTH, kind, BTPROTO_HCI)
        self._heard = heard
        try:
            _bind(self._sock, int(adapter.removeprefix("hci")))
            _listen(self._sock)
        except BaseException:
            self._sock.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._readable)

    def send(self, packet: bytes) -> None:
        """Give the controller a command.

        Raises:
            OSError: If it is not taken.
        """
        self._sock.send(packet)

    def close(self) -> None:
        """Send and hear nothing any more; can be called twice."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        try:
            for _ in range(PACKETS_A_TURN):
                self._heard(self._sock.recv(LONGEST))
        except BlockingIOError:
            return
        except OSError as exc:  # the adapter was removed
            log.debug("HCI socket: %s", exc.strerror)
            self.close()


def _bind(sock: socket.socket, number: int) -> None:
    """Bind by libc: a Python built without bluetooth.h knows no such addresses."""
    libc = ctypes.CDLL(None, use_errno=True)
    where = struct.pack("=HHH", AF_BLUETOOTH, number, HCI_CHANNEL_RAW)
    if libc.bind(sock.fileno(), where, len(where)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _listen(sock: socket.socket) -> None:
    """Choose the events; the kernel takes away, in silence, what we may not see."""
    events = 1 << DISCONNECTION_COMPLETE | 1 << COMMAND_STATUS | 1 << LE_META
    sock.setsockopt(SOL_HCI, HCI_FILTER, _FILTER.pack(1 << EVENT, events, 0))
    _, allowed, _ = _FILTER.unpack(sock.getsockopt(SOL_HCI, HCI_FILTER, _FILTER.size))
    if allowed != events:
        raise PermissionError("CAP_NET_RAW is missing")

"""In the virtual machine: enable a controller's scan anew while it scans, so that it hears advertisers again and again.

btvirt reports an advertiser once per scan, not every advertising interval, and who misses that one report, as a client
that listens only after the scan has begun, never hears it. Usage: rescan.py NUMBER_OF_CONTROLLERS. It imports little,
and sleeps while nobody scans: the processor is an emulated one.
"""

import ctypes
import os
import select
import socket
import struct
import sys
import time

AF_BLUETOOTH, BTPROTO_HCI = 31, 1
SOL_HCI, HCI_FILTER = 0, 2
COMMANDS_ONLY = struct.pack("=IQHxx", 1 << 1, 0, 0)
"""struct hci_ufilter: packet types, event codes, an opcode."""
SCAN = struct.Struct("<BHBB")
"""Packet type, opcode, length; then whether to scan."""
COMMAND, LE_SET_SCAN_ENABLE = 0x01, 0x200C
AGAIN_S = 0.7

_libc = ctypes.CDLL(None, use_errno=True)


class Controller:
    """One controller: what it has been told about scanning, by whomever."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._sock: socket.socket | None = None
        self.scans = False

    def socket(self) -> socket.socket | None:
        """Return where its commands are heard; None while it is away."""
        if self._sock is None:
            sock = socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_NONBLOCK, BTPROTO_HCI)
            where = struct.pack("=HHH", AF_BLUETOOTH, self._number, 0)
            if _libc.bind(sock.fileno(), where, len(where)):  # this Python may know no such addresses
                sock.close()
                return None
            sock.setsockopt(SOL_HCI, HCI_FILTER, COMMANDS_ONLY)
            self._sock = sock
        return self._sock

    def heard(self) -> None:
        """Take the commands that others have given."""
        try:
            while packet := self._sock.recv(260) if self._sock else b"":
                if len(packet) > SCAN.size and SCAN.unpack_from(packet)[:2] == (COMMAND, LE_SET_SCAN_ENABLE):
                    self.scans = bool(packet[4])
        except BlockingIOError:
            return
        except OSError:
            pass
        self._gone()

    def again(self) -> None:
        """Enable the scan anew."""
        try:
            if self._sock:
                self._sock.send(SCAN.pack(COMMAND, LE_SET_SCAN_ENABLE, 2, 1) + b"\x01")
        except OSError:
            self._gone()

    def _gone(self) -> None:
        if self._sock:
            self._sock.close()
        self._sock, self.scans = None, False


def main(count: int) -> None:
    """Run for ever."""
    controllers = [Controller(number) for number in range(count)]
    due = 0.0
    while True:
        there = {sock.fileno(): each for each in controllers if (sock := each.socket())}
        scanning = any(each.scans for each in controllers)
        patience = max(0.0, due - time.monotonic()) if scanning or len(there) < count else None
        for descriptor in select.select(list(there), [], [], patience)[0]:
            there[descriptor].heard()
        if time.monotonic() >= due:
            due = time.monotonic() + AGAIN_S
            for each in controllers:
                if each.scans:
                    each.again()


if __name__ == "__main__":
    os.nice(-5)
    main(int(sys.argv[1]))

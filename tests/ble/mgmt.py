"""Virtual controllers turned on and off as bluetoothd does, by the kernel's management socket (bluez doc/mgmt-api.txt).

A program such as btmgmt takes the emulated processor half a second to start.
"""

import ctypes
import os
import socket
import struct
import time
from pathlib import Path

from smp_dfu_host.transport.ble.hci import AF_BLUETOOTH, BTPROTO_HCI

HCI_DEV_NONE, HCI_CHANNEL_CONTROL = 0xFFFF, 3
SET_POWERED, SET_CONNECTABLE, SET_ADVERTISING = 0x0005, 0x0007, 0x0029
COMMAND_COMPLETE, COMMAND_STATUS = 0x0001, 0x0002
SUCCESS, BUSY = 0x00, 0x0A
HEADER = struct.Struct("<HHH")
"""Command or event, controller, length of what follows."""
ANSWER = struct.Struct("<HB")
"""Command, status: how a Command Complete and a Command Status begin."""
ANSWER_S = 10.0


def controllers() -> list[int]:
    """The numbers of those that the kernel has."""
    return sorted(int(path.name[3:]) for path in Path("/sys/class/bluetooth").glob("hci[0-9]"))


def switch(controller: int, setting: int, *, on: bool) -> None:
    """Turn a setting on or off; returns when the kernel has done it."""
    with socket.socket(AF_BLUETOOTH, socket.SOCK_RAW, BTPROTO_HCI) as sock:
        libc = ctypes.CDLL(None, use_errno=True)  # this Python may know no such addresses
        where = struct.pack("=HHH", AF_BLUETOOTH, HCI_DEV_NONE, HCI_CHANNEL_CONTROL)
        if libc.bind(sock.fileno(), where, len(where)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        sock.settimeout(ANSWER_S)
        while (status := _ask(sock, controller, setting, on=on)) == BUSY:
            time.sleep(0.05)
    assert status == SUCCESS, f"setting 0x{setting:04x} of hci{controller}: status 0x{status:02x}"


def _ask(sock: socket.socket, controller: int, setting: int, *, on: bool) -> int:
    """Return the status."""
    sock.send(HEADER.pack(setting, controller, 1) + bytes([on]))
    while True:
        packet = sock.recv(512)
        event, about, _ = HEADER.unpack_from(packet)
        if event in (COMMAND_COMPLETE, COMMAND_STATUS) and about == controller:
            command, status = ANSWER.unpack_from(packet, HEADER.size)
            if command == setting:
                return int(status)

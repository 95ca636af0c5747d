"""Which connections came in to us, asked of the kernel: BlueZ does not say it over D-Bus.

The adapter of a laptop also carries its mouse and its headphones. Those must not count as centrals, and must not be
disconnected when the target "reboots". The ioctl needs no privilege (linux net/bluetooth/hci_conn.c,
hci_get_conn_list).

    struct hci_conn_list_req   dev_id u16, conn_num u16, then conn_num times
    struct hci_conn_info       handle u16, bdaddr 6 bytes, type u8, out u8, state u16, link_mode u32
"""

import fcntl
import socket
import struct

AF_BLUETOOTH = 31
BTPROTO_HCI = 1
HCIGETCONNLIST = 0x800448D4
LE_LINK = 0x80
"""hci_conn_info.type of a Bluetooth LE connection (linux include/net/bluetooth/hci.h)."""
MAX_CONNECTIONS = 64

_REQUEST = struct.Struct("=HH")
_INFO = struct.Struct("=H6sBBHI")


def incoming(adapter: str) -> frozenset[str] | None:
    """Return the addresses of the centrals that are connected to an adapter, such as `hci0`; None if unknown."""
    answer = bytearray(_REQUEST.size + MAX_CONNECTIONS * _INFO.size)
    try:
        _REQUEST.pack_into(answer, 0, int(adapter.removeprefix("hci")), MAX_CONNECTIONS)
        with socket.socket(AF_BLUETOOTH, socket.SOCK_RAW, BTPROTO_HCI) as sock:
            fcntl.ioctl(sock, HCIGETCONNLIST, answer)
    except (OSError, ValueError, struct.error):
        return None
    return parse(bytes(answer))


def parse(answer: bytes) -> frozenset[str]:
    """Return the addresses of the incoming LE connections in the ioctl's answer, as `AA:BB:CC:DD:EE:FF`."""
    _, count = _REQUEST.unpack_from(answer)
    found = set()
    for offset in range(_REQUEST.size, _REQUEST.size + count * _INFO.size, _INFO.size):
        _, address, kind, out, _, _ = _INFO.unpack_from(answer, offset)
        if kind == LE_LINK and not out:
            found.add(address[::-1].hex(":").upper())
    return frozenset(found)

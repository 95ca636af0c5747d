"""The connections of an adapter, asked of the kernel: BlueZ does not say over D-Bus which of them came in to us.

The adapter of a laptop also carries its mouse and its headphones. Those must not count as centrals, and must not be
disconnected when the target "reboots". The ioctl needs no privilege (linux net/bluetooth/hci_conn.c,
hci_get_conn_list).

    struct hci_conn_list_req   dev_id u16, conn_num u16, then conn_num times
    struct hci_conn_info       handle u16, bdaddr 6 bytes, type u8, out u8, state u16, link_mode u32
"""

import fcntl
import socket
import struct
from dataclasses import dataclass

AF_BLUETOOTH = 31
BTPROTO_HCI = 1
HCIGETCONNLIST = 0x800448D4
LE_LINK = 0x80
"""hci_conn_info.type of a Bluetooth LE connection (linux include/net/bluetooth/hci.h)."""
LM_AUTH, LM_ENCRYPT, LM_SECURE, LM_FIPS = 0x0002, 0x0004, 0x0020, 0x0040
"""Bits of hci_conn_info.link_mode (linux net/bluetooth/hci_conn.c, get_link_mode)."""
MAX_CONNECTIONS = 64

_REQUEST = struct.Struct("=HH")
_INFO = struct.Struct("=H6sBBHI")


@dataclass(frozen=True, slots=True)
class Connection:
    """A Bluetooth LE connection that came in: one central's."""

    handle: int
    """The controller's number for it; stays while the connection lasts."""
    address: str
    """`AA:BB:CC:DD:EE:FF`; becomes the identity address when pairing has told it."""
    link_mode: int
    """LM_ENCRYPT and so on."""

    @property
    def encrypted(self) -> bool:
        """True while the link is encrypted."""
        return bool(self.link_mode & LM_ENCRYPT)


def connections(adapter: str) -> tuple[Connection, ...] | None:
    """Return the centrals that are connected to an adapter, such as `hci0`; None if unknown."""
    answer = bytearray(_REQUEST.size + MAX_CONNECTIONS * _INFO.size)
    try:
        _REQUEST.pack_into(answer, 0, int(adapter.removeprefix("hci")), MAX_CONNECTIONS)
        with socket.socket(AF_BLUETOOTH, socket.SOCK_RAW, BTPROTO_HCI) as sock:
            fcntl.ioctl(sock, HCIGETCONNLIST, answer)
    except (OSError, ValueError, struct.error):
        return None
    return parse(bytes(answer))


def incoming(adapter: str) -> frozenset[str] | None:
    """Return the addresses of those centrals; None if unknown."""
    found = connections(adapter)
    return None if found is None else frozenset(each.address for each in found)


def parse(answer: bytes) -> tuple[Connection, ...]:
    """Return the incoming LE connections in the ioctl's answer."""
    _, count = _REQUEST.unpack_from(answer)
    found = []
    for offset in range(_REQUEST.size, _REQUEST.size + count * _INFO.size, _INFO.size):
        handle, address, kind, out, _, mode = _INFO.unpack_from(answer, offset)
        if kind == LE_LINK and not out:
            found.append(Connection(handle, shown(address), mode))
    return tuple(found)


def shown(address: bytes) -> str:
    """Return an address, as kernel and controller have it, as people read it: `AA:BB:CC:DD:EE:FF`."""
    return address[::-1].hex(":").upper()

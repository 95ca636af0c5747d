"""A server that does next to nothing, to compare ours with: python -m tests.benches.reflector PTY.

It decodes each request and answers it: an echo with its text, anything else with the offset behind its data. No groups,
no store, no lock, no checks but a packet's CRC. UDP on a free port of 127.0.0.1, and a pty in console framing that PTY
is linked to; the ready line is like our target's.
"""

import asyncio
import json
import os
import signal
import sys
import termios
import tty
from binascii import a2b_base64, b2a_base64, crc_hqx
from pathlib import Path
from struct import Struct
from typing import cast

import cbor2

HEADER = Struct(">BBHHBB")
FIRST = b"\x06\x09"
CHUNK = 4096


def answer(frame: bytes) -> bytes:
    """Return the answer to a request."""
    first, _, _, group, sequence, command = HEADER.unpack_from(frame)
    body = cbor2.loads(frame[HEADER.size :])
    payload = cbor2.dumps({"r": body["d"]} if "d" in body else {"off": body["off"] + len(body["data"])})
    return HEADER.pack(first | 1, 0, len(payload), group, sequence, command) + payload


class UdpReflector(asyncio.DatagramProtocol):
    """Answers datagrams."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(answer(data), addr)


class PtyReflector:
    """Answers packets in console framing; answers are short, a line each."""

    def __init__(self, link: Path) -> None:
        self._fd, other = os.openpty()
        tty.setraw(other, termios.TCSANOW)
        link.unlink(missing_ok=True)
        os.symlink(os.ttyname(other), link)
        self._text = b""
        self._packet = b""
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        *lines, self._text = (self._text + os.read(self._fd, CHUNK)).split(b"\n")
        for line in lines:
            data = a2b_base64(line[2:])
            self._packet = data if line.startswith(FIRST) else self._packet + data
            if len(self._packet) >= 2 + int.from_bytes(self._packet[:2], "big"):
                self._complete(self._packet[2:])

    def _complete(self, packet: bytes) -> None:
        if crc_hqx(packet, 0) == 0:
            message = answer(packet[:-2])
            sized = (len(message) + 2).to_bytes(2, "big") + message + crc_hqx(message, 0).to_bytes(2, "big")
            os.write(self._fd, FIRST + b2a_base64(sized))


async def serve(link: Path) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    transport, _ = await loop.create_datagram_endpoint(UdpReflector, ("127.0.0.1", 0))
    reflector = PtyReflector(link)
    host, port = transport.get_extra_info("sockname")
    endpoints = [{"transport": "udp", "host": host, "port": port}, {"transport": "serial", "path": str(link)}]
    print(json.dumps({"ready": True, "transports": endpoints}), flush=True)
    await ended.wait()
    del reflector


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

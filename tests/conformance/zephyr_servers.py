"""Servers like the recorded ones, each a process of ours, and the lines to them."""

import json
import os
import select
import socket
import subprocess
import sys
import time
import tty
from base64 import b64decode, b64encode
from binascii import crc_hqx
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from smp_dfu_host import plugins
from smp_dfu_host.dispatch.group import Group
from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageVersion
from tests.conformance.zephyr_cases import HEADER

READY_S = 60.0
ANSWER_S = 10.0
"""How long to wait for an answer that was recorded; generous, since the machine may be busy."""
SILENCE_S = 0.4
"""How long to wait where none was recorded."""
APART_S = 0.1
"""Between writes on a raw line, where what comes with noise is lost with it; the recorded ones came one by one too."""
FILES_SIZE = 8192
"""Of the recorded file system, in bytes, as far as one can tell from where it was full."""
COMMANDS = """
[[shell.command]]
name = "kernel version"
run = ["echo", "Zephyr version 4.4.0"]
[[shell.command]]
name = "kernel uptime"
run = ["uptime"]
"""
"""What the recorded shells can do, as far as they were asked."""
FRAMINGS = {"serial": "console", "serial_raw": "raw", "shell": "shell"}
"""Of the serial transports, as the configuration calls them."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One row of the table of servers."""

    transport: str
    buf_size: int
    buf_count: int
    groups: str
    """As listed, by number."""
    host: str = "127.0.0.1"
    sectors: int = 118
    sector_size: int = 4096
    hash: str = ""
    """Of the image in slot 0; empty: whatever the program puts there."""


SERVERS = {
    "native_sim.udp": Setup("udp", 2048, 2, "10 8 0 3 9 2 63"),
    "native_sim.udp6": Setup("udp", 2048, 2, "10 8 0 3 9 2 63", host="::1"),
    "native_sim.serial": Setup("serial", 384, 4, "10 8 0 3 9 2 63"),
    "native_sim.serial_bigrx": Setup("serial", 384, 4, "10 8 0 3 9 2 63"),
    "native_sim.serial_noparams": Setup("serial", 384, 4, "10 8 0 3 9 2 63"),
    "native_sim.serial_fs": Setup("serial", 1024, 4, "10 8 0 3 9 2 63"),
    "native_sim.serial_buf96": Setup("serial", 96, 4, "10 0 2"),
    "native_sim.serial_raw": Setup("serial_raw", 384, 4, "10 0 3 9 2"),
    "native_sim.shell": Setup("shell", 384, 4, "0 2 10"),
    "qemu_cortex_m0.serial": Setup(
        "serial",
        384,
        4,
        "10 1 0 2",
        sectors=104,
        sector_size=1024,
        hash="1baa222074cc805faf4e09846d2377886b1e5ef7cfccd9eac1554d82d9aa9d5a",
    ),
    "mps2_an385.serial_recovery_buf1024": Setup(
        "serial",
        1024,
        4,
        "10 8 1 0 3 9 2 63",
        sectors=128,
        hash="7fb87140f65bbcb1c6714a67cf618dcc2f5432035f5df8cd350bfe61da346104",
    ),
}


class Line(Protocol):
    """A way to a server and back."""

    def send(self, frame: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def receive(self, timeout_s: float) -> bytes | None: ...

    def close(self) -> None: ...


class UdpLine:
    """One frame a datagram."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect((host, port))

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    write = send

    def receive(self, timeout_s: float) -> bytes | None:
        self._socket.settimeout(max(timeout_s, 0.0001))
        try:
            return self._socket.recv(65536)
        except (TimeoutError, ConnectionRefusedError):
            return None

    def close(self) -> None:
        self._socket.close()


class RawLine:
    """Frames as they are on a pty."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._file)
        self._read = b""

    def send(self, frame: bytes) -> None:
        while frame:
            frame = frame[os.write(self._file, frame) :]

    def write(self, data: bytes) -> None:
        self.send(data)
        time.sleep(APART_S)

    def receive(self, timeout_s: float) -> bytes | None:
        deadline = time.monotonic() + timeout_s
        while not (frame := self._frame()):
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self._file], [], [], left)[0]:
                return None
            self._read += os.read(self._file, 4096)
        return frame

    def close(self) -> None:
        os.close(self._file)

    def _frame(self) -> bytes:
        """Take a whole frame from what was read, or nothing."""
        size = HEADER.size + int.from_bytes(self._read[2:4], "big")
        if len(self._read) < max(size, HEADER.size):
            return b""
        frame, self._read = self._read[:size], self._read[size:]
        return frame


class ConsoleLine(RawLine):
    """Frames as console lines on a pty, with or without a shell's text between them."""

    FIRST, NEXT = b"\x06\x09", b"\x04\x14"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._packet = b""

    def send(self, frame: bytes) -> None:
        packet = (len(frame) + 2).to_bytes(2, "big") + frame + crc_hqx(frame, 0).to_bytes(2, "big")
        for number, start in enumerate(range(0, len(packet), 93)):
            marker = self.NEXT if number else self.FIRST
            self.write(marker + b64encode(packet[start : start + 93]) + b"\n")

    def write(self, data: bytes) -> None:
        super().send(data)

    def _frame(self) -> bytes:
        while b"\n" in self._read:
            line, _, self._read = self._read.partition(b"\n")
            if frame := self._line(line):
                return frame
        return b""

    def _line(self, line: bytes) -> bytes:
        """Return the frame that a line completes, or nothing."""
        if line.startswith(self.FIRST):
            self._packet = b64decode(line[2:])
        elif line.startswith(self.NEXT):
            self._packet += b64decode(line[2:])
        size = int.from_bytes(self._packet[:2], "big")
        if not self._packet or len(self._packet) < size + 2:
            return b""
        packet, self._packet = self._packet[2 : size + 2], b""
        if crc_hqx(packet, 0):
            raise ValueError(f"bad CRC in {packet.hex()}")
        return packet[:-2]


def reachable(setup: Setup) -> bool:
    """Tell whether this machine has the address that the server is to listen on."""
    family = socket.AF_INET6 if ":" in setup.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((setup.host, 0))
    except OSError:
        return False
    return True


@contextmanager
def running(setup: Setup, folder: Path) -> Iterator[Line]:
    """Start a server on a new store in a folder; give the line to it."""
    config = folder / "config.toml"
    config.write_text(configuration(setup, folder))
    command = [sys.executable, "-m", "smp_dfu_host", "serve", "--config", str(config)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            ready = _ready(process, folder)
            line = connect(setup, ready["transports"][0])
            try:
                yield line
            finally:
                line.close()
        finally:
            process.terminate()


def _ready(process: subprocess.Popen[bytes], folder: Path) -> dict[str, list[dict[str, str]]]:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], READY_S)[0]:
        raise TimeoutError(f"the server was not ready after {READY_S} s")
    try:
        return dict(json.loads(process.stdout.readline()))
    except ValueError as exc:
        raise RuntimeError(f"the server did not start: {(folder / 'log').read_text()}") from exc


def connect(setup: Setup, endpoint: dict[str, str]) -> Line:
    """Return the line to where a server says that it is."""
    if setup.transport == "udp":
        return UdpLine(endpoint["host"], int(endpoint["port"]))
    return RawLine(endpoint["path"]) if setup.transport == "serial_raw" else ConsoleLine(endpoint["path"])


def configuration(setup: Setup, folder: Path) -> str:
    """Return the configuration of a server like the recorded one: its buffers, its slots, its image."""
    sections: dict[str, dict[str, object]] = {
        "smp": {"buf_size": setup.buf_size, "buf_count": setup.buf_count, "groups": groups(setup)},
        "dfu": {"confirm_at_start": False},
        "bootloader": {"validate_primary": False},
        "flash": {"sector_size": setup.sector_size, "sectors": setup.sectors},
        "image": {"validate_upload": False, "check_upload": False},
        "settings": {"roots": [], "storage": False},
    }
    if "fs_mgmt" in groups(setup):
        sections["fs"] = {"folder": "files", "size": FILES_SIZE}
    if setup.hash:
        (folder / "factory.bin").write_bytes(image_with(bytes.fromhex(setup.hash)))
        sections["image"]["factory"] = "factory.bin"
    if setup.transport == "udp":
        sections["transport.udp"] = {"enabled": True, "host": setup.host, "port": 0}
    else:
        sections["transport.serial"] = {"pty": str(folder / "pty"), "framing": FRAMINGS[setup.transport]}
    lines = ['store = "store"']
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n" + (COMMANDS if "shell_mgmt" in groups(setup) else "")


def groups(setup: Setup) -> list[str]:
    """Return the groups of such a server by the names of their entry points."""
    names = {cast("type[Group]", kind).id: name for name, kind in plugins.load(plugins.GROUPS).items()}
    return [names[int(number)] for number in setup.groups.split()]


def image_with(digest: bytes) -> bytes:
    """Return an image of version 0.0.0 whose hash TLV says that, right or not."""
    payload = b"like the recorded server's image, but for its contents"
    header = ImageHeader(IMAGE_MAGIC, 0, ImageHeader.SIZE, 0, len(payload), 0, ImageVersion(0, 0, 0))
    return header.pack() + payload + bytes.fromhex("0769 2800 1000 2000") + digest

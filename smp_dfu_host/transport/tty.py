"""Terminals as the kernel gives them: a tty opened raw, or a pty pair that is linked to a path.

Only termios; nothing here knows SMP or waits for anything.
"""

import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import socket
import termios
from pathlib import Path
from typing import Protocol

from smp_dfu_host.errors import TransportError

BAUDRATES = {
    int(name[1:]): int(getattr(termios, name))
    for name in dir(termios)
    if name[0] == "B" and name[1:].isdigit() and name != "B0"
}
"""Bits per second to termios' code for it: the speeds that this system's termios knows."""


class Terminal(Protocol):
    """An open line."""

    @property
    def fd(self) -> int:
        """File descriptor to read and write; never blocks."""
        ...

    def discard(self) -> None:
        """Throw away what was written and not taken."""
        ...

    def close(self) -> None:
        """Give the line back; can be called twice."""
        ...


class Tty:
    """A serial port that exists, raw and for us alone.

    Raises:
        TransportError: If it is missing, forbidden, taken, no tty, or does not do that speed.
    """

    def __init__(self, path: Path, baudrate: int) -> None:
        if baudrate not in BAUDRATES:
            raise TransportError(f"{path}: {baudrate} baud is not possible; choose {_near(baudrate)}")
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as exc:
            raise TransportError(f"{path}: {explain_tty(exc, path)}") from exc
        self._closed = False
        try:
            make_raw(self.fd, BAUDRATES[baudrate])
            fcntl.ioctl(self.fd, termios.TIOCEXCL)
            termios.tcflush(self.fd, termios.TCIFLUSH)
        except (OSError, termios.error) as exc:
            self.close()
            raise TransportError(f"{path}: not a serial port that can be set up: {exc.args[-1]}") from exc

    def discard(self) -> None:
        """Throw away what was written and not sent yet."""
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self.fd, termios.TCOFLUSH)

    def close(self) -> None:
        """Close the port."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):  # it may be unplugged
            fcntl.ioctl(self.fd, termios.TIOCNXCL)
        os.close(self.fd)


class Pty:
    """A pty pair of our own; peers open `link`, which leads to its other side.

    We keep the other side open as well. So the line never hangs up when a peer closes it, its raw mode outlives every
    peer, and what a peer left unread can be thrown away.

    Raises:
        TransportError: If the path cannot be linked, is something else, or is served by another process.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._closed = False
        self._claim = _claim(link)
        try:
            self.fd, self._other = os.openpty()
        except OSError as exc:
            self._claim.close()
            raise TransportError(f"{link}: no pseudo terminal to be had: {exc.strerror}; is /dev/pts mounted?") from exc
        os.set_blocking(self.fd, False)
        make_raw(self._other)
        self._target = os.ttyname(self._other)
        try:
            _point(link, self._target)
        except OSError as exc:
            self.close()
            raise TransportError(f"{link}: {explain_link(exc, link)}") from exc

    def discard(self) -> None:
        """Throw away what no peer has read."""
        termios.tcflush(self._other, termios.TCIFLUSH)

    def close(self) -> None:
        """Close both sides and remove the link, if it is still ours."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            if os.readlink(self._link) == self._target:
                self._link.unlink()
        os.close(self.fd)
        os.close(self._other)
        self._claim.close()


def make_raw(fd: int, speed: int | None = None) -> None:
    """Set eight bits, no parity, no flow control, no echo and no translation; `speed` is termios' code or None to keep.

    Raises:
        termios.error: If it is no tty.
    """
    _, _, cflag, _, ispeed, ospeed, cc = termios.tcgetattr(fd)
    cflag &= ~(termios.CSIZE | termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
    cflag |= termios.CS8 | termios.CREAD | termios.CLOCAL
    cc[termios.VMIN], cc[termios.VTIME] = 1, 0
    if speed is not None:
        ispeed = ospeed = speed
    termios.tcsetattr(fd, termios.TCSANOW, [0, 0, cflag, 0, ispeed, ospeed, cc])


def explain_tty(error: OSError, path: Path) -> str:
    """Return in words why a tty does not open, and what to do about it."""
    match error.errno:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            return "no such tty; is the device plugged in? `ls /dev/tty*` shows what there is"
        case errno.EACCES | errno.EPERM:
            return f"no permission; `sudo usermod -aG {_group_of(path)} $USER` and log in again"
        case errno.EBUSY:
            return f"another program has it open; `fuser {path}` shows which"
        case _:
            return error.strerror or str(error)


def explain_link(error: OSError, path: Path) -> str:
    """Return in words why a path cannot be linked, and what to do about it."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return f"there is no folder {path.parent}; make it or choose another path"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"no permission to write in {path.parent}; choose another path, such as /tmp/{path.name}"
        case errno.EEXIST:
            return "is there already and is no link to a pty; remove it or choose another path"
        case _:
            return error.strerror or str(error)


def _group_of(path: Path) -> str:
    """Return the group that may use a tty; on Debian and its kin that is `dialout`."""
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "dialout"
    return group if group != "root" else "dialout"


def _near(baudrate: int) -> str:
    nearest = sorted(BAUDRATES, key=lambda known: abs(known - baudrate))[:2]
    return " or ".join(map(str, sorted(nearest)))


def _claim(link: Path) -> socket.socket:
    """Return a socket whose name says that we serve that path; the kernel frees it at once when we die.

    A lock on the pty itself would not do: clients lock it too (pyserial's `exclusive`).
    """
    name = hashlib.sha256(os.fsencode(link.parent.resolve() / link.name)).hexdigest()
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0smp-dfu-host/pty/{name}")
    except OSError as exc:
        claim.close()
        raise TransportError(f"{link}: another process serves it; stop that one or choose another path") from exc
    return claim


def _point(link: Path, target: str) -> None:
    """Make the link, or turn a link to a pty of a process that is gone, in one step."""
    if link.is_symlink():
        if not os.readlink(link).startswith("/dev/pts/"):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    elif link.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    new = link.with_name(f".{link.name}.{os.getpid()}")
    os.symlink(target, new)
    try:
        os.replace(new, link)
    except OSError:
        new.unlink()
        raise

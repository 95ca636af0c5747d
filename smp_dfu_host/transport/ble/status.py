"""What the transport is doing, written to the store for `ble status`, and what it has to remember of bonds.

The file is replaced as a whole whenever something in it has changed. Whether its server still runs is told by the
server's lock (store/occupancy.py). The notes of bonds outlive the server: bluetoothd knows every bond of the adapter,
also the ones of a keyboard or of headphones, and not how they were made.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smp_dfu_host.dispatch.clock import Clock, Timer
from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import replace_file

log = logging.getLogger(__name__)

NAME = "ble.json"
"""The file in the store."""
GATHER_S = 0.1
"""How long changes are gathered before they are written, together."""


@dataclass(frozen=True, slots=True)
class Central:
    """A connected central."""

    address: str
    mtu: int
    """ATT_MTU as of its last write, in bytes."""
    security: str
    """`none`, `encrypt`, or `authenticate` where it is known that the key is authenticated."""
    bonded: bool
    interval_ms: float | None = None
    """Connection interval; None: not known, as without CAP_NET_RAW."""
    latency: int | None = None
    """Peripheral latency, in connection events."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `ble status` shows of a running server."""

    adapter: str
    """`hci0`."""
    address: str
    """The adapter's."""
    bluez: str
    """BlueZ's version, such as `5.66`; empty if unknown."""
    security: str
    pairing: str
    pairing_window: bool
    """Whether bonding needs an open window."""
    advertising: bool
    advertising_interval: str = ""
    """Advertising interval, in words; empty while not advertising."""
    centrals: tuple[Central, ...] = ()


@dataclass(slots=True)
class Written:
    """What the file says."""

    pid: int = 0
    """The server that wrote it; 0 when it has ended well."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """As `Status`; empty when the server has ended well."""
    bonds: dict[str, str] = field(default_factory=dict)
    """By address: how a central of ours has paired (`just-works`, `passkey`, `confirm`; empty if unknown)."""


def read(folder: Path) -> Written:
    """Return what the file says; nothing where there is none, or none that can be understood.

    Raises:
        StoreError: If there is one that cannot be read.
    """
    try:
        said = json.loads((folder / NAME).read_bytes())
        return Written(int(said["pid"]), dict(said["status"]), {str(k): str(v) for k, v in said["bonds"].items()})
    except FileNotFoundError:
        return Written()
    except OSError as exc:
        raise StoreError(f"{folder / NAME}: {exc.strerror}") from exc
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        log.warning("%s is not understood (%s), and will be written anew", folder / NAME, exc)
        return Written()


class Report:
    """Keeps the file up to date.

    Args:
        folder: The store; None keeps everything in memory.
        look: Returns what is the case now.
    """

    def __init__(self, folder: Path | None, look: Callable[[], Status], clock: Clock) -> None:
        self._folder = folder
        self._look = look
        self._clock = clock
        self._timer: Timer | None = None
        self._bonds = read(folder).bonds if folder else {}
        self._last = b""
        self._failed = False

    def made(self, address: str) -> str:
        """Return how a bond was made; empty if unknown."""
        return self._bonds.get(address, "")

    def note(self, address: str, how: str) -> None:
        """Remember a central of ours that is bonded, and how it has paired; empty: as it was known before."""
        if how or address not in self._bonds:
            self._bonds[address] = how
            self.changed()

    def forget(self, address: str) -> None:
        """Remember a bond no longer."""
        if self._bonds.pop(address, None) is not None:
            self.changed()

    def changed(self) -> None:
        """Write the file soon, if it differs."""
        if self._timer is None:
            self._timer = self._clock.call_later(GATHER_S, self._due)

    def close(self) -> None:
        """Write that the server has ended; changes after this are not written."""
        if self._timer:
            self._timer.cancel()
        self._timer = self._clock.call_later(0, lambda: None)
        self._write(Written(0, {}, self._bonds))

    def _due(self) -> None:
        self._timer = None
        self._write(Written(os.getpid(), asdict(self._look()), self._bonds))

    def _write(self, written: Written) -> None:
        data = json.dumps(asdict(written), indent=1).encode()
        if self._folder is None or data == self._last:
            return
        try:
            replace_file(self._folder / NAME, data)  # not synced: after a power cut another server writes another one
        except StoreError as exc:
            if not self._failed:
                log.warning("%s; `ble status` does not see what happens", exc)
            self._failed = True
            return
        self._last, self._failed = data, False

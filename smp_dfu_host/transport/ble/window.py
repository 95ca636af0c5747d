"""The pairing window: a file in the store that says until when new centrals may bond.

`ble pair` writes it and takes it away; the server reads it whenever somebody wants to pair, and needs no word from
anybody. A window that nobody closes ends by itself at its deadline. Times are the wall clock's; one that is set back
behind the opening closes the window, too, instead of keeping it open for longer than was asked.
"""

import json
import time
from pathlib import Path

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import replace_file

NAME = "ble-window.json"
"""The file in the store."""


def open_window(folder: Path, seconds: float) -> None:
    """Let new centrals bond from now on, for so many seconds.

    Raises:
        StoreError: If the file cannot be written.
    """
    now = time.time()
    replace_file(folder / NAME, json.dumps({"opened": now, "until": now + seconds}).encode())


def close_window(folder: Path) -> None:
    """Let nobody new bond any more.

    Raises:
        StoreError: If the file cannot be removed.
    """
    try:
        (folder / NAME).unlink(missing_ok=True)
    except OSError as exc:
        raise StoreError(f"{folder / NAME}: {exc.strerror}") from exc


def remaining(folder: Path) -> float:
    """Return how long the window stays open, in seconds; 0 when it is closed, or the file says nothing sensible."""
    try:
        said = json.loads((folder / NAME).read_bytes())
        opened, until = float(said["opened"]), float(said["until"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0
    now = time.time()
    return until - now if opened <= now < until else 0.0

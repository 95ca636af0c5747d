"""Settings: values by name, in use and in storage, as Zephyr's settings subsystem has them.

    write ─► in use ── save ─► storage        (settings.json in the store's folder)
               ▲  ◄── load ───┘
               └ a reset: what was saved, and nothing else

The storage is one file that is replaced as a whole and synced: what save or delete has answered is there after a crash
or a power cut, and never half of it. After zephyr subsys/settings/src/settings.c and settings_store.c; there, a deleted
value stays in use until the next reset, here it is gone at once.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import read_file, replace_durably
from smp_dfu_host.store.reasons import UNUSABLE, shown

FORMAT = 1


def covers(subtree: str, name: str) -> bool:
    """Tell whether a name lies in a subtree, or is its root."""
    return name == subtree or name.startswith(f"{subtree}/")


class Settings:
    """All settings.

    Args:
        path: The storage; None: there is none.

    Raises:
        StoreError: If the storage cannot be read.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._values = self._read()

    @property
    def stored(self) -> bool:
        """Whether there is a storage."""
        return self._path is not None

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> bytes | None:
        """Return the value in use, or None."""
        return self._values.get(name)

    def set(self, name: str, value: bytes) -> None:
        """Use that value from now on, until the next reset unless it is saved."""
        self._values[name] = value

    def delete(self, name: str) -> bool:
        """Forget a value, in use and in storage; return False if there was none.

        Raises:
            StoreError: If the storage cannot be read or written; the value is still in use then.
        """
        kept = self._read()
        if kept.pop(name, None) is not None:
            self._write(kept)
        elif name not in self._values:
            return False
        self._values.pop(name, None)
        return True

    def save(self, subtree: str = "") -> None:
        """Store the values in use; those of a subtree alone if one is given.

        Raises:
            StoreError: If the storage cannot be read or written.
        """
        chosen = {name: value for name, value in self._values.items() if not subtree or covers(subtree, name)}
        kept = self._read()
        if kept != (new := kept | chosen):
            self._write(new)

    def load(self) -> None:
        """Use the stored values; those in use that were never stored stay.

        Raises:
            StoreError: If the storage cannot be read.
        """
        self._values |= self._read()

    def reset(self) -> None:
        """Use the stored values and nothing else, as after a reset.

        Raises:
            StoreError: If the storage cannot be read.
        """
        self._values = self._read()

    def erase(self) -> None:
        """Forget what is stored; values in use stay.

        Raises:
            StoreError: If the storage cannot be written.
        """
        if self._path is not None and self._path.exists():
            self._write({})

    def _read(self) -> dict[str, bytes]:
        data = read_file(self._path) if self._path is not None else None
        return {} if data is None else _parse(data, self._path)

    def _write(self, values: Mapping[str, bytes]) -> None:
        if self._path is not None:
            table = {"format": FORMAT, "values": {name: value.hex() for name, value in sorted(values.items())}}
            replace_durably(self._path, json.dumps(table, indent=1).encode())


def _parse(data: bytes, path: Path | None) -> dict[str, bytes]:
    try:
        table = json.loads(data)
        if table["format"] != FORMAT:
            raise StoreError(f"{path}: format {shown(table['format'])}, this program knows {FORMAT}")
        return {str(name): bytes.fromhex(value) for name, value in table["values"].items()}
    except UNUSABLE as exc:
        raise StoreError(f"{path}: damaged; remove it to begin with empty settings") from exc

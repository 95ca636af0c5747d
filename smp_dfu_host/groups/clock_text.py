"""The text of the datetime command: `YYYY-MM-DDTHH:MM:SS`, read as leniently as Zephyr reads it.

Six numbers, each with any one character behind it; what follows the sixth is not looked at, so that zones pass, but for
`.` and milliseconds where these are configured (zephyr
subsys/mgmt/mcumgr/grp/os_mgmt/src/os_mgmt.c, os_mgmt_datetime_write).
"""

import re
from datetime import datetime

from smp_dfu_host.errors import MgmtError, Rc

SIZES = range(19, 26)
"""Bytes of a text that is taken."""
FIELDS = (
    ("year", 1900, 11899),
    ("month", 1, 12),
    ("day", 1, 31),
    ("hour", 0, 23),
    ("minute", 0, 59),
    ("second", 0, 59),
)
_NUMBER = re.compile(r"\s*[+-]?[0-9]+", re.ASCII)


def write_text(moment: datetime, *, ms: bool = False) -> str:
    """Return the moment as the command says it; milliseconds are not padded."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{f'.{moment.microsecond // 1000}' if ms else ''}"


def read_text(text: str, *, ms: bool = False) -> tuple[int, ...]:
    """Return year, month, day, hour, minute, second and millisecond; whether the month has such a day is not checked.

    Args:
        text: What a client says.
        ms: Whether milliseconds are looked for; if not, or if there are none, they are 0.

    Raises:
        MgmtError: `EINVAL` if a number is missing or out of its range.
    """
    size = len(text.encode(errors="surrogateescape"))
    if size not in SIZES:
        raise MgmtError(Rc.EINVAL, f"datetime of {size} bytes, must be {SIZES.start} to {SIZES.stop - 1}")
    values, position = [], 0
    for name, low, high in FIELDS:
        found = _NUMBER.match(text, position)
        if not found or not low <= int(found[0]) <= high:
            raise MgmtError(Rc.EINVAL, f"datetime {text!r}: {name} must be {low} to {high}")
        values.append(int(found[0]))
        position = found.end() + 1
    return (*values, _milliseconds(text, position) if ms else 0)


def _milliseconds(text: str, position: int) -> int:
    """Return the milliseconds that begin there, if there is a point in front of them."""
    if text[position - 1 : position] != "." or position == len(text):
        return 0
    found = _NUMBER.match(text, position)
    value = int(found[0]) if found else 0
    if not 0 <= value <= 999:
        raise MgmtError(Rc.EINVAL, f"datetime {text!r}: millisecond must be 0 to 999")
    return value

"""The text of the datetime command: `YYYY-MM-DDTHH:MM:SS`, read as leniently as Zephyr reads it.

Six numbers, each with any one character behind it; what follows the sixth is not looked at, so that zones pass (zephyr
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


def write_text(moment: datetime) -> str:
    """Return the moment as the command says it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def read_text(text: str) -> tuple[int, ...]:
    """Return year, month, day, hour, minute and second; whether the month has such a day is not checked.

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
    return tuple(values)

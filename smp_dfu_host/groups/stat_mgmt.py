"""The statistics group (2): counters of the parts of this program, by name.

After zephyr subsys/mgmt/mcumgr/grp/stat_mgmt/src/stat_mgmt.c. What there is to count, the parts say themselves
(dispatch/stats.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.dispatch.group import Context, Group, read
from smp_dfu_host.dispatch.stats import NAME_LIMIT
from smp_dfu_host.errors import GroupError, MgmtError, Rc
from smp_dfu_host.wire.body import Body, encode
from smp_dfu_host.wire.header import Header

GROUP = 2
_LARGEST = 0xFFFFFFFFFFFFFFFF
"""The longest value, in CBOR."""


class StatRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/stat_mgmt/stat_mgmt.h)."""

    UNKNOWN = 1
    INVALID_GROUP = 2
    INVALID_STAT_NAME = 3
    INVALID_STAT_SIZE = 4
    WALK_ABORTED = 5


@dataclass(frozen=True, slots=True)
class Show(Body):
    """Which statistics to tell."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class ShowReply(Body):
    """The values of one name."""

    name: str
    fields: Mapping[str, int]


class StatisticsGroup(Group):
    """Commands that read statistics."""

    id = GROUP
    name = "stat mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = {
        StatRc.INVALID_GROUP: Rc.ENOENT,
        StatRc.INVALID_STAT_NAME: Rc.ENOENT,
        StatRc.INVALID_STAT_SIZE: Rc.EINVAL,
        StatRc.WALK_ABORTED: Rc.EUNKNOWN,
    }

    @read(0, Show)
    async def show(self, _context: Context, request: Show) -> Body:
        """Tell the values of one name."""
        size = len(request.name.encode(errors="surrogateescape"))
        if not 1 <= size <= NAME_LIMIT:
            raise MgmtError(Rc.EINVAL, f"name of {size} bytes, must be 1 to {NAME_LIMIT}")
        fields = self.services.stats.groups.get(request.name)
        if fields is None:
            raise GroupError(GROUP, StatRc.INVALID_STAT_NAME, f"no statistics {request.name!r}")
        return ShowReply(request.name, fields)

    @read(1)
    async def list(self, context: Context) -> Mapping[str, object]:
        """Tell the names; one whose values might not fit this link, however large they get, is left out."""
        groups = self.services.stats.groups
        return {"stat_list": [name for name, fields in groups.items() if _fits(name, fields, context.buf_size)]}


def _fits(name: str, fields: Mapping[str, int], limit: int) -> bool:
    longest = ShowReply(name, dict.fromkeys(fields, _LARGEST))
    return Header.SIZE + len(encode(longest)) <= limit

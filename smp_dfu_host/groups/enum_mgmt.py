"""The enumeration group (10): which groups are served.

After zephyr subsys/mgmt/mcumgr/grp/enum_mgmt/src/enum_mgmt.c. Groups come in the order of their registration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.dispatch.group import Context, Group, read
from smp_dfu_host.dispatch.hooks import Event, GroupFields
from smp_dfu_host.errors import GroupError, Rc
from smp_dfu_host.wire.body import Body, Uint16, Uint32

GROUP = 10
ENTRIES = 16
"""Groups that can be asked for at once (CONFIG_MCUMGR_GRP_ENUM_DETAILS_BUFFER_TYPE_STACK_ENTRIES)."""


class EnumRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/enum_mgmt/enum_mgmt.h)."""

    UNKNOWN = 1
    TOO_MANY_GROUP_ENTRIES = 2
    INSUFFICIENT_HEAP_FOR_ENTRIES = 3
    INDEX_TOO_LARGE = 4


@dataclass(frozen=True, slots=True)
class Single(Body):
    """Which group to tell."""

    index: Uint16 = 0
    """Counted from 0."""


@dataclass(frozen=True, slots=True)
class SingleReply(Body):
    """One group."""

    group: int
    end: bool | None = None
    """True for the last one."""


@dataclass(frozen=True, slots=True)
class Details(Body):
    """Which groups to tell of; none: all."""

    groups: tuple[Uint32, ...] = ()


class EnumerationGroup(Group):
    """Commands that tell of groups."""

    id = GROUP
    name = "enum mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = {EnumRc.TOO_MANY_GROUP_ENTRIES: Rc.EINVAL}
    too_large = Rc.ECORRUPT

    @read(0)
    async def count(self, context: Context) -> Mapping[str, object]:
        """Tell how many groups there are."""
        return {"count": len(context.groups)}

    @read(1)
    async def list(self, context: Context) -> Mapping[str, object]:
        """Tell the groups' numbers."""
        return {"groups": [*context.groups]}

    @read(2, Single)
    async def single(self, context: Context, request: Single) -> Body:
        """Tell one group's number."""
        groups = [*context.groups]
        if request.index >= len(groups):
            raise GroupError(GROUP, EnumRc.INDEX_TOO_LARGE, f"index {request.index}, there are {len(groups)} groups")
        return SingleReply(groups[request.index], request.index == len(groups) - 1 or None)

    @read(3, Details)
    async def details(self, context: Context, request: Details) -> Mapping[str, object]:
        """Tell names and numbers of commands; groups that are not there are left out."""
        if len(request.groups) > ENTRIES:
            reason = f"{len(request.groups)} groups asked for, limit is {ENTRIES}"
            raise GroupError(GROUP, EnumRc.TOO_MANY_GROUP_ENTRIES, reason)
        wanted = request.groups or tuple(context.groups)
        return {"groups": [await self._fields(context.groups[number]) for number in context.groups if number in wanted]}

    async def _fields(self, group: Group) -> Mapping[str, object]:
        data = GroupFields(group.id, {"group": group.id, "name": group.name, "handlers": group.handlers})
        await self.services.hooks.notify(Event.ENUM_DETAILS, data)
        return data.fields

"""Zephyr's basic group (63): erase the settings' storage.

After zephyr subsys/mgmt/mcumgr/grp/zephyr_basic/src/basic_mgmt.c. Values that are in use stay until the next reset, as
they do in a device's RAM. Files of the file system group are elsewhere and stay too.
"""

import asyncio
from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.dispatch.group import Context, Group, write
from smp_dfu_host.errors import GroupError, Rc, StoreError
from smp_dfu_host.wire.body import Body

GROUP = 63


class BasicRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/zephyr/zephyr_basic.h)."""

    UNKNOWN = 1
    FLASH_OPEN_FAILED = 2
    FLASH_CONFIG_QUERY_FAIL = 3
    FLASH_ERASE_FAILED = 4


class ZephyrBasicGroup(Group):
    """The command that erases the storage."""

    id = GROUP
    name = "zephyr basic mgmt"
    # Zephyr makes 0 of the last two, which version 0 takes for success.
    v0_rc: ClassVar[Mapping[int, Rc]] = {BasicRc.FLASH_OPEN_FAILED: Rc.ENOENT}

    @write(0)
    async def erase_storage(self, _context: Context) -> Body:
        """Erase what was saved."""
        try:
            await asyncio.to_thread(self.services.settings.erase)
        except StoreError as exc:
            raise GroupError(GROUP, BasicRc.FLASH_ERASE_FAILED, str(exc)) from exc
        return Body()

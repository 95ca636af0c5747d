"""Hooks of our own: no resets at night, and a line in the log for every image that has arrived."""

import asyncio
import logging
import time

from smp_dfu_host.dispatch.hooks import DfuPending, Event, Notice
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import MgmtError, Rc

log = logging.getLogger(__name__)


class OfficeHours:
    """Made once, with all that groups are given too."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        services.hooks.register(Event.OS_RESET, self.reset)
        services.hooks.register(Event.IMG_DFU_PENDING, self.arrived)

    def reset(self, _notice: Notice) -> None:
        if not 8 <= time.localtime().tm_hour < 18:
            raise MgmtError(Rc.EBUSY, "office hours are from 8 to 18")  # the client is answered {"rc": 10}

    async def arrived(self, notice: Notice) -> None:  # a coroutine may wait; the event loop does not
        data: DfuPending = notice.data
        views = await asyncio.to_thread(self._store.slots)
        log.info("%s: image %s is there", data.peer, next(view.version for view in views if view.slot == data.slot))

"""A group of our own: reads a temperature (command 0) and sets an alarm (command 1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from smp_dfu_host.dispatch.group import Context, Group, read, write
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import GroupError, Rc
from smp_dfu_host.wire.body import Body, Int32


@dataclass(frozen=True, slots=True)
class Alarm(Body):
    limit: Int32  # in millidegrees Celsius; a field without a default must be there


class ThermometerGroup(Group):
    id = 64  # 64 and above are free for everybody
    name = "thermometer"
    v0_rc: ClassVar[Mapping[int, Rc]] = {1: Rc.EINVAL}  # what clients of SMP version 0 see of our codes

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._reads = services.stats.group("thermometer", "reads")  # the statistics group tells it

    @read(0)
    async def temperature(self, _context: Context) -> Mapping[str, object]:
        self._reads["reads"] += 1
        return {"millidegrees": 21_500}

    @write(1, Alarm)
    async def alarm(self, _context: Context, request: Alarm) -> Body:
        if request.limit > 125_000:
            raise GroupError(self.id, 1, f"limit {request.limit}, must be at most 125000")
        return Body()

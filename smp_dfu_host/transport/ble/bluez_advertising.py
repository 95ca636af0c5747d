"""On the air or off it, at the pace of the moment.

BlueZ obeys the advertisement's intervals, and changes of them while it is registered, from the version on that tells
`SupportedFeatures` of its own accord; before (5.66), only with `Experimental = true` in main.conf, and else the kernel
advertises every 1.28 s (bluez issue 314). There the controller is told directly, after bluetoothd has gone on the air.
A controller that advertises by extended commands refuses these ones, and stays with the kernel's interval.
"""

from smp_dfu_host.transport.ble.advertising import Interval, Pace
from smp_dfu_host.transport.ble.bluez_gatt import GattServer
from smp_dfu_host.transport.ble.hci_connections import HciConnections

KERNELS = Interval(1280, 1280)
"""What the kernel does by itself (linux net/bluetooth/hci_core.c, le_adv_min_interval)."""


class Advertiser:
    """Brings about what should be on the air.

    Args:
        server: Registers the advertisement.
        connections: The way past bluetoothd.
        pace: Decides the interval.
        obeyed: True where bluetoothd obeys.
        direct: True where nothing speaks against telling the controller.
    """

    def __init__(
        self, server: GattServer, connections: HciConnections, pace: Pace, *, obeyed: bool, direct: bool
    ) -> None:
        self._server = server
        self._connections = connections
        self._pace = pace
        self._obeyed = obeyed
        self._direct = direct
        self._told: Interval | None = None
        self._in_force = KERNELS

    @property
    def interval(self) -> Interval | None:
        """The interval in force; None while off the air."""
        return self._in_force if self._server.advertising else None

    def forgotten(self) -> None:
        """Take note that the interval may be another one."""
        self._told = None

    async def settle(self, *, wanted: bool) -> None:
        """Go on the air or off it, or stay there at another interval, without a gap.

        Raises:
            BusError: If bluetoothd refuses.
        """
        if not wanted:
            await self._server.hush()
            return
        interval = self._pace.interval
        if not self._server.advertising:
            await self._server.advertise(interval)
            self._told, self._in_force = (interval, interval) if self._obeyed else (None, KERNELS)
        if self._told != interval:
            self._told = interval
            if self._tell(interval):
                self._in_force = interval

    def _tell(self, interval: Interval) -> bool:
        if self._obeyed:
            self._server.change(interval)
            return True
        return self._direct and self._connections.advertise(interval)

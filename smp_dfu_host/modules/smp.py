"""The plain SMP module: tells of transfers over Bluetooth LE, and nothing else.

No lock, no refusals, no confirmation (sdk-nrf subsys/caf/modules/ble_smp.c). It and `dfu_mcumgr` exclude each other:
both are the final subscriber of the transfer event.
"""

from smp_dfu_host.dispatch.events import ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.hooks import Event, Notice, UploadCheck
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.modules import options
from smp_dfu_host.modules.transfer import TransferSignal

MODULE = "smp"
"""The module's name in its state events."""


class PlainSmp:
    """The module.

    Raises:
        ConfigError: If the options cannot be used together.
    """

    def __init__(self, services: Services) -> None:
        options.check(services.config)
        self._services = services
        self._signal = TransferSignal(services.events)
        self._initialised = False
        services.events.subscribe(ModuleStateEvent, self._state_changed)

    def reset_done(self) -> None:
        """Say that a reset was carried out: every upload is closed."""
        self._services.store.close_uploads()

    def _state_changed(self, event: ModuleStateEvent) -> None:
        if event == ModuleStateEvent("main", ModuleState.READY) and not self._initialised:
            self._initialised = True
            self._services.hooks.register(Event.IMG_DFU_CHUNK, self._chunk)
            self._services.events.submit(ModuleStateEvent(MODULE, ModuleState.READY))

    def _chunk(self, notice: Notice) -> None:
        check: UploadCheck = notice.data
        if check.peer.transport == "ble":
            self._signal.give(check.peer)

"""nRF Desktop's Device Firmware Upgrade MCUmgr module: who may update, how long, and what is confirmed.

    request ─► CMD_RECV hook ─► a DFU command? ─no─► pass, touch nothing
                                    │yes
                                claim the lock for the peer ─held by another─► rc 11, touch nothing
                                    │claimed
                                restart the peer's 5 s ─► an upload over BLE? give the transfer event ─► pass

    5 s without one, and none running: warn, release the lock, keep the progress
    reset carried out: release the lock, close the uploads

After sdk-nrf applications/nrf_desktop/src/modules/dfu_mcumgr.c, where MCUmgr as a whole is the one owner of the lock;
here each peer is one, by its stable identity.
"""

import logging
from functools import partial

from smp_dfu_host.dispatch.clock import Timer
from smp_dfu_host.dispatch.events import ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.hooks import CommandReceived, Event, Notice
from smp_dfu_host.dispatch.lock import LockError, LockOwner
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import MgmtError, Rc, StoreError
from smp_dfu_host.modules import options
from smp_dfu_host.modules.transfer import TransferSignal
from smp_dfu_host.wire.header import Op

log = logging.getLogger(__name__)

MODULE = "dfu_mcumgr"
"""The module's name in its state events."""

_WRITE = int(Op.WRITE)
_OS, _IMAGE = 0, 1
_OS_RESET = 5
_IMAGE_UPLOAD = 1


class DfuMcumgr:
    """The module.

    Args:
        services: The options are `config.dfu` and `config.bootloader.mode`.

    Raises:
        ConfigError: If the options cannot be used together.
    """

    def __init__(self, services: Services) -> None:
        options.check(services.config)
        self._services = services
        self._dfu = services.config.dfu
        self._timeout_s = self._dfu.timeout_ms / 1000
        self._lock = services.lock
        self._signal = TransferSignal(services.events)
        self._deadlines: dict[str, float] = {}
        """When each peer's time is up, by the clock. One timer watches them: it is cheaper to let it look once more
        than to have another one for each command."""
        self._timer: Timer | None = None
        self._busy: str | None = None
        self._initialised = False
        services.events.subscribe(ModuleStateEvent, self._state_changed)

    def reset_done(self) -> None:
        """Say that a reset was carried out: the update is complete, the lock is free and every upload is closed."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (owner := self._lock.owner) is not None:
            self._lock.release(owner)
        self._services.store.close_uploads()

    def _state_changed(self, event: ModuleStateEvent) -> None:
        if event != ModuleStateEvent("main", ModuleState.READY):
            return
        if options.confirms(self._services.config):
            self._confirm()
        if not self._initialised:
            self._initialised = True
            self._services.hooks.register(Event.CMD_RECV, self._command_received)
            self._services.hooks.register(Event.CMD_DONE, self._command_done)
            self._services.events.submit(ModuleStateEvent(MODULE, ModuleState.READY))

    def _confirm(self) -> None:
        try:
            if self._services.store.confirm_running():
                log.info("the running image is confirmed: [dfu] confirm_at_start")
        except StoreError as exc:
            log.error("cannot confirm the running image: %s", exc)  # noqa: TRY400  (no fault of the code)

    def _command_received(self, notice: Notice) -> None:
        """Pass or refuse a request.

        Raises:
            MgmtError: `EACCESSDENIED` for a DFU command of a peer that does not own the update.
        """
        command: CommandReceived = notice.data
        if notice.refused is not None or not is_dfu_command(command, strict=self._dfu.strict):
            return
        if not self._dfu.enabled:
            raise MgmtError(Rc.EACCESSDENIED, "dfu.enabled = false")
        owner = command.peer.owner
        if (holder := self._lock.owner) is None or holder.name != owner:
            self._claim(owner)
        self._busy = owner
        self._restart(owner)
        if command.peer.transport == "ble" and _is_upload(command):
            self._signal.give(command.peer)

    def _claim(self, owner: str) -> None:
        try:
            self._lock.claim(LockOwner(owner, partial(self._owner_changed, owner)))
        except LockError as exc:
            raise MgmtError(Rc.EACCESSDENIED, str(exc)) from exc

    def _command_done(self, _notice: Notice) -> None:
        """Note that nothing runs; requests are served one at a time."""
        self._busy = None

    def _restart(self, owner: str) -> None:
        self._deadlines[owner] = self._services.clock.time() + self._timeout_s
        if self._timer is None:
            self._watch()

    def _watch(self) -> None:
        """Look at the deadlines when the first one is due."""
        if self._deadlines:
            delay_s = min(self._deadlines.values()) - self._services.clock.time()
            self._timer = self._services.clock.call_later(max(0.0, delay_s), self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._services.clock.time()
        for owner in [owner for owner, due_s in self._deadlines.items() if due_s <= now_s]:
            self._expired(owner)
        self._watch()

    def _expired(self, owner: str) -> None:
        """Release the lock; the upload's progress is kept for the owner as long as no other claims the lock."""
        if owner == self._busy:  # a command that takes long is no silence, and must not lose the lock half-way
            self._restart(owner)
            return
        del self._deadlines[owner]
        log.warning("%s: no DFU command for %g s, the lock is released", owner, self._timeout_s)
        self._lock.release(LockOwner(owner))

    def _owner_changed(self, owner: str, new_owner: LockOwner) -> None:
        log.debug("%s: upload progress dropped, the new owner is %s", owner, new_owner.name)
        self._services.store.drop_upload(owner)


def is_dfu_command(command: CommandReceived, *, strict: bool) -> bool:
    """Return whether the command updates firmware: it writes to the image group, or resets.

    Args:
        command: The command.
        strict: Count all of the image group, reads too, as the original's code does; its documentation does not.
    """
    if command.group == _IMAGE:
        return strict or command.op == _WRITE
    return (command.group, command.command, command.op) == (_OS, _OS_RESET, _WRITE)


def _is_upload(command: CommandReceived) -> bool:
    return (command.group, command.command, command.op) == (_IMAGE, _IMAGE_UPLOAD, _WRITE)

"""What groups and modules are given to work with."""

from collections.abc import Callable
from dataclasses import dataclass, field

from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.clock import Clock
from smp_dfu_host.dispatch.events import EventManager
from smp_dfu_host.dispatch.hooks import Hooks
from smp_dfu_host.dispatch.lock import DfuLock
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.store.settings import Settings
from smp_dfu_host.store.slots import SlotStore


@dataclass(frozen=True, slots=True)
class ResetRequest:
    """What a client's reset command asked for."""

    force: bool
    """Reset even if something speaks against it."""
    boot_mode: int
    """1: into the boot loader; any other value: a plain reset."""
    peer: Peer
    """Who asked."""


@dataclass(frozen=True, slots=True)
class Services:
    """The server's parts, each made once; groups and modules are made as `Kind(services)`."""

    config: Config
    store: SlotStore
    hooks: Hooks
    events: EventManager
    stats: Statistics
    clock: Clock
    reset: Callable[[ResetRequest], None]
    """Asks for a reset; returns at once, the reset follows after the configured delay."""
    lock: DfuLock = field(default_factory=DfuLock)
    """The DFU lock; its counter dates upload sessions."""
    settings: Settings = field(default_factory=Settings)
    """The settings and their storage."""

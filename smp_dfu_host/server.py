"""The composition root: builds everything from a Config, and owns the power.

    start ─► boot loader ─► main READY ─► transports online ─► requests …
                 ▲    └─ no image boots: off the air, watch the slots, try again when they change
                 └──── reset: reply, 250 ms, links dropped and slots swapped side by side ◄──┘

Everything that a reset of a real device would forget is forgotten here too: links, queued requests, upload sessions,
the DFU lock. What is on flash stays. Transports keep their sockets, ttys and GATT handles through a reset, so that the
same device comes back under the same name.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smp_dfu_host import plugins
from smp_dfu_host.config import Config
from smp_dfu_host.dispatch.events import EventManager, ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.group import Group
from smp_dfu_host.dispatch.hook_programs import HookPrograms
from smp_dfu_host.dispatch.hooks import Hooks
from smp_dfu_host.dispatch.lock import DfuLock
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.dispatch.services import ResetRequest, Services
from smp_dfu_host.dispatch.stats import Statistics, count_uploads
from smp_dfu_host.dispatch.worker import Worker
from smp_dfu_host.errors import ConfigError, PluginError, TransportError
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.modules.ble_latency import BleLatency
from smp_dfu_host.modules.dfu_mcumgr import DfuMcumgr
from smp_dfu_host.modules.smp import PlainSmp
from smp_dfu_host.store.occupancy import occupied
from smp_dfu_host.store.settings import Settings
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.transport.base import Transport
from smp_dfu_host.transport.ble import BleTransport
from smp_dfu_host.transport.ble.pairing import Desk
from smp_dfu_host.transport.serial import SerialTransport, lines
from smp_dfu_host.transport.udp import UdpTransport

log = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often the slots are looked at while no image boots, in seconds."""

BOOTLOADER = 1
"""The boot mode that asks for the boot loader (zephyr include/zephyr/retention/bootmode.h)."""

Line = Mapping[str, Any]


class Server:
    """The target: one store, one worker, any number of transports.

    Must be made inside a running event loop, whose time is the server's clock.

    Args:
        config: Everything that can be configured.
        on_ready: Called with the ready line when the target is on the air for the first time, and with `"ready": False`
            and a `reason` when no image boots.
        desk: Who is asked about Bluetooth pairings; nobody unless said.
        transports: More of them, besides those that are configured: a `LoopbackTransport` for clients in this process.

    Raises:
        ConfigError: If the configuration does not describe a target.
        PluginError: If a group cannot be loaded.
    """

    def __init__(
        self,
        config: Config,
        *,
        on_ready: Callable[[Line], None] | None = None,
        desk: Desk | None = None,
        transports: Sequence[Transport] = (),
    ) -> None:
        self.stats = Statistics()
        self.hooks = Hooks()
        self.events = EventManager(asyncio.get_running_loop())
        self._config = config
        self._on_ready = on_ready or (lambda _line: None)
        self._flash = self.stats.group("flash", "boots", "failed", "operations")
        self._kinds = served_kinds(config)
        self._transports = [*make_transports(config, self.stats, desk), *transports]

    async def run(self) -> int:
        """Serve until cancelled, or until there is nothing to serve; return the exit status.

        Raises:
            ConfigError: If the store wants something that is not configured.
            StoreError: If the store cannot be used, or another server runs on it.
            TransportError: If no transport could be opened.
        """
        with occupied(self._config.store):
            device = await self._assemble()
            life = asyncio.create_task(self._live(device))
            others = [asyncio.create_task(part.run()) for part in (device.worker, device.programs)]
            try:
                done, _ = await asyncio.wait((life, *others), return_when=asyncio.FIRST_COMPLETED)
                for failed in done - {life}:
                    failed.result()
                return await life
            finally:
                for task in (life, *others):
                    task.cancel()
                await asyncio.wait((life, *others))
                for transport in self._transports:
                    await transport.close()

    async def _assemble(self) -> "_Device":
        config, clock = self._config, asyncio.get_running_loop()
        store = await asyncio.to_thread(SlotStore, config)
        settings = Settings(store.layout.settings if config.settings.storage else None)
        lock = DfuLock(store.layout.lock, enabled=config.dfu.lock, stats=self.stats)
        count_uploads(self.hooks, self.stats)
        reset = _Reset(config.reset.delay_ms)
        services = Services(config, store, self.hooks, self.events, self.stats, clock, reset.ask, lock, settings)
        register_hooks(services)
        programs = HookPrograms(config.hook, self.stats)
        programs.register(self.hooks)
        module = DfuMcumgr(services) if config.smp.module == "dfu" else PlainSmp(services)
        for transport in self._transports:
            if isinstance(transport, BleTransport):
                BleLatency(services, transport.connections)
        router = Router([kind(services) for kind in self._kinds], self.hooks, self.stats)
        return _Device(store, module, Worker(router, config.smp.queue_size, self.stats, self.events), reset, programs)

    async def _live(self, device: "_Device") -> int:
        """Boot, serve until a reset, boot again; as long as there is an image to run."""
        endpoints = await self._open(device.worker)
        announced = False
        result = self._count(await boot(device.store))
        while True:
            if not result.ok:
                self._on_ready({"ready": False, "name": self._config.name, "reason": failure(result)})
                log.error("no image boots, the target is off the air: %s", failure(result))
                if self._config.bootloader.on_failure == "exit":
                    return 1
                result = self._count(await mended(device.store))
                continue
            self.events.submit(ModuleStateEvent("main", ModuleState.READY))
            await asyncio.gather(*(transport.online() for transport in self._transports))
            if not announced:
                self._on_ready(self._ready_line(device.store, endpoints))
                announced = True
            result = await self._reset(device, await device.reset.asked())

    async def _reset(self, device: "_Device", request: ResetRequest) -> BootResult:
        """Drop the links and run the boot loader, side by side: BlueZ takes two seconds to drop a link."""
        async with device.worker.paused():
            result, _ = await asyncio.gather(
                boot(device.store, loader=request.boot_mode == BOOTLOADER), self._offline()
            )
            device.module.reset_done()
        return self._count(result)

    def _count(self, result: BootResult) -> BootResult:
        self._flash["boots"] += 1
        self._flash["failed"] += not result.ok
        self._flash["operations"] += result.ops
        return result

    async def _offline(self) -> None:
        await asyncio.gather(*(transport.offline() for transport in self._transports))

    async def _open(self, inbox: Worker) -> list[Line]:
        """Open every transport; those that cannot be are reported and left out."""
        endpoints: list[Line] = []
        missing: list[str] = []
        for transport in tuple(self._transports):
            try:
                endpoints.append({"transport": transport.name, **await transport.open(inbox)})
            except TransportError as exc:
                missing.append(f"{transport.name}: {exc}")
                self._transports.remove(transport)
        if not self._transports:
            raise TransportError("; ".join(missing))
        for said in missing:
            log.error("%s", said)
        return endpoints

    def _ready_line(self, store: SlotStore, endpoints: list[Line]) -> Line:
        return {
            "ready": True,
            "name": self._config.name,
            "store": str(store.layout.folder),
            "mode": self._config.bootloader.mode,
            "transports": endpoints,
        }


@dataclass(frozen=True, slots=True)
class _Device:
    """What is inside of the target, made once."""

    store: SlotStore
    module: DfuMcumgr | PlainSmp
    worker: Worker
    reset: "_Reset"
    programs: HookPrograms


class _Reset:
    """The reset that a client asks for and that comes later.

    Args:
        delay_ms: From the request to the reset; requests in between are still served.
    """

    def __init__(self, delay_ms: int) -> None:
        self._delay_s = delay_ms / 1000
        self._asked: ResetRequest | None = None
        self._due = asyncio.Event()

    def ask(self, request: ResetRequest) -> None:
        """Reset after the delay; one that is on its way already is not put off, nor changed."""
        mode = f", boot mode {request.boot_mode}" if request.boot_mode else ""
        log.info("%s: reset%s", request.peer, mode)
        if self._asked is None:
            self._asked = request
            asyncio.get_running_loop().call_later(self._delay_s, self._due.set)

    async def asked(self) -> ResetRequest:
        """Wait until a reset is due, and return what was asked for."""
        await self._due.wait()
        self._due.clear()
        assert self._asked is not None  # noqa: S101  (for the type checker)
        request, self._asked = self._asked, None
        return request


async def boot(store: SlotStore, *, loader: bool = False) -> BootResult:
    """Run the boot loader off the event loop, and log what it did.

    Args:
        store: The slots.
        loader: In firmware-loader mode, have the loader in slot 1 run. Other modes have nothing else to run.
    """
    result = await asyncio.to_thread(store.boot, loader=loader)
    for action in result.actions:
        log.info("boot loader: %s", action)
    return result


async def mended(store: SlotStore) -> BootResult:
    """Wait until somebody changes the slots, and boot what is there then."""
    before = slot_stamps(store)
    while (now := slot_stamps(store)) == before:  # noqa: ASYNC110  (another process changes them)
        await asyncio.sleep(WATCH_S)
    log.info("the slots have changed: %d files", len(now))
    return await boot(store)


def slot_stamps(store: SlotStore) -> list[tuple[int, int]]:
    """Return what changes with every change of a slot's file."""
    stats = [store.layout.slot(slot).stat() for slot in store.layout.slots]
    return [(stat.st_ino, stat.st_mtime_ns) for stat in stats]


def failure(result: BootResult) -> str:
    """Say why no image boots, and what mends it."""
    why = result.stopped or (result.actions[-1] if result.actions else "no valid image")
    return f"{why}; put a valid image there: smp-dfu-host slots load FILE --slot 0"


def group_kinds(names: Sequence[str] = ()) -> list[type[Group]]:
    """Return the classes of those groups in that order, or of every group that is installed.

    Raises:
        ConfigError: If one is not installed.
        PluginError: If one cannot be loaded, or is no group.
    """
    kinds: dict[str, type[Group]] = {}
    for name, kind in plugins.load(plugins.GROUPS).items():
        if not isinstance(kind, type) or not issubclass(kind, Group):
            raise PluginError(f"entry point {name}: {kind.__qualname__} is no {Group.__module__}.{Group.__qualname__}")
        kinds[name] = kind
    if missing := [name for name in names if name not in kinds]:
        raise ConfigError(f"smp.groups: {', '.join(missing)} not installed; there are {', '.join(kinds)}")
    return [kinds[name] for name in names or kinds]


def served_kinds(config: Config) -> list[type[Group]]:
    """Return the classes of the groups that are served: those that are asked for, or all that have what they need.

    Raises:
        ConfigError: If one that is asked for is not installed, or lacks an option.
        PluginError: If one cannot be loaded, or is no group.
    """
    kinds = group_kinds(config.smp.groups)
    if not config.smp.groups:
        return [kind for kind in kinds if not kind.needs(config)]
    for name, kind in zip(config.smp.groups, kinds, strict=True):
        if option := kind.needs(config):
            raise ConfigError(f"smp.groups: {name} needs {option}")
    return kinds


def register_hooks(services: Services) -> None:
    """Have the hooks that are installed register their handlers, in the order of their names.

    Raises:
        PluginError: If one cannot be loaded, or fails.
    """
    for name, register in plugins.load(plugins.HOOKS).items():
        try:
            register(services)
        except Exception as exc:  # a stranger's code may raise anything
            raise PluginError(f"entry point {name}: {type(exc).__name__}: {exc}") from exc


def make_transports(config: Config, stats: Statistics, desk: Desk | None = None) -> list[Transport]:
    """Return the transports that the configuration enables; `desk` is asked about Bluetooth pairings.

    Raises:
        ConfigError: If there is none.
    """
    chosen: list[Transport] = []
    section, size = config.transport, config.smp.buf_size
    if section.udp.enabled:
        chosen.append(UdpTransport(section.udp, size))
    chosen.extend(SerialTransport(line, size) for line in lines(section.serial))
    if section.ble.enabled:
        counters = stats.group("ble", "unsecured")
        chosen.append(BleTransport(section.ble, config.name, size, folder=config.store, desk=desk, counters=counters))
    if not chosen:
        raise ConfigError("no transport is enabled: give --udp, --serial, --pty or --ble, or enable one in the file")
    return chosen

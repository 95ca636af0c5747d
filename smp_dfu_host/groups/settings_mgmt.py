"""The settings group (3): read, write, delete, commit, load and save settings.

After zephyr subsys/mgmt/mcumgr/grp/settings_mgmt/src/settings_mgmt.c. A write changes the value in use; what is saved
comes back after a reset (store/settings.py). Which names there are and who may do what, configuration and hooks say.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.dispatch.events import ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.group import Context, Group, read, write
from smp_dfu_host.dispatch.hooks import Event, SettingsAccess, SettingsUse
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import GroupError, MgmtError, Rc, StoreError
from smp_dfu_host.store.settings import covers
from smp_dfu_host.wire.body import Body, Uint32

log = logging.getLogger(__name__)

GROUP = 3


class SettingsRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/settings_mgmt/settings_mgmt.h)."""

    UNKNOWN = 1
    KEY_TOO_LONG = 2
    KEY_NOT_FOUND = 3
    READ_NOT_SUPPORTED = 4
    ROOT_KEY_NOT_FOUND = 5
    WRITE_NOT_SUPPORTED = 6
    DELETE_NOT_SUPPORTED = 7
    SAVE_NOT_SUPPORTED = 8
    VALUE_TOO_LONG = 9


@dataclass(frozen=True, slots=True)
class Read(Body):
    """A setting to read."""

    name: str = ""
    max_size: Uint32 | None = None
    """Bytes of the value that are wanted at most."""


@dataclass(frozen=True, slots=True)
class ReadReply(Body):
    """A setting's value."""

    val: bytes
    max_size: int | None = None
    """The server's limit, if more was asked for."""


@dataclass(frozen=True, slots=True)
class Write(Body):
    """A setting to write."""

    name: str = ""
    val: bytes = b""


@dataclass(frozen=True, slots=True)
class Delete(Body):
    """A setting to delete."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Save(Body):
    """A subtree to save; missing: everything."""

    name: str | None = None


class SettingsGroup(Group):
    """Commands about settings."""

    id = GROUP
    name = "settings mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = {
        SettingsRc.KEY_TOO_LONG: Rc.EINVAL,
        SettingsRc.KEY_NOT_FOUND: Rc.ENOENT,
        SettingsRc.READ_NOT_SUPPORTED: Rc.ENOENT,
    }

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._config = services.config.settings
        self._settings = services.settings
        services.events.subscribe(ModuleStateEvent, self._state_changed)

    @read(0, Read)
    async def get(self, context: Context, request: Read) -> Body:
        """Tell a value, or the part of it that is wanted."""
        name = await self._admit(SettingsUse.READ, context, request.name)
        self._check_root(name)
        if _in(name, self._config.write_only):
            raise GroupError(GROUP, SettingsRc.READ_NOT_SUPPORTED, f"{name!r} is in settings.write_only")
        value = self._settings.get(name)
        if value is None:
            raise GroupError(GROUP, SettingsRc.KEY_NOT_FOUND, f"no setting {name!r}")
        limit, wanted = self._config.value_len, request.max_size
        size = limit if wanted is None else min(limit, wanted)
        return ReadReply(value[:size], limit if wanted is not None and wanted > limit else None)

    @write(0, Write)
    async def set(self, context: Context, request: Write) -> Body:
        """Use a value from now on."""
        name = await self._admit(SettingsUse.WRITE, context, request.name, request.val)
        self._check_root(name)
        if name in self._config.roots:
            raise GroupError(GROUP, SettingsRc.KEY_NOT_FOUND, f"{name!r} is a subtree, not a setting")
        if _in(name, self._config.read_only):
            raise GroupError(GROUP, SettingsRc.WRITE_NOT_SUPPORTED, f"{name!r} is in settings.read_only")
        if len(request.val) > self._config.value_len:
            reason = f"value of {len(request.val)} bytes, limit is {self._config.value_len}"
            raise GroupError(GROUP, SettingsRc.VALUE_TOO_LONG, reason)
        if self._settings.get(name) is None and len(self._settings) >= self._config.entries:
            raise GroupError(GROUP, SettingsRc.UNKNOWN, f"there are {self._config.entries} settings already")
        self._settings.set(name, request.val)
        return Body()

    @write(1, Delete)
    async def delete(self, context: Context, request: Delete) -> Body:
        """Forget a value, in use and in storage."""
        name = await self._admit(SettingsUse.DELETE, context, request.name)
        if _in(name, self._config.read_only):
            raise GroupError(GROUP, SettingsRc.DELETE_NOT_SUPPORTED, f"{name!r} is in settings.read_only")
        try:
            there = await asyncio.to_thread(self._settings.delete, name)
        except StoreError as exc:
            raise GroupError(GROUP, SettingsRc.UNKNOWN, str(exc)) from exc
        if not there:
            raise GroupError(GROUP, SettingsRc.KEY_NOT_FOUND, f"no setting {name!r}")
        return Body()

    @write(2)
    async def commit(self, context: Context) -> Body:
        """Have what was written take effect; it has already, and the hooks are told."""
        await self._ask(SettingsAccess(SettingsUse.COMMIT, context.peer))
        return Body()

    @read(3)
    async def load(self, context: Context) -> Body:
        """Use what is stored."""
        await self._ask(SettingsAccess(SettingsUse.LOAD, context.peer))
        try:
            await asyncio.to_thread(self._settings.load)
        except StoreError as exc:
            raise GroupError(GROUP, SettingsRc.UNKNOWN, str(exc)) from exc
        return Body()

    @write(3, Save)
    async def save(self, context: Context, request: Save) -> Body:
        """Store what is in use; it is on the disk when this is answered."""
        if request.name is not None:
            self._check_name(request.name)
        subtree = await self._ask(SettingsAccess(SettingsUse.SAVE, context.peer, request.name or ""))
        if not self._settings.stored:
            raise GroupError(GROUP, SettingsRc.SAVE_NOT_SUPPORTED, "settings.storage = false")
        try:
            await asyncio.to_thread(self._settings.save, subtree)
        except StoreError as exc:
            raise GroupError(GROUP, SettingsRc.UNKNOWN, str(exc)) from exc
        return Body()

    async def _admit(self, use: SettingsUse, context: Context, name: str, value: bytes = b"") -> str:
        """Check a name and ask the hooks; return the name that they leave."""
        self._check_name(name)
        return await self._ask(SettingsAccess(use, context.peer, name, value))

    def _check_name(self, name: str) -> None:
        size = len(name.encode(errors="surrogateescape"))
        if not size:
            raise MgmtError(Rc.EINVAL, "no name")
        if size >= self._config.name_len:
            reason = f"name of {size} bytes, limit is {self._config.name_len - 1}"
            raise GroupError(GROUP, SettingsRc.KEY_TOO_LONG, reason)

    def _check_root(self, name: str) -> None:
        if not _in(name, self._config.roots):
            raise GroupError(GROUP, SettingsRc.ROOT_KEY_NOT_FOUND, f"{name!r} is not in settings.roots")

    async def _ask(self, access: SettingsAccess) -> str:
        """Ask the hooks; return the name that they leave."""
        await self.services.hooks.notify(Event.SETTINGS_ACCESS, access)
        return access.name

    def _state_changed(self, event: ModuleStateEvent) -> None:
        """Forget at a reset what was not saved."""
        if event == ModuleStateEvent("main", ModuleState.READY):
            try:
                self._settings.reset()
            except StoreError as exc:
                log.error("settings not loaded: %s", exc)  # noqa: TRY400  (the file's fault, in one line)


def _in(name: str, subtrees: Iterable[str]) -> bool:
    return any(covers(subtree, name) for subtree in subtrees)

"""MCUmgr's notification callbacks: ordered, may refuse, may end the chain.

A handler is registered for one event, for several events of one group (`Event.A | Event.B`), for all events of a group
(`EventGroup.IMG.events`) or for everything (`ALL_EVENTS`). All handlers of an event run in the order of registration. A
handler refuses by raising a `Refusal`; the first refusal is the one that counts, the later handlers see it in
`Notice.refused` and run for information only. `Notice.stop()` keeps the later handlers from running. A handler that has
to wait for something is a coroutine function: the request waits for it, and so do those behind it, the event loop does
not.

`hook_events` has the events; here is what each of them comes with, and the handlers.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import Refusal
from smp_dfu_host.hook_events import ALL_EVENTS as ALL_EVENTS
from smp_dfu_host.hook_events import EVENT_MASK
from smp_dfu_host.hook_events import Event as Event
from smp_dfu_host.hook_events import EventGroup as EventGroup


class UploadStatus(IntEnum):
    """How far an upload request got (zephyr include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h)."""

    START = 0
    ONGOING = 1
    COMPLETE = 2


# What is made for every request, or every part of an upload, is a tuple: a frozen dataclass takes three times as long.


class CommandReceived(NamedTuple):
    """A request whose handler is known and has not run yet (struct mgmt_evt_op_cmd_arg)."""

    group: int
    command: int
    op: int
    """0 read, 2 write."""
    peer: Peer


class CommandStatus(NamedTuple):
    """The end of an upload request that got past the check of its offset."""

    group: int
    command: int
    status: UploadStatus


class CommandDone(NamedTuple):
    """A request that had a handler is answered."""

    group: int
    command: int
    error: int
    """The global code of the answer; 0 also when a version-1 reply holds an `err` map."""
    peer: Peer


class UploadCheck(NamedTuple):
    """An upload request that is valid and has the right offset, before anything is written (img_mgmt_upload_check)."""

    peer: Peer
    image: int
    off: int
    """Where the data go, in bytes from the start of the image."""
    data: bytes
    size: int
    """Of the whole image, in bytes."""
    sha: bytes
    """As the first chunk gave it; empty if it gave none."""
    upgrade: bool
    slot: int
    """The slot that is written to."""
    erase: bool
    """True if the slot is erased first."""


@dataclass(frozen=True, slots=True)
class DfuStarted:
    """A first chunk is accepted; nothing is erased yet."""

    peer: Peer
    image: int
    slot: int
    size: int
    """Of the whole image, in bytes."""


class ChunkWritten(NamedTuple):
    """A chunk is written and more are to come."""

    peer: Peer
    image: int
    slot: int
    off: int
    """How much of the image is there now, in bytes."""
    size: int
    """Of the whole image, in bytes."""


@dataclass(frozen=True, slots=True)
class DfuPending:
    """The last byte of an image is written."""

    peer: Peer
    image: int
    slot: int
    size: int


@dataclass(frozen=True, slots=True)
class DfuStopped:
    """An upload request or an erase has failed."""

    peer: Peer
    reason: str
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class DfuConfirmed:
    """The running image was confirmed by a client."""

    peer: Peer
    image: int
    slot: int


@dataclass(frozen=True, slots=True)
class ImageFields:
    """An image that is about to be encoded; handlers may add fields."""

    image: int
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlotFields:
    """A slot that is about to be encoded; handlers may add fields."""

    image: int
    slot: int
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OsReset:
    """A reset is asked for; its timer has not started (os_mgmt_reset_data)."""

    force: bool
    boot_mode: int
    peer: Peer


@dataclass(frozen=True, slots=True)
class InfoCheck:
    """The format of an `info` request; handlers may add letters that they will answer (os_mgmt_info_check)."""

    format: str
    letters: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class InfoAppend:
    """The output of an `info` request; handlers add their texts at its end (os_mgmt_info_append)."""

    format: str
    output: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BootloaderInfo:
    """A boot loader query; a handler that fills `fields` has answered it (os_mgmt_bootloader_info_data)."""

    query: str | None
    fields: dict[str, object] = field(default_factory=dict)


class FileUse(IntEnum):
    """What is to be done with a file (enum fs_mgmt_file_access_types)."""

    READ = 0
    WRITE = 1
    STATUS = 2
    HASH = 3


@dataclass(slots=True)
class FileAccess:
    """A file that is about to be used (fs_mgmt_file_access); a transfer is told of when its file is opened."""

    use: FileUse
    name: str
    """The path; handlers may put another one here, which is confined like any other."""
    peer: Peer


class SettingsUse(IntEnum):
    """What is to be done with settings (enum settings_mgmt_access_types)."""

    READ = 0
    WRITE = 1
    DELETE = 2
    COMMIT = 3
    LOAD = 4
    SAVE = 5


@dataclass(slots=True)
class SettingsAccess:
    """Settings that are about to be used (settings_mgmt_access)."""

    use: SettingsUse
    peer: Peer
    name: str = ""
    """Which one; of `SAVE` the subtree, empty for all. Handlers may put another one here."""
    value: bytes = b""
    """Of `WRITE`: what is to be written."""


@dataclass(frozen=True, slots=True)
class GroupFields:
    """A group that is about to be told of in detail; handlers may add fields."""

    group: int
    fields: dict[str, object] = field(default_factory=dict)


class Notice:
    """One notification on its way through the handlers."""

    __slots__ = ("data", "event", "refused", "stopped")

    def __init__(self, event: Event, data: Any) -> None:
        self.event = event
        self.data = data
        """The event's data; `event.data` names its type."""
        self.refused: Refusal | None = None
        """The refusal that counts, if an earlier handler has refused."""
        self.stopped = False
        """True once a handler has ended the chain."""

    def stop(self) -> None:
        """Let no further handler run."""
        self.stopped = True


Handler = Callable[[Notice], Awaitable[None] | None]
"""Called in the event loop: a function that is short, or one that is awaited. Raises a `Refusal` to refuse."""


class Trigger:
    """One event with its handlers, for who fires it all the time: `if trigger.chain: ... trigger.fire(data)`."""

    __slots__ = ("chain", "event")

    def __init__(self, event: Event, chain: tuple[Handler, ...]) -> None:
        self.event = event
        self.chain = chain
        """The handlers as they are now, in order; if there is none, the event's data need not be made."""

    def fire(self, data: object) -> Awaitable[None] | None:
        """Run the handlers as far as none of them waits; return what else is to be awaited, None if nothing is.

        Raises:
            Refusal: The first one that a handler raised; awaiting the rest raises it, too.
        """
        return _run(iter(self.chain), Notice(self.event, data))


def _run(handlers: Iterator[Handler], notice: Notice) -> Awaitable[None] | None:
    for handler in handlers:
        try:
            if (waiting := handler(notice)) is not None:
                return _go_on(waiting, handlers, notice)
        except Refusal as refusal:
            notice.refused = notice.refused or refusal
        if notice.stopped:
            break
    if notice.refused is not None:
        raise notice.refused
    return None


async def _go_on(waiting: Awaitable[None], handlers: Iterator[Handler], notice: Notice) -> None:
    try:
        await waiting
    except Refusal as refusal:
        notice.refused = notice.refused or refusal
    if (rest := _run(iter(()) if notice.stopped else handlers, notice)) is not None:
        await rest


class Hooks:
    """The registered handlers."""

    def __init__(self) -> None:
        self._handlers: tuple[tuple[int, Handler], ...] = ()
        self._triggers: dict[Event, Trigger] = {}

    def register(self, events: int, handler: Handler) -> None:
        """Call the handler at these events from now on, after those already registered.

        Args:
            events: An `Event`, several of one group joined by `|`, `EventGroup.X.events` or `ALL_EVENTS`.
            handler: See `Handler`.
        """
        self._use((*self._handlers, (events, handler)))

    def unregister(self, handler: Handler) -> None:
        """Call the handler no more, whatever it was registered for."""
        self._use(tuple(entry for entry in self._handlers if entry[1] != handler))

    def trigger(self, event: Event) -> Trigger:
        """Return the event's trigger, always the same; its handlers change as they are registered."""
        if (trigger := self._triggers.get(event)) is None:
            trigger = self._triggers[event] = Trigger(event, self._chain(event))
        return trigger

    def heard(self, event: Event) -> bool:
        """Tell whether the event has a handler."""
        return bool(self.trigger(event).chain)

    async def notify(self, event: Event, data: object) -> None:
        """Run the event's handlers, one after another.

        Raises:
            Refusal: The first one that a handler raised.
        """
        trigger = self.trigger(event)
        if trigger.chain and (waiting := trigger.fire(data)) is not None:
            await waiting

    def _use(self, handlers: tuple[tuple[int, Handler], ...]) -> None:
        self._handlers = handlers
        for trigger in self._triggers.values():
            trigger.chain = self._chain(trigger.event)

    def _chain(self, event: Event) -> tuple[Handler, ...]:
        return tuple(handler for events, handler in self._handlers if _covers(events, event))


def _covers(events: int, event: Event) -> bool:
    return events == ALL_EVENTS or (events >> 16 == event >> 16 and bool(events & event & EVENT_MASK))

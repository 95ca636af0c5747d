"""MCUmgr's notification callbacks: ordered, may refuse, may end the chain.

A handler is registered for one event, for several events of one group (`Event.A | Event.B`), for all events of a group
(`EventGroup.IMG.events`) or for everything (`ALL_EVENTS`). All handlers of an event run in the order of registration. A
handler refuses by raising a `Refusal`; the first refusal is the one that counts, the later handlers see it in
`Notice.refused` and run for information only. `Notice.stop()` keeps the later handlers from running.

The numbers are Zephyr's: a group in the upper 16 bits, one bit per event below (zephyr
include/zephyr/mgmt/mcumgr/mgmt/callbacks.h). They are no SMP group ids.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import Refusal

_ID_MASK = 0xFFFF

ALL_EVENTS = _ID_MASK
"""Every event of every group (MGMT_EVT_OP_ALL)."""


class EventGroup(IntEnum):
    """Groups of events (enum mgmt_cb_groups)."""

    SMP = 1
    OS = 2
    IMG = 3
    FS = 4
    SETTINGS = 5
    ENUM = 6

    @property
    def events(self) -> int:
        """All events of this group (MGMT_EVT_OP_..._ALL)."""
        return self << 16 | _ID_MASK


class Event(IntEnum):
    """What handlers can be told of; the comment names the type of the data."""

    CMD_RECV = 1 << 16 | 1 << 0  # CommandReceived; may refuse: the command is not run
    CMD_STATUS = 1 << 16 | 1 << 1  # CommandStatus
    CMD_DONE = 1 << 16 | 1 << 2  # CommandDone
    OS_RESET = 2 << 16 | 1 << 0  # OsReset; may refuse
    OS_INFO_CHECK = 2 << 16 | 1 << 1  # InfoCheck
    OS_INFO_APPEND = 2 << 16 | 1 << 2  # InfoAppend; may refuse
    OS_DATETIME_GET = 2 << 16 | 1 << 3  # may refuse
    OS_DATETIME_SET = 2 << 16 | 1 << 4  # may refuse
    OS_BOOTLOADER_INFO = 2 << 16 | 1 << 5  # BootloaderInfo; may refuse
    IMG_DFU_CHUNK = 3 << 16 | 1 << 0  # UploadCheck; may refuse
    IMG_DFU_STOPPED = 3 << 16 | 1 << 1  # DfuStopped
    IMG_DFU_STARTED = 3 << 16 | 1 << 2  # DfuStarted
    IMG_DFU_PENDING = 3 << 16 | 1 << 3  # DfuPending
    IMG_DFU_CONFIRMED = 3 << 16 | 1 << 4  # DfuConfirmed
    IMG_DFU_CHUNK_WRITE_COMPLETE = 3 << 16 | 1 << 5  # ChunkWritten
    IMG_IMAGE_SLOT_STATE = 3 << 16 | 1 << 6  # SlotFields; may refuse
    IMG_SLOT_INFO_IMAGE = 3 << 16 | 1 << 7  # ImageFields; may refuse
    IMG_SLOT_INFO_SLOT = 3 << 16 | 1 << 8  # SlotFields; may refuse
    FS_FILE_ACCESS = 4 << 16 | 1 << 0  # may refuse
    SETTINGS_ACCESS = 5 << 16 | 1 << 0  # may refuse
    ENUM_DETAILS = 6 << 16 | 1 << 0  # may refuse


class UploadStatus(IntEnum):
    """How far an upload request got (zephyr include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h)."""

    START = 0
    ONGOING = 1
    COMPLETE = 2


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A request whose handler is known and has not run yet (struct mgmt_evt_op_cmd_arg)."""

    group: int
    command: int
    op: int
    """0 read, 2 write."""
    peer: Peer


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """The end of an upload request that got past the check of its offset."""

    group: int
    command: int
    status: UploadStatus


@dataclass(frozen=True, slots=True)
class CommandDone:
    """A request that had a handler is answered."""

    group: int
    command: int
    error: int
    """The global code of the answer; 0 also when a version-1 reply holds an `err` map."""
    peer: Peer


@dataclass(frozen=True, slots=True)
class UploadCheck:
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


@dataclass(frozen=True, slots=True)
class ChunkWritten:
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


class Notice:
    """One notification on its way through the handlers."""

    __slots__ = ("data", "event", "refused", "stopped")

    def __init__(self, event: Event, data: Any) -> None:
        self.event = event
        self.data = data
        """The event's data; its type stands beside the event."""
        self.refused: Refusal | None = None
        """The refusal that counts, if an earlier handler has refused."""
        self.stopped = False
        """True once a handler has ended the chain."""

    def stop(self) -> None:
        """Let no further handler run."""
        self.stopped = True


Handler = Callable[[Notice], None]


class Hooks:
    """The registered handlers."""

    def __init__(self) -> None:
        self._handlers: list[tuple[int, Handler]] = []
        self._chains: dict[Event, tuple[Handler, ...]] = {}

    def register(self, events: int, handler: Handler) -> None:
        """Call the handler at these events from now on, after those already registered.

        Args:
            events: An `Event`, several of one group joined by `|`, `EventGroup.X.events` or `ALL_EVENTS`.
            handler: Called in the event loop; must be short. Raises a `Refusal` to refuse.
        """
        self._handlers.append((events, handler))
        self._chains.clear()

    def unregister(self, handler: Handler) -> None:
        """Call the handler no more, whatever it was registered for."""
        self._handlers = [entry for entry in self._handlers if entry[1] != handler]
        self._chains.clear()

    def notify(self, event: Event, data: object) -> None:
        """Run the event's handlers.

        Raises:
            Refusal: The first one that a handler raised.
        """
        chain = self._chains.get(event)
        if chain is None:
            chain = self._chains[event] = tuple(handler for events, handler in self._handlers if _covers(events, event))
        if chain:
            _run(chain, Notice(event, data))


def _covers(events: int, event: Event) -> bool:
    return events == ALL_EVENTS or (events >> 16 == event >> 16 and bool(events & event & _ID_MASK))


def _run(chain: tuple[Handler, ...], notice: Notice) -> None:
    for handler in chain:
        try:
            handler(notice)
        except Refusal as refusal:
            notice.refused = notice.refused or refusal
        if notice.stopped:
            break
    if notice.refused is not None:
        raise notice.refused

"""The events that hooks can be told of: one table of Zephyr's numbers, the configuration's names, and who may refuse.

The numbers are Zephyr's: a group in the upper 16 bits, one bit per event below (zephyr
include/zephyr/mgmt/mcumgr/mgmt/callbacks.h). They are no SMP group ids.
"""

from enum import IntEnum
from typing import Self

EVENT_MASK = 0xFFFF
"""The bits of an event's number that are the event's; those above are its group's."""

ALL_EVENTS = EVENT_MASK
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
        return self << 16 | EVENT_MASK


class Event(IntEnum):
    """What handlers can be told of: number, the name in the configuration, the data's type, may refuse, when."""

    __hash__ = int.__hash__  # Enum's is by name, and slow: handlers are looked up by event for every request

    label: str
    """The name in the configuration."""
    data: str
    """The type of `Notice.data`; see dispatch/hooks.py."""
    refusable: bool
    """True if a refusal keeps what was asked for from being done."""
    when: str
    """When it is fired."""

    CMD_RECV = (
        1 << 16 | 1 << 0,
        "command-received",
        "CommandReceived",
        True,
        "a request has a handler, not run yet",
    )
    CMD_STATUS = 1 << 16 | 1 << 1, "command-status", "CommandStatus", False, "an image upload request is at its end"
    CMD_DONE = 1 << 16 | 1 << 2, "command-done", "CommandDone", False, "a request that had a handler is answered"
    OS_RESET = 2 << 16 | 1 << 0, "reset", "OsReset", True, "a reset is asked for"
    OS_INFO_CHECK = 2 << 16 | 1 << 1, "info-check", "InfoCheck", False, "info is asked for; handlers may add letters"
    OS_INFO_APPEND = 2 << 16 | 1 << 2, "info-append", "InfoAppend", True, "info is told; handlers may add texts"
    OS_DATETIME_GET = 2 << 16 | 1 << 3, "datetime-get", "None", True, "the time is asked for"
    OS_DATETIME_SET = 2 << 16 | 1 << 4, "datetime-set", "tuple", True, "the time is to be set: year to millisecond"
    OS_BOOTLOADER_INFO = 2 << 16 | 1 << 5, "bootloader-info", "BootloaderInfo", True, "the boot loader is asked about"
    IMG_DFU_CHUNK = 3 << 16 | 1 << 0, "image-chunk", "UploadCheck", True, "a part of an image is to be written"
    IMG_DFU_STOPPED = 3 << 16 | 1 << 1, "image-stopped", "DfuStopped", False, "an upload request or an erase has failed"
    IMG_DFU_STARTED = 3 << 16 | 1 << 2, "image-started", "DfuStarted", False, "an image's first part is accepted"
    IMG_DFU_PENDING = 3 << 16 | 1 << 3, "image-pending", "DfuPending", False, "the last byte of an image is written"
    IMG_DFU_CONFIRMED = 3 << 16 | 1 << 4, "image-confirmed", "DfuConfirmed", False, "a client has confirmed the image"
    IMG_DFU_CHUNK_WRITE_COMPLETE = (
        *(3 << 16 | 1 << 5, "image-chunk-written", "ChunkWritten", False),
        "a part of an image is written, more are to come",
    )
    IMG_IMAGE_SLOT_STATE = 3 << 16 | 1 << 6, "image-slot-state", "SlotFields", True, "a slot of the image list is told"
    IMG_SLOT_INFO_IMAGE = 3 << 16 | 1 << 7, "slot-info-image", "ImageFields", True, "an image of slot info is told"
    IMG_SLOT_INFO_SLOT = 3 << 16 | 1 << 8, "slot-info-slot", "SlotFields", True, "a slot of slot info is told"
    FS_FILE_ACCESS = 4 << 16 | 1 << 0, "file-access", "FileAccess", True, "a file is to be opened, told of or hashed"
    SETTINGS_ACCESS = 5 << 16 | 1 << 0, "settings-access", "SettingsAccess", True, "settings are to be used"
    ENUM_DETAILS = 6 << 16 | 1 << 0, "group-details", "GroupFields", True, "a group is told of in detail"

    def __new__(cls, number: int, label: str, data: str, refusable: bool, when: str) -> Self:
        """Make an event of a row."""
        event = int.__new__(cls, number)
        event._value_ = number
        event.label, event.data, event.refusable, event.when = label, data, refusable, when
        return event

    @property
    def symbol(self) -> str:
        """Zephyr's name of the event."""
        group, _, rest = self.name.partition("_")
        return f"MGMT_EVT_OP_{self.name}" if group == "CMD" else f"MGMT_EVT_OP_{group}_MGMT_{rest}"


BY_LABEL = {event.label: event for event in Event}
"""The events by their names in the configuration."""

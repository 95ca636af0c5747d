"""The image group (1): image list, test and confirm, upload, erase, slot info.

After zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt.c and img_mgmt_state.c. What is allowed when is the store's
knowledge; this file turns requests into its calls, its refusals into the group's codes, and fires the notifications.
Calls that wait for the disk run in another thread; a chunk's write does not wait and runs here.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from smp_dfu_host.dispatch.group import Context, Group, read, write
from smp_dfu_host.dispatch.hooks import (
    ChunkWritten,
    CommandStatus,
    DfuConfirmed,
    DfuPending,
    DfuStarted,
    DfuStopped,
    Event,
    ImageFields,
    SlotFields,
    UploadCheck,
    UploadStatus,
)
from smp_dfu_host.dispatch.services import Services
from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal, StoreError
from smp_dfu_host.store.admission import Chunk, Step
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import SlotView
from smp_dfu_host.store.upload import Progress, Uploads
from smp_dfu_host.wire.body import Body, Uint32

log = logging.getLogger(__name__)

GROUP = 1
UPLOAD = 1
SYNC_SIZE = 64 * 1024
"""Bytes of an upload after which they are synced to the disk in the background."""
_UNSET = 0xFFFFFFFF
"""An `off` or `len` that counts as missing, as on Zephyr's 32-bit targets."""


class ImgRc(IntEnum):
    """The group's codes (zephyr include/zephyr/mgmt/mcumgr/grp/img_mgmt/img_mgmt.h)."""

    UNKNOWN = 1
    FLASH_CONFIG_QUERY_FAIL = 2
    NO_IMAGE = 3
    NO_TLVS = 4
    INVALID_TLV = 5
    TLV_MULTIPLE_HASHES_FOUND = 6
    TLV_INVALID_SIZE = 7
    HASH_NOT_FOUND = 8
    NO_FREE_SLOT = 9
    FLASH_OPEN_FAILED = 10
    FLASH_READ_FAILED = 11
    FLASH_WRITE_FAILED = 12
    FLASH_ERASE_FAILED = 13
    INVALID_SLOT = 14
    NO_FREE_MEMORY = 15
    INVALID_PAGE_OFFSET = 19
    INVALID_OFFSET = 20
    INVALID_LENGTH = 21
    INVALID_IMAGE_HEADER = 22
    INVALID_IMAGE_HEADER_MAGIC = 23
    INVALID_HASH = 24
    INVALID_FLASH_ADDRESS = 25
    VERSION_GET_FAILED = 26
    CURRENT_VERSION_IS_NEWER = 27
    IMAGE_ALREADY_PENDING = 28
    INVALID_IMAGE_TOO_LARGE = 30
    INVALID_IMAGE_DATA_OVERRUN = 31
    IMAGE_SETTING_TEST_TO_ACTIVE_DENIED = 33


_CODES = {
    Fault.HASH_NOT_FOUND: ImgRc.HASH_NOT_FOUND,
    Fault.ROLLED_BACK: ImgRc.HASH_NOT_FOUND,  # what clients understand: the image is not there to be confirmed
    Fault.INVALID_HASH: ImgRc.INVALID_HASH,
    Fault.ALREADY_PENDING: ImgRc.IMAGE_ALREADY_PENDING,
    Fault.TEST_OF_RUNNING: ImgRc.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED,
    Fault.IN_USE: ImgRc.NO_FREE_SLOT,
    Fault.INVALID_SLOT: ImgRc.INVALID_SLOT,
    Fault.NO_AREA: ImgRc.FLASH_OPEN_FAILED,
    Fault.NO_OFFSET: ImgRc.INVALID_OFFSET,
    Fault.NO_LENGTH: ImgRc.INVALID_LENGTH,
    Fault.SHORT_HEADER: ImgRc.INVALID_IMAGE_HEADER,
    Fault.BAD_MAGIC: ImgRc.INVALID_IMAGE_HEADER_MAGIC,
    Fault.BAD_ADDRESS: ImgRc.INVALID_FLASH_ADDRESS,
    Fault.VERSION_UNKNOWN: ImgRc.VERSION_GET_FAILED,
    Fault.NOT_NEWER: ImgRc.CURRENT_VERSION_IS_NEWER,
    Fault.TOO_LARGE: ImgRc.INVALID_IMAGE_TOO_LARGE,
    Fault.OVERRUN: ImgRc.INVALID_IMAGE_DATA_OVERRUN,
    Fault.INVALID_IMAGE: ImgRc.NO_IMAGE,
}
_RSN = {
    ImgRc.INVALID_OFFSET: "header malformed",
    ImgRc.INVALID_LENGTH: "header malformed",
    ImgRc.INVALID_IMAGE_HEADER: "header malformed",
    ImgRc.INVALID_IMAGE_HEADER_MAGIC: "magic mismatch",
    ImgRc.NO_FREE_SLOT: "no slot",
    ImgRc.FLASH_WRITE_FAILED: "fa write fail",
    ImgRc.FLASH_ERASE_FAILED: "fa erase fail",
    ImgRc.INVALID_FLASH_ADDRESS: "img addr mismatch",
    ImgRc.CURRENT_VERSION_IS_NEWER: "downgrade",
    ImgRc.INVALID_IMAGE_TOO_LARGE: "img too large",
    ImgRc.INVALID_IMAGE_DATA_OVERRUN: "data overrun",
}
"""Reasons that version 0 tells beside the `rc` of an upload (CONFIG_MCUMGR_GRP_IMG_VERBOSE_ERR)."""


@dataclass(frozen=True, slots=True)
class StateWrite(Body):
    """An image to test or to confirm."""

    hash: bytes = b""
    """Empty: the running image."""
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Upload(Body):
    """A part of an image; `len`, `sha`, `upgrade` and `image` count in the first one only."""

    image: Uint32 = 0
    """Not looked at: there is one."""
    len: Uint32 | None = None
    off: Uint32 | None = None
    sha: bytes = b""
    data: bytes = b""
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class UploadReply(Body):
    """Where to go on."""

    off: int
    match: bool | None = None
    """With the last part, if the first one came with `sha`: whether they agree."""


@dataclass(frozen=True, slots=True)
class Erase(Body):
    """A slot to erase; missing: the one that does not run."""

    slot: Uint32 | None = None


class ImageGroup(Group):
    """Commands about the images in the slots."""

    id = GROUP
    name = "img mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = {
        ImgRc.NO_IMAGE: Rc.ENOENT,
        ImgRc.NO_TLVS: Rc.ENOENT,
        ImgRc.NO_FREE_SLOT: Rc.EBADSTATE,
        ImgRc.CURRENT_VERSION_IS_NEWER: Rc.EBADSTATE,
        ImgRc.IMAGE_ALREADY_PENDING: Rc.EBADSTATE,
        ImgRc.NO_FREE_MEMORY: Rc.ENOMEM,
        ImgRc.INVALID_SLOT: Rc.EINVAL,
        ImgRc.INVALID_PAGE_OFFSET: Rc.EINVAL,
        ImgRc.INVALID_OFFSET: Rc.EINVAL,
        ImgRc.INVALID_LENGTH: Rc.EINVAL,
        ImgRc.INVALID_IMAGE_HEADER: Rc.EINVAL,
        ImgRc.INVALID_HASH: Rc.EINVAL,
        ImgRc.INVALID_FLASH_ADDRESS: Rc.EINVAL,
    }

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._store = services.store
        self._check_upload = services.config.image.check_upload
        self._uploads = Uploads(services.store, validate=services.config.image.validate_upload)
        self._syncing: asyncio.Task[None] | None = None

    @read(0)
    async def get_state(self, _context: Context) -> Mapping[str, object]:
        """List the images."""
        with _refusals():
            return self._list(await asyncio.to_thread(self._store.slots))

    @write(0, StateWrite)
    async def set_state(self, context: Context, request: StateWrite) -> Mapping[str, object]:
        """Schedule an image, or confirm the running one; then list the images."""
        with _refusals():
            slot = await asyncio.to_thread(self._store.set_state, request.hash, confirm=request.confirm)
            if slot is not None:
                self._tell(Event.IMG_DFU_CONFIRMED, DfuConfirmed(context.peer, slot // SLOTS_OF_IMAGE, slot))
            return self._list(await asyncio.to_thread(self._store.slots))

    @write(1, Upload)
    async def upload(self, context: Context, request: Upload) -> Body:
        """Take a part of an image, or say where to go on."""
        chunk = Chunk(_given(request.off), request.data, _given(request.len), request.sha, request.upgrade)
        try:
            with _refusals(verbose=True):
                step = self._uploads.inspect(chunk, self.services.lock.counter)
        except GroupError as refusal:
            self._tell(Event.IMG_DFU_STOPPED, DfuStopped(context.peer, str(refusal)))
            self._stop(context, refusal)  # which tells it again: Zephyr's checks do, and then the command does
            raise
        if not step.proceed:
            return UploadReply(step.off)
        return await self._proceed(context, request, step)

    @write(5, Erase)
    async def erase(self, context: Context, request: Erase) -> Body:
        """Erase a slot that is not in use."""
        slot = request.slot
        with _refusals():
            if slot is None:
                slot = (self._store.running_slot() or 0) ^ 1
            try:
                await asyncio.to_thread(self._store.erase, slot)
            except StoreError as exc:
                if not isinstance(exc, SlotRefusal) or exc.fault is not Fault.IN_USE:
                    self._tell(Event.IMG_DFU_STOPPED, DfuStopped(context.peer, str(exc)))
                raise
        return Body()

    @read(6)
    async def slot_info(self, _context: Context) -> Mapping[str, object]:
        """Tell the slots' sizes, and where an upload goes."""
        layout, running = self._store.layout, self._store.running_slot()
        slots = []
        for slot in layout.slots:
            fields = SlotFields(0, slot, {"slot": slot, "size": layout.slot_size})
            if slot != running:
                fields.fields["upload_image_id"] = 0
            self.services.hooks.notify(Event.IMG_SLOT_INFO_SLOT, fields)
            slots.append(fields.fields)
        image = ImageFields(0, {"image": 0, "slots": slots, "max_image_size": await self._max_image_size()})
        self.services.hooks.notify(Event.IMG_SLOT_INFO_IMAGE, image)
        return {"images": [image.fields]}

    async def _max_image_size(self) -> int:
        with _refusals():
            return await asyncio.to_thread(self._store.max_image_size)

    def _list(self, views: list[SlotView]) -> Mapping[str, object]:
        return {"images": [self._entry(view) for view in views], "splitStatus": 0}

    def _entry(self, view: SlotView) -> Mapping[str, object]:
        fields: dict[str, object] = {
            "slot": view.slot % SLOTS_OF_IMAGE,
            "version": str(view.version),
            "hash": view.hash,
            "bootable": view.bootable,
            "pending": view.pending,
            "confirmed": view.confirmed,
            "active": view.active,
            "permanent": view.permanent,
        }
        self.services.hooks.notify(Event.IMG_IMAGE_SLOT_STATE, SlotFields(view.image, view.slot, fields))
        return fields

    async def _proceed(self, context: Context, request: Upload, step: Step) -> Body:
        """Write a part that passed the checks; tell what becomes of it."""
        status = UploadStatus.START if step.first else UploadStatus.ONGOING
        try:
            self.services.hooks.notify(Event.IMG_DFU_CHUNK, _check(context, request, step))
            with _refusals(verbose=True):
                if step.first and await self._begin(context, step):
                    status = UploadStatus.COMPLETE
                    return UploadReply(step.size, match=True)
                return await self._write(context, request.data, step)
        except Refusal as refusal:
            status = UploadStatus.COMPLETE
            self._stop(context, refusal)
            raise
        finally:
            self._tell(Event.CMD_STATUS, CommandStatus(GROUP, UPLOAD, status))

    async def _begin(self, context: Context, step: Step) -> bool:
        """Make room for a first part; return True if all of the upload is there already."""
        log.info("%s: upload of %s bytes to slot %s", context.peer, step.size, step.slot)
        self._tell(Event.IMG_DFU_STARTED, DfuStarted(context.peer, 0, step.slot, step.size))
        if self._check_upload and await asyncio.to_thread(self._uploads.holds, step):
            self._uploads.drop()
            return True
        await asyncio.to_thread(self._uploads.begin, step, context.peer.owner, self.services.lock.counter)
        return False

    async def _write(self, context: Context, data: bytes, step: Step) -> UploadReply:
        if not data:
            return UploadReply(step.off)
        progress = self._uploads.write(data)
        if not progress.complete:
            self._sync(progress)
            written = ChunkWritten(context.peer, 0, step.slot, progress.off, progress.size)
            self._tell(Event.IMG_DFU_CHUNK_WRITE_COMPLETE, written)
            return UploadReply(progress.off)
        if self._syncing:
            await self._syncing
        match = await asyncio.to_thread(self._uploads.finish)
        log.info("%s: upload to slot %s done", context.peer, step.slot)
        self._tell(Event.IMG_DFU_PENDING, DfuPending(context.peer, 0, step.slot, progress.size))
        return UploadReply(progress.off, match if self._check_upload else None)

    def _sync(self, progress: Progress) -> None:
        """Have what is written synced in the background, now and then."""
        if progress.unsynced >= SYNC_SIZE and (self._syncing is None or self._syncing.done()):
            self._syncing = asyncio.create_task(self._sync_now(), name="upload sync")

    async def _sync_now(self) -> None:
        try:
            await asyncio.to_thread(self._uploads.sync)
        except StoreError as exc:  # the last part is synced before it is answered, and will fail then
            log.error("upload not synced: %s", exc)  # noqa: TRY400  (the disk's fault, in one line)

    def _stop(self, context: Context, refusal: Refusal) -> None:
        """End the session after a refusal."""
        self._uploads.drop()
        self._tell(Event.IMG_DFU_STOPPED, DfuStopped(context.peer, str(refusal)))

    def _tell(self, event: Event, data: object) -> None:
        """Notify of what cannot be refused."""
        with suppress(Refusal):
            self.services.hooks.notify(event, data)


def _check(context: Context, request: Upload, step: Step) -> UploadCheck:
    return UploadCheck(
        peer=context.peer,
        image=request.image,
        off=step.off,
        data=request.data,
        size=step.size,
        sha=step.sha,
        upgrade=request.upgrade,
        slot=step.slot,
        erase=step.first,
    )


def _given(number: int | None) -> int | None:
    return None if number == _UNSET else number


@contextmanager
def _refusals(*, verbose: bool = False) -> Iterator[None]:
    """Turn the store's refusals into the group's codes: the one table of them.

    Args:
        verbose: Whether version 0 gets the reason in words.

    Raises:
        MgmtError: For what the boot loader's mode does not have.
        GroupError: For everything else.
    """
    try:
        yield
    except SlotRefusal as exc:
        if exc.fault is Fault.NOT_SUPPORTED:
            raise MgmtError(Rc.ENOTSUP, str(exc)) from exc
        code = _CODES[exc.fault]
        raise GroupError(GROUP, code, str(exc), _RSN.get(code) if verbose else None) from exc
    except StoreError as exc:
        log.error("%s", exc)  # noqa: TRY400  (the disk's fault, in one line)
        raise GroupError(GROUP, ImgRc.UNKNOWN, str(exc)) from exc

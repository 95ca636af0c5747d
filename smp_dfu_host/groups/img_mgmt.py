"""The image group (1): image list, test and confirm, upload, erase, slot info.

After zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt.c and img_mgmt_state.c. What is allowed when is the store's
knowledge; this file turns requests into its calls, its refusals into the group's codes, and fires the notifications.
Calls that wait for the disk run in another thread; a chunk's write does not wait and runs here.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, ParamSpec

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
from smp_dfu_host.errors import MgmtError, Rc, Refusal, StoreError
from smp_dfu_host.groups.img_rc import GROUP, V0_RC, ImgRc, StoreRefused, refusals
from smp_dfu_host.store.admission import Chunk, Step
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import SlotView
from smp_dfu_host.store.upload import Uploads
from smp_dfu_host.wire.body import Body, Uint32

log = logging.getLogger(__name__)

P = ParamSpec("P")

UPLOAD = 1
SYNC_SIZE = 64 * 1024
"""Bytes of an upload after which they are synced to the disk in the background, ..."""
SYNC_S = 0.25
"""... but not more often: what a power cut of the host takes back is sent again in about that time, in seconds."""
_SHOWN_DIGITS = 16
"""How much of a hash the log shows, as so many hexadecimal digits."""
_INSPECTING = refusals(ImgRc.FLASH_OPEN_FAILED, verbose=True)
_WRITING = refusals(ImgRc.FLASH_WRITE_FAILED, verbose=True)
_UNSET = 0xFFFFFFFF
"""An `off` or `len` that counts as missing, as on Zephyr's 32-bit targets."""


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
    """Not looked at if there is one, unless uploads name their slot: then it is the slot and one, or 0."""
    len: Uint32 | None = None
    off: Uint32 | None = None
    sha: bytes = b""
    data: bytes = b""
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Erase(Body):
    """A slot to erase; missing: the one that does not run."""

    slot: Uint32 | None = None


class ImageGroup(Group):
    """Commands about the images in the slots."""

    id = GROUP
    name = "img mgmt"
    v0_rc: ClassVar[Mapping[int, Rc]] = V0_RC

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._store = services.store
        hooks = services.hooks
        self._part = hooks.trigger(Event.IMG_DFU_CHUNK)
        self._written = hooks.trigger(Event.IMG_DFU_CHUNK_WRITE_COMPLETE)
        self._ended = hooks.trigger(Event.CMD_STATUS)
        config = services.config.image
        self._check_upload, self._frugal = config.check_upload, config.frugal_list
        self._direct = config.direct_upload
        self._uploads = Uploads(
            services.store,
            validate=config.validate_upload,
            check_address=config.check_address,
            direct=config.direct_upload,
        )
        self._syncing: asyncio.Task[None] | None = None
        self._sync_due_s = 0.0
        self._counters = services.stats.group("upload", "chunks")

    @read(0)
    async def get_state(self, _context: Context) -> Mapping[str, object]:
        """List the images."""
        with refusals(ImgRc.FLASH_READ_FAILED):
            return await self._list(await asyncio.to_thread(self._store.slots))

    @write(0, StateWrite)
    async def set_state(self, context: Context, request: StateWrite) -> Mapping[str, object]:
        """Schedule an image, or confirm the running one; then list the images."""
        with refusals(ImgRc.FLASH_WRITE_FAILED):
            slot = await asyncio.to_thread(self._store.set_state, request.hash, confirm=request.confirm)
            which = request.hash.hex()[:_SHOWN_DIGITS] or "that runs"
            log.info("%s: image %s is %s", context.peer, which, "confirmed" if request.confirm else "to be tested")
            if slot is not None:
                await self._tell(Event.IMG_DFU_CONFIRMED, DfuConfirmed, context.peer, slot // SLOTS_OF_IMAGE, slot)
            return await self._list(await asyncio.to_thread(self._store.slots))

    @write(1, Upload)
    async def upload(self, context: Context, request: Upload) -> Mapping[str, object]:
        """Take a part of an image; say where to go on and, with the last one, whether `sha` agrees (`match`)."""
        off = None if request.off == _UNSET else request.off
        size = None if request.len == _UNSET else request.len
        chunk = Chunk(off, request.data, size, request.sha, request.image, request.upgrade)
        try:
            with _INSPECTING:
                counter = self.services.lock.counter
                if off:
                    step = self._uploads.inspect(chunk, counter)
                else:  # looks for a slot, and at the images in all of them
                    step = await asyncio.to_thread(self._uploads.inspect, chunk, counter)
        except StoreRefused as refusal:
            await self._tell(Event.IMG_DFU_STOPPED, DfuStopped, context.peer, str(refusal))
            await self._stop(context, refusal)  # which tells it again: Zephyr's checks do, and then the command does
            raise
        if not step.proceed:
            return {"off": step.off}
        return await self._proceed(context, request, step)

    @write(5, Erase)
    async def erase(self, context: Context, request: Erase) -> Body:
        """Erase a slot that is not in use."""
        slot = request.slot
        with refusals(ImgRc.FLASH_ERASE_FAILED):
            if slot is None:
                slot = (self._store.running_slot() or 0) ^ 1
            try:
                await asyncio.to_thread(self._store.erase, slot)
            except StoreError as exc:
                if not isinstance(exc, SlotRefusal) or exc.fault is not Fault.IN_USE:
                    await self._tell(Event.IMG_DFU_STOPPED, DfuStopped, context.peer, str(exc))
                raise
        log.info("%s: slot %s is erased", context.peer, slot)
        return Body()

    @read(6)
    async def slot_info(self, _context: Context) -> Mapping[str, object]:
        """Tell the slots' sizes, and where an upload goes."""
        images = []
        for number in range(self._store.layout.images):
            slots = [await self._slot_fields(number, slot) for slot in range(SLOTS_OF_IMAGE)]
            with refusals(ImgRc.FLASH_READ_FAILED):
                limit = await asyncio.to_thread(self._store.max_image_size, number)
            image = ImageFields(number, {"image": number, "slots": slots, "max_image_size": limit})
            await self.services.hooks.notify(Event.IMG_SLOT_INFO_IMAGE, image)
            images.append(image.fields)
        return {"images": images}

    async def _slot_fields(self, image: int, slot: int) -> Mapping[str, object]:
        number = image * SLOTS_OF_IMAGE + slot
        fields: dict[str, object] = {"slot": slot, "size": self._store.layout.size(number)}
        if self._direct:
            fields["upload_image_id"] = number + 1
        elif self._store.takes_upload(number):
            fields["upload_image_id"] = image
        await self.services.hooks.notify(Event.IMG_SLOT_INFO_SLOT, SlotFields(image, number, fields))
        return fields

    async def _list(self, views: list[SlotView]) -> Mapping[str, object]:
        images = [await self._entry(view) for view in views]
        return {"images": images} if self._frugal else {"images": images, "splitStatus": 0}

    async def _entry(self, view: SlotView) -> Mapping[str, object]:
        fields: dict[str, object] = {"image": view.image} if self._store.layout.images > 1 else {}
        fields |= {
            "slot": view.slot % SLOTS_OF_IMAGE,
            "version": str(view.version),
            "hash": view.hash,
            "bootable": view.bootable,
            "pending": view.pending,
            "confirmed": view.confirmed,
            "active": view.active,
            "permanent": view.permanent,
        }
        if self._frugal:
            fields = {key: value for key, value in fields.items() if value is not False}
        await self.services.hooks.notify(Event.IMG_IMAGE_SLOT_STATE, SlotFields(view.image, view.slot, fields))
        return fields

    async def _proceed(self, context: Context, request: Upload, step: Step) -> Mapping[str, object]:
        """Write a part that passed the checks; tell what becomes of it."""
        status = UploadStatus.START if step.first else UploadStatus.ONGOING
        try:
            if self._part.chain:
                await self._ask(context, request, step)
            with _WRITING:
                if step.first and await self._begin(context, request.data, step):
                    status = UploadStatus.COMPLETE
                    return {"off": step.size, "match": True}
                if not request.data:
                    return {"off": step.off}
                progress = self._uploads.write(request.data)
                if progress.checkable:
                    await asyncio.to_thread(self._uploads.check)
                if progress.complete:
                    return {"off": progress.off, "match": await self._finish(context, step)}
        except StoreRefused as failed:
            status = UploadStatus.COMPLETE
            await self._stop(context, failed)
            raise
        else:
            if progress.unsynced >= SYNC_SIZE:
                self._sync()
            self._counters["chunks"] += 1
            if self._written.chain:
                where = step.image, step.slot, progress.off, progress.size
                await self._tell(Event.IMG_DFU_CHUNK_WRITE_COMPLETE, ChunkWritten, context.peer, *where)
            return {"off": progress.off}
        finally:
            if self._ended.chain:
                await self._tell(Event.CMD_STATUS, CommandStatus, GROUP, UPLOAD, status)

    async def _ask(self, context: Context, request: Upload, step: Step) -> None:
        """Let hooks refuse a part; a refusal with a bare `rc` ends the session, one of a group's does not."""
        try:
            await self.services.hooks.notify(Event.IMG_DFU_CHUNK, _check(context, request, step))
        except MgmtError as refusal:
            await self._stop(context, refusal)
            raise

    async def _begin(self, context: Context, data: bytes, step: Step) -> bool:
        """Make room for a first part; return True if all of the upload is there already."""
        log.info("%s: upload of %s bytes to slot %s", context.peer, step.size, step.slot)
        await self._tell(Event.IMG_DFU_STARTED, DfuStarted, context.peer, step.image, step.slot, step.size)
        if self._check_upload and await asyncio.to_thread(self._uploads.holds, step, data):
            await asyncio.to_thread(self._uploads.skip, step)
            log.info("%s: upload to slot %s done, the image is there already", context.peer, step.slot)
            return True
        await asyncio.to_thread(self._uploads.begin, step, context.peer.owner, self.services.lock.counter)
        return False

    async def _finish(self, context: Context, step: Step) -> bool | None:
        """End the upload; return whether its `sha` agrees, None if it had none or that is not to be told."""
        if self._syncing:
            await asyncio.wait((self._syncing,))  # whatever became of it, `finish` syncs all of it
        match = await asyncio.to_thread(self._uploads.finish)
        log.info("%s: upload to slot %s done", context.peer, step.slot)
        await self._tell(Event.IMG_DFU_PENDING, DfuPending, context.peer, step.image, step.slot, step.size)
        return match if self._check_upload else None

    def _sync(self) -> None:
        """Have what is written synced in the background, unless that is going on or was so lately."""
        now_s = self.services.clock.time()
        if now_s >= self._sync_due_s and (self._syncing is None or self._syncing.done()):
            self._sync_due_s = now_s + SYNC_S
            self._syncing = asyncio.create_task(self._sync_now(), name="upload sync")

    async def _sync_now(self) -> None:
        try:
            await asyncio.to_thread(self._uploads.sync)
        except StoreError as exc:  # the last part is synced before it is answered, and will fail then
            log.error("upload not synced: %s", exc)  # noqa: TRY400  (the disk's fault, in one line)
        except Exception:  # nobody waits for it but `_finish`, which syncs all of it
            log.exception("upload not synced")

    async def _stop(self, context: Context, refusal: Refusal) -> None:
        """End the session after a refusal."""
        self._uploads.drop()
        await self._tell(Event.IMG_DFU_STOPPED, DfuStopped, context.peer, str(refusal))

    async def _tell(self, event: Event, kind: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Notify of what cannot be refused; the event's data are made only if there is a handler."""
        if self.services.hooks.heard(event):
            with suppress(Refusal):
                await self.services.hooks.notify(event, kind(*args, **kwargs))


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

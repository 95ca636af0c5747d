"""nRF Connect Device Manager for Android, as far as an update goes (device-manager-client.md 1.3, 2, 3).

Sources: mcumgr-core/src/main/java/no/nordicsemi/android/mcumgr/{dfu/mcuboot/task,transfer/Uploader.kt},
mcumgr-ble/.../McuMgrBleTransport.java of nordicsemi/Android-nRF-Connect-Device-Manager.
"""

import asyncio
import hashlib
from contextlib import suppress

import cbor2

from smp_dfu_host.transport.loopback import LoopbackTransport
from tests.apps.chunks import chunk_at
from tests.apps.phone import (
    BASIC,
    BOOT_INFO,
    HEADER,
    IMAGE,
    INFO,
    MEMFAULT,
    NOT_SUPPORTED,
    OS,
    PARAMS,
    READ,
    RESET,
    STATE,
    UPLOAD,
    WRITE,
    Phone,
    Refused,
    Reply,
    UpgradeFailed,
    body_of,
    frame,
)
from tests.apps.radio import Air
from tests.apps.window import CHUNK_S, FIRST_S, WindowUploader
from tests.store.builders import hash_of

LIST_S, SHORT_S = 5.0, 2.5
CONNECT_S, SILENT_S = 30.0, 1.0
SWAP_S = 10.0
RESETS = 3
"""So often a device that is not ready for an update is reset."""

DIRECT_XIP, DIRECT_XIP_WITH_REVERT, FIRMWARE_LOADER = 4, 5, 7
MODES = ("test and confirm", "test only", "confirm only", "none")


class Android(Phone):
    """The app, with one device.

    Args:
        transport: Of the device.
        air: What lies between.
        window: Chunks in flight, as the user sets it: 3 unless changed, 24 at most.
    """

    def __init__(self, transport: LoopbackTransport, air: Air | None = None, *, window: int = 3) -> None:
        super().__init__(transport, air)
        self._window = window
        self._sequence = 0
        self.frame_size = 0
        """Bytes of the largest frame that is sent."""

    async def connect(self) -> None:
        """Connect as the app does, up to where the device is ready."""
        for attempt in range(4):
            try:
                await self.link(CONNECT_S)
                break
            except TimeoutError:
                if attempt == 3:
                    raise
                await asyncio.sleep(0.5)
        self._sequence = 0
        self.frame_size = self.air.mtu - 3
        with suppress(TimeoutError):
            reply = await self._exchange(frame(READ, OS, PARAMS, {}, 0xFF, version=0), SILENT_S)
            if len(reply) > 14:
                self.frame_size = int(cbor2.loads(reply[HEADER.size :])["buf_size"])

    async def open_device_tab(self) -> dict[str, Reply | int]:
        """Read what the app shows of a device; of what is refused, the code."""
        shown: dict[str, Reply | int] = {}
        queries: list[tuple[str, int, int, Reply]] = [
            ("params", OS, PARAMS, {}),
            ("info", OS, INFO, {"format": "sv"}),
            ("memfault", MEMFAULT, 1, {}),
            ("boot loader", OS, BOOT_INFO, {}),
            ("active", OS, BOOT_INFO, {"query": "active_b0_slot"}),
            ("mode", OS, BOOT_INFO, {"query": "mode"}),
        ]
        for name, group, command, body in queries:
            try:
                shown[name] = await self.ask(READ, group, command, body)
            except Refused as refused:
                shown[name] = refused.rc
        return shown

    async def ask(self, op: int, group: int, command: int, body: Reply, limit_s: float = SHORT_S) -> Reply:
        """Send a request and wait for its reply.

        Raises:
            TimeoutError: If none came in time.
            Refused: If it is an error.
        """
        sequence, self._sequence = self._sequence, (self._sequence + 1) % 256
        request = frame(op, group, command, body, sequence)
        return body_of(request, await self.exchange(request, limit_s))

    async def images(self) -> list[Reply]:
        """Read the image list."""
        return list((await self.ask(READ, IMAGE, STATE, {}, LIST_S))["images"])

    async def upgrade(self, image: bytes, mode: str, *, erase_settings: bool = False) -> None:
        """Update the device.

        Args:
            image: A signed image.
            mode: One of `MODES`.
            erase_settings: As the user chose.

        Raises:
            UpgradeFailed: What the app shows then.
        """
        try:
            await self._upgrade(image, mode, erase_settings=erase_settings)
        except Refused as refused:
            raise UpgradeFailed(f"error {refused.group}/{refused.rc}") from refused

    async def _upgrade(self, image: bytes, mode: str, *, erase_settings: bool) -> None:
        number, digest = await self._boot_mode(), hash_of(image)
        here = _find(await self.images(), digest)
        plain = number in (DIRECT_XIP, FIRMWARE_LOADER)
        if here and here["active"]:
            if not here["confirmed"] and mode in ("test and confirm", "confirm only"):
                await self._confirm(digest)
            return
        here = _find(await self._ready_list(), digest)
        if here is None:
            await self.upload(image)
        if erase_settings:
            await self._erase_settings()
        if not plain and mode in ("test and confirm", "test only"):
            await self._test(digest)
        if not plain and mode == "confirm only":
            await self._confirm(digest)
        await self._reset(wait=number not in (DIRECT_XIP, DIRECT_XIP_WITH_REVERT, FIRMWARE_LOADER))
        if not plain and mode == "test and confirm":
            await self.connect()
            await self._confirm(digest)

    async def _boot_mode(self) -> int:
        """Ask how the boot loader works; what is not known swaps and reverts."""
        with suppress(Refused, TimeoutError):
            if (await self.ask(READ, OS, BOOT_INFO, {})).get("bootloader") == "MCUboot":
                return int((await self.ask(READ, OS, BOOT_INFO, {"query": "mode"})).get("mode", 1))
        return 1

    async def _ready_list(self) -> list[Reply]:
        """Read the image list; a device with something scheduled or on trial is reset until it has nothing."""
        for _ in range(RESETS):
            slots = await self.images()
            if not any((slot["pending"] or slot["confirmed"]) and not slot["active"] for slot in slots):
                return slots
            await self._reset(wait=True)
            await self.connect()
        raise UpgradeFailed("the other slot does not get free")

    async def _test(self, digest: bytes) -> None:
        reply = await self.ask(WRITE, IMAGE, STATE, {"confirm": False, "hash": digest})
        self._check(reply["images"], digest, ("pending",))

    async def _confirm(self, digest: bytes) -> None:
        reply = await self.ask(WRITE, IMAGE, STATE, {"confirm": True, "hash": digest})
        self._check(reply["images"], digest, ("permanent", "confirmed"))

    def _check(self, slots: list[Reply], digest: bytes, flags: tuple[str, ...]) -> None:
        marked = _find(slots, digest)
        if marked is None:
            raise UpgradeFailed("tested image not found")
        if not any(marked[flag] for flag in flags):
            raise UpgradeFailed("downgrade forbidden")

    async def _erase_settings(self) -> None:
        try:
            await self.ask(WRITE, BASIC, 0, {}, FIRST_S)
        except Refused as refused:
            if refused.group is None and refused.rc != NOT_SUPPORTED:
                raise

    async def _reset(self, *, wait: bool) -> None:
        """Reset; an error does not count, and the app would wait for the link to drop for ever."""
        with suppress(Refused, TimeoutError):
            await self.ask(WRITE, OS, RESET, {})
        replied_s = asyncio.get_running_loop().time()
        await self.radio.dropped.wait()
        if wait:
            await asyncio.sleep(max(SWAP_S - (asyncio.get_running_loop().time() - replied_s), 0))

    async def upload(self, image: bytes) -> None:
        """Upload with as many chunks in flight as the window has.

        Raises:
            Refused: At once, if the device refuses a chunk.
            UpgradeFailed: If one failed too often, or the device says that the digest does not match.
        """
        await WindowUploader(self, image, self._window).run()

    async def upload_one_by_one(self, image: bytes) -> None:
        """Upload as the upload card does: the next chunk goes where the last reply says, any trouble ends it.

        Raises:
            Refused: If the device refuses a chunk.
            TimeoutError: If a reply does not come in time.
        """
        off = 0
        while off < len(image):
            off = await self.send_chunk(image, off, FIRST_S if off == 0 else CHUNK_S)

    async def send_chunk(self, image: bytes, off: int, limit_s: float) -> int:
        """Send the chunk at that offset; return the offset that comes back.

        Raises:
            UpgradeFailed: If the device says that the digest does not match.
        """
        first: Reply = {"len": len(image), "sha": hashlib.sha256(image).digest()}
        data = chunk_at(image, off, first, self.frame_size, 4)
        body: Reply = {"data": data, "off": off} | ({} if off else first)
        reply = await self.ask(WRITE, IMAGE, UPLOAD, body, limit_s)
        if reply.get("match") is False:
            raise UpgradeFailed("digest does not match")
        return int(reply["off"])

    def size_at(self, image: bytes, off: int) -> int:
        """Return how much goes out at that offset."""
        first: Reply = {"len": len(image), "sha": bytes(32)}
        return len(chunk_at(image, off, first, self.frame_size, 4))


def _find(slots: list[Reply], digest: bytes) -> Reply | None:
    return next((slot for slot in slots if slot["hash"] == digest), None)

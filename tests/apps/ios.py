"""nRF Connect Device Manager for iOS, as far as an update goes (device-manager-client.md 1.4, 2, 3).

Sources: iOSMcuManagerLibrary/Source/{Managers/DFU/FirmwareUpgradeManager,Managers/ImageManager,McuMgrUploadPipeline,
Bluetooth/McuMgrBleTransport}.swift of nordicsemi/IOS-nRF-Connect-Device-Manager.
"""

import asyncio
import hashlib
import random
from contextlib import suppress

from smp_dfu_host.transport.loopback import LoopbackTransport
from tests.apps.chunks import chunk_at
from tests.apps.phone import (
    BOOT_INFO,
    IMAGE,
    INFO,
    MEMFAULT,
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
from tests.store.builders import hash_of

CONNECT_S = 20.0
NORMAL_S, FAST_S, ERASE_S = 40.0, 10.0, 75.0
SWAP_S = 10.0
TRIES = 3
"""A frame is sent so often before the app gives up."""

DIRECT_XIP, DIRECT_XIP_WITH_REVERT = 4, 5
MODES = ("test and confirm", "test only", "confirm only", "upload only")


class Ios(Phone):
    """The app, with one device.

    Args:
        transport: Of the device.
        air: What lies between.
        depth: Chunks in flight, as the user sets it: 3 unless changed.
    """

    def __init__(self, transport: LoopbackTransport, air: Air | None = None, *, depth: int = 3) -> None:
        super().__init__(transport, air)
        self._depth = depth
        dice = random.Random(7)
        self._sequences = {group: dice.randrange(256) for group in (OS, IMAGE)}
        self._versions = {OS: 1, IMAGE: 1}
        self.frame_size = 0
        """Bytes of the largest frame that is sent."""

    async def connect(self) -> None:
        """Connect, all of it in the twenty seconds that the app gives it.

        Raises:
            TimeoutError: If that was not enough.
        """
        await self.link(CONNECT_S)

    async def open_device_tab(self, letters: str = "vs") -> dict[str, Reply | int]:
        """Read what the app shows of a device; of what is refused, the code."""
        shown: dict[str, Reply | int] = {}
        queries: list[tuple[str, int, int, Reply]] = [
            ("params", OS, PARAMS, {}),
            ("info", OS, INFO, {"format": letters}),
            ("boot loader", OS, BOOT_INFO, {}),
            ("mode", OS, BOOT_INFO, {"query": "mode"}),
            ("active", OS, BOOT_INFO, {"query": "active_b0_slot"}),
            ("memfault", MEMFAULT, 1, {}),
        ]
        for name, group, command, body in queries:
            try:
                shown[name] = await self.ask(READ, group, command, body, FAST_S)
            except Refused as refused:
                shown[name] = refused.rc
        return shown

    async def ask(self, op: int, group: int, command: int, body: Reply, limit_s: float = NORMAL_S) -> Reply:
        """Send a request, the same bytes again if no reply comes, and wait for the reply.

        Raises:
            TimeoutError: If none came, however often it was sent.
            Refused: If it is an error.
        """
        sequence = self._sequences.get(group, 0)
        self._sequences[group] = (sequence + 1) % 256
        request = frame(op, group, command, body, sequence, self._versions.get(group, 1))
        for _ in range(TRIES):
            try:
                reply = await self.exchange(request, limit_s)
            except TimeoutError:
                await asyncio.sleep(min(limit_s, 10.0))
                continue
            self._versions[group] = reply[0] >> 3 & 3
            return body_of(request, reply)
        raise TimeoutError(f"sent {TRIES} times: {request[:8].hex(' ')}")

    async def images(self) -> list[Reply]:
        """Read the image list."""
        return list((await self.ask(READ, IMAGE, STATE, {}))["images"])

    async def upgrade(self, image: bytes, mode: str) -> None:
        """Update the device.

        Args:
            image: A signed image.
            mode: One of `MODES`.

        Raises:
            UpgradeFailed: What the app shows then.
        """
        try:
            await self._upgrade(image, mode)
        except Refused as refused:
            raise UpgradeFailed(f"error {refused.group}/{refused.rc}") from refused
        except TimeoutError as exc:
            raise UpgradeFailed("connection timed out") from exc

    async def _upgrade(self, image: bytes, mode: str) -> None:
        await self.read_params()
        number, digest = await self._boot_mode(), hash_of(image)
        if number == DIRECT_XIP:
            mode = "upload only"
        slots = await self._ready_list()
        if not slots:
            raise UpgradeFailed("invalid response: no images")
        here = next((slot for slot in slots if slot["hash"] == digest), None)
        if here and here["active"]:
            if not here["confirmed"] and mode in ("test and confirm", "confirm only"):
                await self.mark(digest, confirm=True)
            return
        await asyncio.sleep(0.1)
        if here is None:
            await self.upload(image)
        if mode in ("test and confirm", "test only"):
            await self.mark(digest, confirm=False)
        if mode == "confirm only":
            await self.mark(digest, confirm=True)
        await self.reset()
        if mode == "test and confirm":
            await self.confirm_after(0.0 if number in (DIRECT_XIP, DIRECT_XIP_WITH_REVERT) else SWAP_S, digest)

    async def confirm_after(self, wait_s: float, digest: bytes) -> None:
        """Wait for the swap, connect, and confirm the image wherever it is found."""
        await asyncio.sleep(wait_s)
        await self.connect()
        if any(slot["hash"] == digest for slot in await self.images()):
            await self.mark(digest, confirm=True)

    async def read_params(self) -> None:
        """Learn how large frames may be."""
        self.frame_size = self.air.mtu - 3
        with suppress(Refused):
            reply = await self.ask(READ, OS, PARAMS, {}, FAST_S)
            assert reply["buf_count"] >= 2, "the app takes 1 off it, without looking"
            self.frame_size = max(int(reply["buf_size"]), self.frame_size)

    async def _boot_mode(self) -> int:
        with suppress(Refused):
            await self.ask(READ, OS, BOOT_INFO, {}, FAST_S)
            return int((await self.ask(READ, OS, BOOT_INFO, {"query": "mode"}, FAST_S)).get("mode", 1))
        return 1

    async def _ready_list(self) -> list[Reply]:
        """Read the image list; what is on trial is confirmed first, and what is scheduled has its reset."""
        slots = await self.images()
        others = [slot for slot in slots if not slot["active"]]
        if any(slot["confirmed"] for slot in others):
            running = next(slot for slot in slots if slot["active"])
            slots = await self.mark(running["hash"], confirm=True)
        if any(slot["pending"] for slot in others):
            await self.reset()
            await asyncio.sleep(SWAP_S)
            await self.connect()
            slots = await self.images()
        return slots

    async def mark(self, digest: bytes, *, confirm: bool) -> list[Reply]:
        """Test or confirm an image; return the image list.

        Raises:
            UpgradeFailed: If the list does not show it.
        """
        reply = await self.ask(WRITE, IMAGE, STATE, {"hash": digest, "confirm": confirm})
        slots: list[Reply] = reply["images"]
        marked = next(slot for slot in slots if slot["hash"] == digest)
        flags = ("permanent", "confirmed") if confirm else ("pending",)
        if not any(marked[flag] for flag in flags):
            raise UpgradeFailed("the image was not marked")
        return slots

    async def reset(self) -> None:
        """Reset the device, and wait until it has dropped the link."""
        await self.ask(WRITE, OS, RESET, {})
        await self.radio.dropped.wait()

    async def upload(self, image: bytes) -> None:
        """Upload with a pipeline: a reply that is not the expected one drains it, and it begins anew from there.

        Raises:
            Refused: At once, if the device refuses a chunk.
            UpgradeFailed: If a reply says nothing, or that the digest does not match.
        """
        off = await self._chunk(image, 0)
        while off < len(image):
            off = await self._pipeline(image, off)

    async def _pipeline(self, image: bytes, off: int) -> int:
        """Send from an offset for as long as the replies are the expected ones; return where to begin anew."""
        flying: list[tuple[int, asyncio.Task[int]]] = []
        reached, expected = off, True
        while flying or (expected and off < len(image)):
            while expected and off < len(image) and len(flying) < self._depth:
                end = off + len(self._data(image, off))
                flying.append((end, asyncio.create_task(self._chunk(image, off))))
                off = end
            end, task = flying.pop(0)
            try:
                reached = await task
            finally:
                if not task.done() or task.cancelled() or task.exception():
                    for _, each in flying:
                        each.cancel()
            expected = expected and reached == end
        return reached

    def _data(self, image: bytes, off: int) -> bytes:
        first: Reply = {"len": len(image), "sha": bytes(32)}
        return chunk_at(image, off, first, self.frame_size - 5, 4)

    async def _chunk(self, image: bytes, off: int) -> int:
        body: Reply = {"data": self._data(image, off), "off": off}
        if off == 0:
            body |= {"len": len(image), "sha": hashlib.sha256(image).digest()}
        while True:
            try:
                reply = await self.ask(WRITE, IMAGE, UPLOAD, body, FAST_S if off else NORMAL_S)
            except Refused as refused:
                if refused.rc != 10 or "off" not in refused.reply:
                    raise
                await asyncio.sleep(0.1)
                continue
            if "off" not in reply:
                raise UpgradeFailed("invalid payload")
            if reply.get("match") is False:
                raise UpgradeFailed("digest does not match")
            return int(reply["off"])

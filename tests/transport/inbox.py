"""An inbox that keeps what it is given."""

import asyncio

from smp_dfu_host.dispatch.peer import Link


class RecordingInbox:
    """Takes packets until told that it is full."""

    def __init__(self) -> None:
        self.packets: asyncio.Queue[tuple[Link, bytes]] = asyncio.Queue()
        self.present: list[Link] = []
        self.gone: list[Link] = []
        self.departed = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()

    def joined(self, link: Link) -> None:
        self.present.append(link)

    def left(self, link: Link) -> None:
        self.present.remove(link)
        self.gone.append(link)
        self.departed.set()

    async def put(self, link: Link, packet: bytes) -> None:
        await self.room.wait()
        self.packets.put_nowait((link, packet))

    def put_now(self, link: Link, packet: bytes) -> bool:
        return self.offer(link, packet)

    def offer(self, link: Link, packet: bytes) -> bool:
        if self.room.is_set():
            self.packets.put_nowait((link, packet))
        return self.room.is_set()

    async def next(self) -> tuple[Link, bytes]:
        """Wait for a packet, not forever."""
        async with asyncio.timeout(5):
            return await self.packets.get()

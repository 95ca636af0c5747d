"""Bluetooth LE between GATT and SMP: one `BleLink` per connected central. Knows no D-Bus.

    write commands ─► BleLink.written ─► RawFraming ─► queue ─► inbox       (the link's own task waits for the inbox)
    notifications  ◄─ Gatt.notify ◄─ pieces of what the MTU carries ◄─ BleLink.send

Nobody writes with a response, so nothing that a central wrote may be lost: `written` never waits, the queue behind it
takes what comes. Whole messages go out under one lock, so that replies never interleave. Everything here (reassembly,
queue, lock) belongs to one connection and dies with it (zephyr subsys/mgmt/mcumgr/transport/src/smp_bt.c).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smp_dfu_host.dispatch.peer import Inbox, Peer
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.errors import TransportError, WireError
from smp_dfu_host.wire.raw import RawFraming

log = logging.getLogger(__name__)

SMP_SERVICE = "8d53dc1d-1db7-4cd3-868b-8a527460aa84"
"""UUID of the SMP service."""
SMP_CHARACTERISTIC = "da2e7828-fbce-4e01-ae9e-261174997c48"
"""UUID of its one characteristic: write without response, notify."""

MIN_MTU = 23
"""ATT_MTU before an exchange (Core Specification, vol 3 part G 5.2.1)."""
MAX_VALUE = 512
"""Longest attribute value, and so the longest notification."""
WRITE_OVERHEAD = 3
"""Bytes of the ATT_MTU that a write command cannot carry: opcode and handle."""
NOTIFICATION_OVERHEAD = 5
"""The same for a notification: opcode and handle, and a length when the central supports multiple notifications. Then
BlueZ sends even a single one as ATT_MULTIPLE_HANDLE_VALUE_NTF and cuts what does not fit, in silence (bluez
src/shared/gatt-server.c, bt_gatt_server_send_notification); D-Bus does not say who supports them."""
QUEUE_LIMIT = 4 << 20
"""Unserved bytes at which a link is dropped. Clients keep at most 24 messages of 2475 bytes under way; this bounds the
memory that a central can take which sends without ever waiting for an answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a link has to keep to."""

    buf_size: int
    """Largest message, header included, in bytes."""
    max_fragment: int
    """Largest notification, in bytes, however large the MTU is."""
    longest_write: int = MAX_VALUE
    """Longest write command that the GATT server below does not lose, in bytes."""


def fragment_size(mtu: int, max_fragment: int) -> int:
    """Return how long a notification to a central with that MTU may be, in bytes."""
    return min(max(mtu, MIN_MTU) - NOTIFICATION_OVERHEAD, MAX_VALUE, max_fragment)


class Gatt(Protocol):
    """What the GATT server below offers; a central is named by a key, which for BlueZ is its D-Bus path."""

    def address(self, key: str) -> str:
        """Return the central's identity address when it is known, else the address that it connected with."""
        ...

    async def notify(self, key: str, value: bytes) -> None:
        """Send one notification to one central; return when the next may follow.

        Raises:
            TransportError: If it cannot reach this central, or could not without reaching others too.
        """
        ...

    def notify_now(self, key: str, value: bytes) -> bool:
        """Send one notification to one central if nothing must be waited for; False: `notify` is to do it."""
        ...

    def way(self, key: str) -> object:
        """Return what notifications to a central go by: another object once it has subscribed anew."""
        ...

    def disconnect(self, key: str) -> None:
        """Begin to drop the connection to a central."""
        ...


class BleLink:
    """One connection of one central (see `dispatch.peer.Link`)."""

    def __init__(self, gatt: Gatt, key: str, inbox: Inbox, limits: Limits) -> None:
        self._gatt = gatt
        self._key = key
        self._inbox = inbox
        self._limits = limits
        self._mtu = MIN_MTU
        self._framing = RawFraming(limits.buf_size, aligned=True)
        self._packets: asyncio.Queue[bytes] = asyncio.Queue()
        self._queued = 0
        self._sending = asyncio.Lock()
        self._closed = False
        self.counters = Counters(received=0, refused=0, sent=0)
        """Packets of whole messages that came, writes that were no part of one, messages that went."""
        self._task = asyncio.create_task(self._deliver(), name=f"ble {key}")
        self.identify()

    @property
    def peer(self) -> Peer:
        """Who is at the other end; the owner becomes the identity address when pairing has told it."""
        return self._peer

    @property
    def buf_size(self) -> int:
        """Largest message that is sure to pass, in bytes.

        A client with an MTU of 517 writes up to 514 bytes at once, and BlueZ loses those in silence. Told that a
        message may be no longer than what one safe write holds, such a client never does so; longer ones are taken all
        the same.
        """
        if self._mtu - WRITE_OVERHEAD > self._limits.longest_write:
            return min(self._limits.buf_size, self._limits.longest_write)
        return self._limits.buf_size

    @property
    def closed(self) -> bool:
        """True once the connection is gone."""
        return self._closed

    @property
    def mtu(self) -> int:
        """ATT_MTU of the connection as of its last write, in bytes."""
        return self._mtu

    def identify(self) -> None:
        """Look up the central's address again."""
        address = self._gatt.address(self._key)
        self._peer = Peer("ble", address, f"ble:{address}")

    def subscribed(self) -> None:
        """Begin anew: a central that subscribes has no half of a message under way."""
        self._framing.reset()

    def written(self, value: bytes, mtu: int) -> None:
        """Take one write command of any size; `mtu` is the connection's at that moment, in bytes."""
        self._mtu = mtu
        try:
            for packet in self._framing.feed(value):
                self.counters["received"] += 1
                self._packets.put_nowait(packet)
                self._queued += len(packet)
        except WireError as exc:
            self.counters["refused"] += 1
            log.warning("%s: dropped what it wrote: %s", self._peer, exc)
        if self._queued > QUEUE_LIMIT:
            log.warning(
                "%s: disconnected, %d bytes of requests wait, limit is %d", self._peer, self._queued, QUEUE_LIMIT
            )
            self._gatt.disconnect(self._key)

    def send_now(self, message: bytes) -> bool:
        """Send a message of one notification if nothing must be waited for; False: `send` is to do it."""
        if self._closed or self._sending.locked() or len(message) > fragment_size(self._mtu, self._limits.max_fragment):
            return False
        if not self._gatt.notify_now(self._key, message):
            return False
        self.counters["sent"] += 1
        return True

    async def send(self, message: bytes) -> None:
        """Send one whole message in notifications of what the MTU carries.

        A central that subscribes anew meanwhile gets no more of it: it would take the rest for the beginning of another
        one. It asks again.

        Raises:
            TransportError: If the link is gone, or its subscription.
        """
        async with self._sending:
            way = self._gatt.way(self._key)
            for piece in self._framing.split(message, fragment_size(self._mtu, self._limits.max_fragment)):
                if self._closed:
                    raise TransportError(f"{self._peer}: disconnected")
                if self._gatt.way(self._key) is not way:
                    raise TransportError(f"{self._peer}: its subscription ended in the middle of a reply")
                await self._gatt.notify(self._key, piece)
            self.counters["sent"] += 1

    def close(self) -> None:
        """End the link: what was not served is lost."""
        self._closed = True
        self._task.cancel()

    async def _deliver(self) -> None:
        while True:
            packet = await self._packets.get()
            await self._inbox.put(self, packet)
            self._queued -= len(packet)


class Centrals:
    """The links of all connected centrals, and who may have one.

    Args:
        single: Allow one central at a time. BlueZ before 5.76 sends a notification to every subscribed central, so that
            two of them would read each other's replies (bluez src/gatt-database.c, a08ec1a4e directs them).
        changed: Called when a central has joined or left, or its MTU is another, for whoever decides about advertising.
    """

    def __init__(self, gatt: Gatt, limits: Limits, *, single: bool, changed: Callable[[], None]) -> None:
        self._gatt = gatt
        self._limits = limits
        self._single = single
        self._changed = changed
        self._links: dict[str, BleLink] = {}
        self._refused: set[str] = set()
        self._sole: str | None = None
        self._inbox: Inbox | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The centrals that have a link."""
        return tuple(self._links)

    def mtu(self, key: str) -> int:
        """Return the ATT_MTU of a central that has a link, as of its last write, in bytes."""
        return self._links[key].mtu

    @property
    def full(self) -> bool:
        """True while no further central may connect."""
        return (self._single or self._sole in self._links) and bool(self._links)

    def open(self, inbox: Inbox) -> None:
        """Admit centrals and pass what they write to that inbox."""
        self._inbox = inbox

    def close(self) -> None:
        """Drop every link and admit nobody; the connections themselves are the caller's to end."""
        for key in self.keys:
            self.disconnected(key)
        self._inbox = None

    def connected(self, key: str) -> BleLink | None:
        """Return the central's link, made now if it is new; None if it is refused and being disconnected."""
        if link := self._links.get(key):
            return link
        if self._inbox is None or self.full:
            self._refuse(key)
            return None
        link = self._links[key] = BleLink(self._gatt, key, self._inbox, self._limits)
        log.debug("%s: connected", link.peer)
        self._inbox.joined(link)
        self._changed()
        return link

    def subscribed(self, key: str) -> bool:
        """Note that a central has asked for notifications, and has its own way for them; False if it is refused."""
        if not (link := self.connected(key)):
            return False
        link.subscribed()
        if self._sole == key:
            self._sole = None
            self._changed()
        return True

    def reserve(self, key: str) -> BleLink | None:
        """Return the link of the only central, which stays the only one until it leaves or subscribes; else None."""
        if self.keys != (key,):
            return None
        if self._sole != key and not self._single:
            log.info("%s: has no notification socket; nobody else may connect until it leaves", self._links[key].peer)
            self._sole = key
            self._changed()
        return self._links[key]

    def written(self, key: str, value: bytes, mtu: int) -> None:
        """Take one write command."""
        if link := self.connected(key):
            before = link.mtu
            link.written(value, mtu)
            if mtu != before:
                self._changed()

    def identified(self, key: str) -> None:
        """Note that the address of a central has changed, as it does when pairing tells its identity."""
        if link := self._links.get(key):
            link.identify()

    def disconnected(self, key: str) -> None:
        """Forget a central; nothing of its connection reaches its next one."""
        self._refused.discard(key)
        if not (link := self._links.pop(key, None)) or self._inbox is None:
            return
        link.close()
        counted = ", ".join(f"{count} {name}" for name, count in link.counters.items())
        log.info("%s: disconnected; messages: %s", link.peer, counted)
        if self._sole == key:
            self._sole = None
        self._inbox.left(link)
        self._changed()

    def _refuse(self, key: str) -> None:
        """Disconnect a central, once however much it writes until it falls."""
        if key not in self._refused:
            self._refused.add(key)
            log.info("ble %s: refused, %s", self._gatt.address(key), "busy" if self._inbox else "offline")
            self._gatt.disconnect(key)

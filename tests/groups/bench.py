"""Groups behind a router, on a real store with small slots."""

from pathlib import Path
from typing import Any, cast

import cbor2

from smp_dfu_host.dispatch.events import ModuleState, ModuleStateEvent
from smp_dfu_host.dispatch.group import Group
from smp_dfu_host.dispatch.hooks import ALL_EVENTS, Event, Notice
from smp_dfu_host.dispatch.router import Router
from smp_dfu_host.store.settings import Settings
from smp_dfu_host.wire.header import Header
from tests.fakes import Bench, FakeLink, FakeStore, answers
from tests.store.builders import config, store

READ, WRITE = 0, 2


class GroupBench:
    """One group, asked as a client asks.

    Args:
        kind: The group.
        folder: Where the store is made.
        sections: The configuration, by section.
    """

    def __init__(self, kind: type[Group], folder: Path, **sections: Any) -> None:
        self.store = store(folder, **sections)
        made = config(folder, **sections)
        settings = Settings(self.store.layout.settings if made.settings.storage else None)
        self.parts = Bench(config=made, store=cast("FakeStore", self.store), settings=settings)
        self.link = FakeLink()
        self.events: list[tuple[Event, Any]] = []
        self.parts.hooks.register(ALL_EVENTS, self._note)
        self.group = kind(self.parts.services)
        self.router = Router([self.group], self.parts.hooks, self.parts.stats)

    async def ask(self, op: int, command: int, body: object = None, *, version: int = 1) -> dict[str, Any]:
        """Return the body of the reply; `body` may be bytes, to be sent as they are."""
        payload = body if isinstance(body, bytes) else cbor2.dumps({} if body is None else body)
        header = Header(op, version, 0, len(payload), self.group.id, 7, command)
        (reply,) = await answers(self.router, self.link, header.pack() + payload)
        return dict(cbor2.loads(reply[Header.SIZE :]))

    def restart(self) -> None:
        """Tell of a reset that was carried out."""
        self.parts.events.submit(ModuleStateEvent("main", ModuleState.READY))
        self.parts.clock.advance()

    def told(self) -> list[str]:
        """Return the names of the events since the last call, but those of every command."""
        every = (Event.CMD_RECV, Event.CMD_DONE)
        names = [event.name for event, _ in self.events if event not in every]
        self.events.clear()
        return names

    def _note(self, notice: Notice) -> None:
        self.events.append((notice.event, notice.data))

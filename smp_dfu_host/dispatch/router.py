"""From request to reply: the table, the hooks, and the one place where an exception becomes an answer.

    what happens                     version 0              version 1
    the method returns a body        the body               the body
    MgmtError(rc)                    {"rc": rc}             {"rc": rc}
    GroupError(group, rc)            {"rc": translated}     {"err": {"group": group, "rc": rc}}
    any other exception              {"rc": 1}, and the traceback is logged

Every request gets exactly one reply. One that is a bare `rc` ends the packet: requests behind it are not served
(zephyr subsys/mgmt/mcumgr/smp/src/smp.c, smp_process_request_packet).
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from smp_dfu_host.dispatch.group import Context, Group
from smp_dfu_host.dispatch.hooks import CommandDone, CommandReceived, Event, Hooks
from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal, WireError
from smp_dfu_host.wire.body import Body, decode, encode
from smp_dfu_host.wire.header import Header
from smp_dfu_host.wire.message import Request, encode_reply, request_at

log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """The answer to one request."""

    message: bytes
    """Header and payload."""
    stops: bool
    """True if the rest of the packet is not served."""


@dataclass(frozen=True, slots=True)
class _Command:
    """One row of the table with its method."""

    group: Group
    body: type[Body] | None
    method: Callable[..., Awaitable[Body | Mapping[str, object]]]


class Replies:
    """The replies to the requests of one packet; what ends a packet early is decided here.

    Unlike a generator it can be left and come back to, without anything to clean up.
    """

    __slots__ = ("_link", "_offset", "_packet", "_router")

    def __init__(self, router: "Router", link: Link, packet: bytes) -> None:
        self._router = router
        self._link = link
        self._packet = packet
        self._offset = 0

    @property
    def done(self) -> bool:
        """True once nothing of the packet is left."""
        return self._offset >= len(self._packet)

    def __aiter__(self) -> "Replies":
        return self

    async def __anext__(self) -> bytes:
        if self.done:
            raise StopAsyncIteration
        try:
            request, self._offset = request_at(self._packet, self._offset)
        except WireError as exc:
            self._offset = len(self._packet)
            self._router.ignore(self._link, exc)
            raise StopAsyncIteration from None
        reply = await self._router.serve(self._link, request)
        if reply.stops:
            self._offset = len(self._packet)
        return reply.message


class Router:
    """Serves requests.

    Args:
        groups: In the order in which the enumeration group lists them; of two with one id the first one counts.
        hooks: Told of every request that has a handler.
        stats: Gets a group `smp` of counters.
    """

    def __init__(self, groups: Iterable[Group], hooks: Hooks, stats: Statistics) -> None:
        self.groups: dict[int, Group] = {}
        """By id, in order."""
        self._table: dict[tuple[int, int, int], _Command] = {}
        self._hooks = hooks
        self._counters = stats.group("smp", "requests", "replies", "errors", "failures", "short")
        for group in groups:
            if self.groups.setdefault(group.id, group) is group:
                for row in group.rows:
                    command = _Command(group, row.body, getattr(group, row.method))
                    self._table[group.id, row.command, row.op] = command

    def respond(self, link: Link, packet: bytes) -> Replies:
        """Return the replies to one packet, one for each request in order; each is made when it is asked for."""
        return Replies(self, link, packet)

    def ignore(self, link: Link, exc: WireError) -> None:
        """Count and log bytes that hold no header; they are never answered."""
        self._counters["short"] += 1
        log.info("%s: %s; ignored", link.peer, exc)

    async def serve(self, link: Link, request: Request) -> Reply:
        """Serve one request; whatever happens, there is a reply."""
        self._counters["requests"] += 1
        context = Context(link, request.header, request.payload, self.groups)
        command = None
        rc = int(Rc.OK)
        try:
            command = self._find(request)
            payload = await self._run(command, context, request.payload)
        except Refusal as refusal:
            rc, payload = self._refused(context, refusal)
        except Exception:  # a fault of ours costs the client one answer, not the server
            self._counters["failures"] += 1
            log.exception("%s: %s failed", link.peer, request.header)
            rc, payload = Rc.EUNKNOWN, encode({"rc": Rc.EUNKNOWN})
        if command is not None and self._hooks.heard(Event.CMD_DONE):
            await self._done(context, rc)
        self._counters["replies"] += 1
        return Reply(encode_reply(request.header, payload), rc != Rc.OK)

    def _find(self, request: Request) -> _Command:
        if request.fault is not None:
            raise MgmtError(request.fault)
        header = request.header
        command = self._table.get((header.group, header.command, header.op))
        if command is None:
            raise MgmtError(Rc.ENOTSUP)
        return command

    async def _run(self, command: _Command, context: Context, payload: bytes) -> bytes:
        """Ask the hooks, run the method, and return its answer if that fits the link."""
        header = context.header
        if self._hooks.heard(Event.CMD_RECV):
            received = CommandReceived(header.group, header.command, header.op, context.peer)
            await self._hooks.notify(Event.CMD_RECV, received)
        arguments = () if command.body is None else (decode(command.body, payload),)
        answer = encode(await command.method(context, *arguments))
        size = Header.SIZE + len(answer)
        limit = min(context.buf_size, Header.SIZE + 0xFFFF)
        if size > limit:
            raise MgmtError(command.group.too_large, f"reply of {size} bytes, limit is {limit}")
        return answer

    def _refused(self, context: Context, refusal: Refusal) -> tuple[int, bytes]:
        """Return the bare `rc`, or 0, and the answer, in the shape of the client's version of the protocol."""
        self._counters["errors"] += 1
        log.info("%s: %s refused: %s", context.peer, context.header, refusal)
        rc, rsn = int(Rc.EUNKNOWN), None
        match refusal:
            case MgmtError():
                rc = refusal.rc
            case GroupError() if context.header.version > 0:
                return Rc.OK, encode({"err": {"group": refusal.group, "rc": refusal.rc}, **refusal.beside})
            case GroupError():
                rc, rsn = self._translate(refusal), refusal.rsn
        return rc, encode({"rc": rc, "rsn": rsn})

    def _translate(self, refusal: GroupError) -> int:
        """Return the global code that version 0 has for a group's own."""
        group = self.groups.get(refusal.group)
        return Rc.EUNKNOWN if group is None else group.v0_rc.get(refusal.rc, Rc.EUNKNOWN)

    async def _done(self, context: Context, rc: int) -> None:
        header = context.header
        try:
            await self._hooks.notify(Event.CMD_DONE, CommandDone(header.group, header.command, rc, context.peer))
        except Exception:  # the request is answered already; this event cannot refuse it
            log.exception("%s: a hook failed after %s", context.peer, header)

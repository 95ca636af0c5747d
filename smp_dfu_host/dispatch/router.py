"""From request to reply: the table, the hooks, and the one place where an exception becomes an answer.

    what happens                     version 0              version 1
    the method returns a body        the body               the body
    MgmtError(rc)                    {"rc": rc}             {"rc": rc}
    GroupError(group, rc)            {"rc": translated}     {"err": {"group": group, "rc": rc}}
    any other exception              {"rc": 1}, and the traceback is logged

Every request gets exactly one reply. One that is a bare `rc` ends the packet: requests behind it are not served
(zephyr subsys/mgmt/mcumgr/smp/src/smp.c, smp_process_request_packet).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from smp_dfu_host.dispatch.group import Context, Group
from smp_dfu_host.dispatch.hooks import CommandDone, CommandReceived, Event, Hooks
from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import GroupError, MgmtError, Rc, Refusal, WireError
from smp_dfu_host.wire.body import Body, decode, encode
from smp_dfu_host.wire.header import Header
from smp_dfu_host.wire.message import encode_reply, request_at

log = logging.getLogger(__name__)

_LONGEST = 0xFFFF
"""Bytes of a payload that a header can tell."""


@dataclass(frozen=True, slots=True)
class _Command:
    """One row of the table with its method."""

    group: Group
    body: type[Body] | None
    method: Callable[..., Awaitable[Body | Mapping[str, object]]]


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
        self._received = hooks.trigger(Event.CMD_RECV)
        self._done = hooks.trigger(Event.CMD_DONE)
        self._counters = stats.group("smp", "requests", "replies", "errors", "failures", "short")
        for group in groups:
            if self.groups.setdefault(group.id, group) is group:
                for row in group.rows:
                    command = _Command(group, row.body, getattr(group, row.method))
                    self._table[group.id, row.command, row.op] = command

    async def answer(self, link: Link, packet: bytes, offset: int, send: Callable[[bytes], None]) -> int:
        """Serve the request that begins at an offset of a packet; return where the next one begins, or the end.

        Args:
            link: Where the packet came in.
            packet: One or several requests, back to back.
            offset: Of the request, in bytes.
            send: Called with the reply; whatever happens, there is one. Bytes that hold no header are never answered.
        """
        try:
            request, behind = request_at(packet, offset)
        except WireError as exc:
            self._counters["short"] += 1
            log.info("%s: %s; ignored", link.peer, exc)
            return len(packet)
        self._counters["requests"] += 1
        header, payload, fault = request
        op, _, _, _, group, _, number = header
        context = Context(link, header, payload, self.groups)
        command, rc = None, int(Rc.OK)
        try:
            if fault is not None:
                raise MgmtError(fault)  # noqa: TRY301  (an answer like any other)
            if (command := self._table.get((group, number, op))) is None:
                raise MgmtError(Rc.ENOTSUP)  # noqa: TRY301
            if self._received.chain:
                waiting = self._received.fire(CommandReceived(group, number, op, link.peer))
                if waiting is not None:
                    await waiting
            payload = await self._run(command, context, payload)
        except Refusal as refusal:
            rc, payload = self._refused(context, refusal)
        except asyncio.CancelledError:
            if _stopping():
                raise
            rc, payload = self._failed(context)
        except Exception:  # a fault of ours costs the client one answer, not the server
            rc, payload = self._failed(context)
        self._counters["replies"] += 1
        send(encode_reply(header, payload))
        if command is not None and self._done.chain:
            await self._tell_done(context, rc)
        return len(packet) if rc else behind

    async def _run(self, command: _Command, context: Context, payload: bytes) -> bytes:
        """Run the method, and return its answer if that fits the link."""
        arguments = () if command.body is None else (decode(command.body, payload),)
        answer = encode(await command.method(context, *arguments))
        size = Header.SIZE + len(answer)
        if size > context.buf_size or len(answer) > _LONGEST:
            limit = min(context.buf_size, Header.SIZE + _LONGEST)
            raise MgmtError(command.group.too_large, f"reply of {size} bytes, limit is {limit}")
        return answer

    def _failed(self, context: Context) -> tuple[int, bytes]:
        """Return the bare `rc` and the answer where an exception is that nobody expected."""
        self._counters["failures"] += 1
        log.exception("%s: %s failed", context.peer, context.header)
        return Rc.EUNKNOWN, encode({"rc": Rc.EUNKNOWN})

    def _refused(self, context: Context, refusal: Refusal) -> tuple[int, bytes]:
        """Return the bare `rc`, or 0, and the answer."""
        log.info("%s: %s refused: %s", context.peer, context.header, refusal)
        try:
            rc, payload = self._refusal(context, refusal)
            if len(payload) > _LONGEST:
                raise WireError(f"refusal of {len(payload)} bytes, limit is {_LONGEST}")  # noqa: TRY301
        except Exception:  # what a group of somebody else's put beside it may be anything
            return self._failed(context)
        self._counters["errors"] += 1
        return rc, payload

    def _refusal(self, context: Context, refusal: Refusal) -> tuple[int, bytes]:
        """Return a refusal in the shape of the client's version of the protocol."""
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

    async def _tell_done(self, context: Context, rc: int) -> None:
        header = context.header
        try:
            waiting = self._done.fire(CommandDone(header.group, header.command, rc, context.peer))
            if waiting is not None:
                await waiting
        except asyncio.CancelledError:
            if _stopping():
                raise
            log.exception("%s: a hook failed after %s", context.peer, header)
        except Exception:  # the request is answered already; this event cannot refuse it
            log.exception("%s: a hook failed after %s", context.peer, header)


def _stopping() -> bool:
    """Tell whether a CancelledError is meant for the task; if not, its handler waited for what was cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0

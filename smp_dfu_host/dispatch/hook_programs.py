"""Hooks that are programs: what `[[hook]]` in the configuration names.

    event ─► JSON on stdin, SMP_... in the environment ─► program ─► exit status, output to the log
             may refuse: its request waits, and an exit status other than 0 is the `rc` of its answer
             otherwise: nobody waits; one program after another, in the order of the events

A program that takes too long, cannot be run or dies of a signal refuses what can be refused. Nothing that a client
sends becomes an argument or the name of a variable, and no shell is there to read it.
"""

import asyncio
import errno
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial

from smp_dfu_host.dispatch.hooks import Event, Hooks, Notice
from smp_dfu_host.dispatch.program import ENVIRONMENT, Finished, run
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import ConfigError, MgmtError, Rc
from smp_dfu_host.hook_config import HookConfig
from smp_dfu_host.hook_events import BY_LABEL

log = logging.getLogger(__name__)

QUEUE_SIZE = 64
"""Programs that may wait for their turn; of those beyond it, as a fast upload can bring, the events are dropped."""

OUTPUT_SIZE = 4096
"""Bytes of a program's output that are logged, the first ones."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A program that is to be run for an event."""

    hook: HookConfig
    told: Mapping[str, object]


class HookPrograms:
    """The programs of a configuration.

    Args:
        programs: In the order in which those of one event run.
        stats: Gets a group `hook` of counters if there are programs.

    Raises:
        ConfigError: If a program is not there.
    """

    def __init__(self, programs: Sequence[HookConfig], stats: Statistics) -> None:
        for number, hook in enumerate(programs):
            _check(f"hook[{number}].run[0]", hook.run[0])
        self._programs = programs
        self._queue = asyncio.Queue[_Call](QUEUE_SIZE)
        self._counters: dict[str, int] = stats.group("hook", "run", "failed", "dropped") if programs else {}

    def register(self, hooks: Hooks) -> None:
        """Have the programs told of their events from now on."""
        for hook in self._programs:
            event = BY_LABEL[hook.on]
            hooks.register(event, partial(self._ask if event.refusable else self._tell, hook))

    async def run(self) -> None:
        """Run the programs for which nobody waits, until cancelled."""
        while True:
            await self._call(await self._queue.get())

    async def _ask(self, hook: HookConfig, notice: Notice) -> None:
        """Run a program and wait for its answer.

        Raises:
            MgmtError: If it refuses.
        """
        done = await self._call(_Call(hook, told(notice)))
        if done.ret:
            raise MgmtError(rc_of(done.ret), f"{_name(hook)}: {_outcome(done.ret)}")

    async def _tell(self, hook: HookConfig, notice: Notice) -> None:
        try:
            self._queue.put_nowait(_Call(hook, told(notice)))
        except asyncio.QueueFull:
            self._counters["dropped"] += 1
            log.warning("%s: not run, %d programs are waiting", _name(hook), QUEUE_SIZE)

    async def _call(self, call: _Call) -> Finished:
        self._counters["run"] += 1
        done = await run(
            call.hook.run,
            call.hook.timeout_ms / 1000,
            OUTPUT_SIZE,
            told=json.dumps(call.told).encode() + b"\n",
            environment=environment(call.told),
        )
        for line in done.output.decode(errors="backslashreplace").splitlines():
            log.info("%s: %s", _name(call.hook), line if line.isprintable() else ascii(line))
        if done.ret:
            self._counters["failed"] += 1
            log.warning("%s: %s", _name(call.hook), _outcome(done.ret))
        return done


def told(notice: Notice) -> Mapping[str, object]:
    """Return what a program is told of an event: values of JSON, bytes in hex, enumerations by their names."""
    event: Event = notice.event
    refused = None if notice.refused is None else str(notice.refused)
    data = _plain(notice.data)
    known = dict(data) if isinstance(data, dict) else {} if data is None else {"value": data}
    return {"event": event.label, "id": int(event), "refused": refused, "peer": known.pop("peer", None), "data": known}


def environment(said: Mapping[str, object]) -> dict[str, str]:
    """Return what `told` has said as variables: `SMP_EVENT`, `SMP_PEER` (the stable identity), `SMP_` and each field.

    What is no single value is left out, and so is a text with a NUL, which no variable can hold.
    """
    peer, data = said["peer"], said["data"]
    assert isinstance(data, dict)  # noqa: S101  (for the type checker; `told` makes one)
    values = {"event": said["event"], "refused": said["refused"], **data}
    if isinstance(peer, dict):
        values["peer"] = peer["owner"]
    texts = {f"SMP_{key.upper()}": _text(value) for key, value in values.items() if _single(value)}
    return {key: text for key, text in texts.items() if "\0" not in text}


def rc_of(ret: int) -> int:
    """Return the `rc` that a program's end stands for: its exit status, ETIMEOUT, or EUNKNOWN."""
    if ret == -errno.ETIMEDOUT:
        return Rc.ETIMEOUT
    return ret if ret > 0 else Rc.EUNKNOWN


def _single(value: object) -> bool:
    return isinstance(value, (str, int))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    match value:
        case Enum():
            return value.name.lower()
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case set():
            return sorted(map(str, value))
        case tuple() if hasattr(value, "_asdict"):
            return _plain(value._asdict())
        case list() | tuple():
            return [_plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case _ if is_dataclass(value):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return str(value)


def _check(option: str, program: str) -> None:
    path = ENVIRONMENT["PATH"]
    if "/" in program and not program.startswith("/"):
        raise ConfigError(f"{option} = {program!r}: must be an absolute path, or a name to be found in {path}")
    if shutil.which(program, path=path) is None:
        where = "is not there, or not executable" if os.path.isabs(program) else f"is not in {path}"
        raise ConfigError(f"{option} = {program!r}: {where}")


def _name(hook: HookConfig) -> str:
    return f"hook {hook.on}, {hook.run[0]}"


def _outcome(ret: int) -> str:
    if ret > 0:
        return f"exit status {ret}"
    return "killed, it took too long" if ret == -errno.ETIMEDOUT else f"could not be run, or died: {ret}"

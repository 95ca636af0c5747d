"""Hooks that are programs: what they are told, what their end means, and that nothing of a client's gets further."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.dispatch.hook_programs import HookPrograms, environment, told
from smp_dfu_host.dispatch.hooks import (
    CommandReceived,
    DfuPending,
    DfuStopped,
    Event,
    FileAccess,
    FileUse,
    Hooks,
    InfoAppend,
    InfoCheck,
    Notice,
    OsReset,
    SettingsAccess,
    SettingsUse,
    SlotFields,
    UploadCheck,
)
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.dispatch.stats import Statistics
from smp_dfu_host.errors import ConfigError, MgmtError, Rc
from smp_dfu_host.hook_config import HookConfig
from tests.fakes import UDP

RECORD = """
import json, os, sys
variables = {{key: value for key, value in os.environ.items() if key.startswith("SMP_")}}
with open({file!r}, "a") as file:
    json.dump([sys.argv[1:], json.load(sys.stdin), variables], file)
    file.write("\\n")
"""


def python(on: str, code: str, timeout_ms: int = 20_000) -> HookConfig:
    return HookConfig(on, (sys.executable, "-c", code, "fixed"), timeout_ms)


def recording(on: str, file: Path) -> HookConfig:
    return python(on, RECORD.format(file=str(file)))


class Rig:
    def __init__(self, *programs: HookConfig) -> None:
        self.hooks, self.stats = Hooks(), Statistics()
        self.programs = HookPrograms(programs, self.stats)
        self.programs.register(self.hooks)

    async def refused(self, event: Event, data: object) -> MgmtError:
        with pytest.raises(MgmtError) as info:
            await self.hooks.notify(event, data)
        return info.value

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.programs.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))


def records(file: Path) -> list[tuple[list[str], dict[str, Any], dict[str, str]]]:
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


async def test_program_is_told_on_stdin_and_in_its_environment(tmp_path: Path) -> None:
    rig = Rig(recording("reset", tmp_path / "told"))
    await rig.hooks.notify(Event.OS_RESET, OsReset(force=True, boot_mode=1, peer=UDP))
    assert records(tmp_path / "told") == [
        (
            ["fixed"],
            {
                "event": "reset",
                "id": 0x20001,
                "refused": None,
                "peer": {"transport": "udp", "address": "127.0.0.1:50123", "owner": "udp:127.0.0.1"},
                "data": {"force": True, "boot_mode": 1},
            },
            {"SMP_EVENT": "reset", "SMP_PEER": "udp:127.0.0.1", "SMP_FORCE": "true", "SMP_BOOT_MODE": "1"},
        )
    ]


@pytest.mark.parametrize(
    ("code", "rc"),
    [
        ("exit(11)", Rc.EACCESSDENIED),
        ("exit(255)", 255),
        ("1 / 0", Rc.EUNKNOWN),
        ("import os; os.kill(os.getpid(), 15)", Rc.EUNKNOWN),
    ],
)
async def test_exit_status_is_the_rc_of_the_refusal(code: str, rc: int) -> None:
    rig = Rig(python("reset", code))
    assert (await rig.refused(Event.OS_RESET, OsReset(force=False, boot_mode=0, peer=UDP))).rc == rc
    assert rig.stats.groups["hook"] == {"run": 1, "failed": 1, "dropped": 0}


async def test_program_that_takes_too_long_refuses_and_the_loop_goes_on() -> None:
    rig = Rig(python("reset", "import time; time.sleep(1000)", timeout_ms=300))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    task = asyncio.create_task(tick())
    assert (await rig.refused(Event.OS_RESET, None)).rc == Rc.ETIMEOUT
    task.cancel()
    assert ticks >= 3


async def test_program_that_is_gone_refuses(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    rig = Rig(HookConfig("reset", (str(program),)))
    await rig.hooks.notify(Event.OS_RESET, None)
    program.unlink()
    assert (await rig.refused(Event.OS_RESET, None)).rc == Rc.EUNKNOWN


async def test_first_refusal_counts_and_the_later_program_is_told_of_it(tmp_path: Path) -> None:
    rig = Rig(python("reset", "exit(10)"), recording("reset", tmp_path / "told"), python("reset", "exit(11)"))
    assert (await rig.refused(Event.OS_RESET, None)).rc == Rc.EBUSY
    ((_, said, variables),) = records(tmp_path / "told")
    assert said["refused"] == variables["SMP_REFUSED"] == f"hook reset, {sys.executable}: exit status 10"


async def test_programs_that_cannot_refuse_run_later_in_the_order_of_the_events(tmp_path: Path) -> None:
    done = tmp_path / "done"
    os.mkfifo(done)
    rig = Rig(
        recording("image-pending", tmp_path / "told"),
        python("image-stopped", "exit(1)"),
        python("image-confirmed", f"open({str(done)!r}, 'w').close()"),
    )
    for size in (1, 2):
        await rig.hooks.notify(Event.IMG_DFU_PENDING, DfuPending(UDP, 0, 1, size))
    await rig.hooks.notify(Event.IMG_DFU_STOPPED, DfuStopped(UDP, "flash is full"))
    await rig.hooks.notify(Event.IMG_DFU_CONFIRMED, None)
    assert records(tmp_path / "told") == []
    async with rig.running():
        await asyncio.to_thread(done.read_bytes)
    assert [said["data"]["size"] for _, said, _ in records(tmp_path / "told")] == [1, 2]
    assert rig.stats.groups["hook"] == {"run": 4, "failed": 1, "dropped": 0}


async def test_more_events_than_can_wait_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(python("image-chunk-written", ""))
    for _ in range(66):
        await rig.hooks.notify(Event.IMG_DFU_CHUNK_WRITE_COMPLETE, None)
    assert rig.stats.groups["hook"]["dropped"] == 2
    assert "not run, 64 programs are waiting" in caplog.text


async def test_output_is_logged_line_by_line_without_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(python("reset", r"print('fine \u00e4'); print('\x1b[2Jbad'); print('x' * 9999)"))
    with caplog.at_level(logging.INFO, "smp_dfu_host.dispatch.hook_programs"):
        await rig.hooks.notify(Event.OS_RESET, None)
    lines = [line.partition(": ")[2] for line in caplog.messages]
    assert lines[:2] == ["fine \u00e4", r"'\x1b[2Jbad'"]
    assert sum(map(len, lines)) < 4200


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("/no/such/program", r"hook\[0\].run\[0\] = '/no/such/program': is not there, or not executable"),
        ("/etc/passwd", "is not there, or not executable"),
        ("no-such-program", "= 'no-such-program': is not in "),
        ("./program", "must be an absolute path, or a name to be found in "),
    ],
)
async def test_missing_program_is_told_at_the_start(program: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rig(HookConfig("reset", (program,)))


async def test_program_is_found_by_its_name() -> None:
    await Rig(HookConfig("reset", ("true",))).hooks.notify(Event.OS_RESET, None)
    assert (await Rig(HookConfig("reset", ("false",))).refused(Event.OS_RESET, None)).rc == 1


HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "--help\n-c\nSMP_EVENT=x",
    "a\0b",
    "\udcff\udc80 '\"\\",
    "\x1b]0;x\x07",
    "() { :;}; touch pwned",
    "LD_PRELOAD=/evil.so",
    "x" * 2400,
]
"""What clients may put in names, and transports in addresses."""


def hostile_events(text: str) -> list[tuple[Event, object]]:
    peer = Peer("udp", text, text)
    raw = text.encode(errors="surrogateescape")
    check = UploadCheck(peer, 0, 0, raw, 9, raw, upgrade=False, slot=1, erase=True)
    return [
        (Event.FS_FILE_ACCESS, FileAccess(FileUse.WRITE, text, peer)),
        (Event.SETTINGS_ACCESS, SettingsAccess(SettingsUse.SAVE, peer, text, raw)),
        (Event.IMG_DFU_CHUNK, check),
        (Event.IMG_IMAGE_SLOT_STATE, SlotFields(0, 1, {"version": text, "hash": raw, text: text})),
        (Event.OS_INFO_APPEND, InfoAppend(text, [text])),
    ]


@pytest.mark.parametrize("text", HOSTILE)
async def test_nothing_hostile_becomes_an_argument_or_a_command(tmp_path: Path, text: str) -> None:
    events = hostile_events(text)
    rig = Rig(*(recording(event.label, tmp_path / "told") for event, _ in events))
    for event, data in events:
        await rig.hooks.notify(event, data)
    recorded = records(tmp_path / "told")
    assert [said["event"] for _, said, _ in recorded] == [event.label for event, _ in events]
    for arguments, said, variables in recorded:
        assert arguments == ["fixed"]
        assert variables["SMP_EVENT"] == said["event"]
        assert variables.keys() <= {"SMP_EVENT", "SMP_PEER", *(f"SMP_{name.upper()}" for name in said["data"])}
    assert recorded[0][1]["data"] == {"use": "write", "name": text}
    assert recorded[0][2].get("SMP_NAME") == (None if "\0" in text else text)
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("/pwned").exists()


@given(text=st.text())
def test_every_text_is_told_as_it_is(text: str) -> None:
    for event, data in hostile_events(text):
        said = told(Notice(event, data))
        assert json.loads(json.dumps(said)) == said
        for name, value in environment(said).items():
            assert name.startswith("SMP_")
            assert name.isascii()
            assert "\0" not in value


def test_values_are_told_as_json_has_them() -> None:
    check = InfoCheck("x", {"b", "a"})
    assert told(Notice(Event.OS_INFO_CHECK, check))["data"] == {"format": "x", "letters": ["a", "b"]}
    assert told(Notice(Event.OS_DATETIME_SET, (2025, 1)))["data"] == {"value": [2025, 1]}
    assert told(Notice(Event.OS_DATETIME_GET, None))["data"] == {}
    assert told(Notice(Event.CMD_RECV, CommandReceived(1, 1, 2, UDP)))["data"] == {"group": 1, "command": 1, "op": 2}
    fields = SlotFields(0, 1, {"version": b"\xff", "when": 1.5})
    assert told(Notice(Event.IMG_IMAGE_SLOT_STATE, fields))["data"] == {
        "image": 0,
        "slot": 1,
        "fields": {"version": "ff", "when": "1.5"},
    }

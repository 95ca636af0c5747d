"""Uploads, downloads and what comes between them, against a model of files as byte strings."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smp_dfu_host.groups.fs_mgmt import FileSystemGroup
from tests.fakes import BLE, UDP
from tests.groups.bench import READ, WRITE, GroupBench

names = st.sampled_from(["a", "b"])
peers = st.sampled_from([UDP, BLE])


class FileMachine(RuleBasedStateMachine):
    """Files are what the parts that were answered make them, and an upload goes on where they say."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.bench = GroupBench(FileSystemGroup, self.folder, fs={"folder": "files"})
        self.runner = asyncio.Runner()
        self.files: dict[str, bytes] = {}
        self.upload: tuple[object, str] | None = None
        """Whose upload of what is under way."""
        self.off = self.length = self.told = 0

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.runner.close()
            shutil.rmtree(self.folder)

    def ask(self, op: int, command: int, name: str, **body: object) -> dict[str, Any]:
        return self.runner.run(self.bench.ask(op, command, {"name": f"/lfs1/{name}", **body}))

    def open(self, name: str) -> None:
        """Go on with an upload, or begin one."""
        if self.upload != (self.bench.link.peer, name):
            self.upload = (self.bench.link.peer, name)
            self.told = len(self.files.setdefault(name, b""))
            self.off = self.length = 0

    @rule(name=names, peer=peers, data=st.binary(max_size=9), more=st.integers(0, 9))
    def first_part(self, name: str, peer: Any, data: bytes, more: int) -> None:
        self.bench.link.peer = peer
        self.open(name)
        self.off, self.length = len(data), len(data) + more
        assert self.ask(WRITE, 0, name, off=0, len=self.length, data=data) == {"off": self.off}
        if data:
            self.files[name] = data
        self.end_if_complete()

    @rule(name=names, peer=peers, data=st.binary(max_size=9), beside=st.sampled_from([0, 0, 0, 1, 100]))
    def another_part(self, name: str, peer: Any, data: bytes, beside: int) -> None:
        size = len(self.files.get(name, b""))
        if not size + beside:
            return
        self.bench.link.peer = peer
        self.open(name)
        wanted = self.off or size
        reply = self.ask(WRITE, 0, name, off=wanted + beside, data=data)
        if beside or not wanted:
            assert reply == {"err": {"group": 8, "rc": 11}, "len": wanted}
            self.upload = None
            return
        self.off = wanted + len(data)
        assert reply == {"off": self.off}
        self.files[name] += data
        self.end_if_complete()

    def end_if_complete(self) -> None:
        if self.length and self.off >= self.length:
            self.upload = None

    @rule(name=names, off=st.integers(0, 12))
    def download(self, name: str, off: int) -> None:
        reply = self.ask(READ, 0, name, off=off)
        self.upload = None
        if name not in self.files:
            assert reply == {"err": {"group": 8, "rc": 3}}
            return
        assert reply["data"] == self.files[name][off:]
        assert reply.get("len") == (None if off else len(self.files[name]))

    @rule(name=names)
    def status(self, name: str) -> None:
        reply = self.ask(READ, 1, name)
        if self.upload is not None and self.upload[1] == name:
            assert reply == {"len": self.told}
        elif name in self.files:
            assert reply == {"len": len(self.files[name])}
        else:
            assert reply == {"err": {"group": 8, "rc": 3}}

    @rule(how=st.sampled_from(["close", "idle", "reset"]))
    def close(self, how: str) -> None:
        if how == "close":
            assert self.ask(WRITE, 4, "a") == {}
        elif how == "idle":
            self.bench.parts.clock.advance(4.1)
        else:
            self.bench.restart()
        self.upload = None

    @invariant()
    def same(self) -> None:
        if hasattr(self, "folder"):
            assert {path.name: path.read_bytes() for path in (self.folder / "files").iterdir()} == self.files


TestFileMachine = FileMachine.TestCase
TestFileMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

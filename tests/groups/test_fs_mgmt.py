import hashlib
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.config import parse
from smp_dfu_host.dispatch.hooks import Event, Notice
from smp_dfu_host.errors import ConfigError, GroupError, MgmtError
from smp_dfu_host.groups.fs_mgmt import FileSystemGroup, mount
from smp_dfu_host.store.mount import MountedFile, MountError, MountFault
from tests.fakes import BLE, UDP
from tests.groups.bench import READ, WRITE, GroupBench

NAME = "/lfs1/a"


def refused(rc: int, **beside: int) -> dict[str, Any]:
    return {"err": {"group": 8, "rc": rc}, **beside}


def make(folder: Path, **options: Any) -> GroupBench:
    return GroupBench(FileSystemGroup, folder, fs={"folder": "files", **options})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    return make(tmp_path)


async def upload(bench: GroupBench, data: bytes, off: int = 0, name: str = NAME, **more: Any) -> dict[str, Any]:
    """Send a part; the file's length goes with the first one."""
    first = {} if off else {"len": len(data)}
    return await bench.ask(WRITE, 0, {"name": name, "off": off, "data": data, **first, **more})


async def download(bench: GroupBench, off: int = 0, name: str = NAME) -> dict[str, Any]:
    return await bench.ask(READ, 0, {"name": name, "off": off})


async def size(bench: GroupBench, name: str = NAME) -> int | dict[str, Any]:
    reply = await bench.ask(READ, 1, {"name": name})
    return int(reply["len"]) if "len" in reply else reply


async def test_a_file_goes_up_and_down(bench: GroupBench, files: Path) -> None:
    assert await upload(bench, b"hello ", len=11) == {"off": 6}
    assert await upload(bench, b"world", 6) == {"off": 11}
    assert (files / "a").read_bytes() == b"hello world"
    assert await size(bench) == 11
    assert await download(bench) == {"off": 0, "data": b"hello world", "len": 11}
    assert await download(bench, 6) == {"off": 6, "data": b"world"}
    for off in (11, 12, 2**40, 2**64 - 2):
        assert await download(bench, off) == {"off": off, "data": b""}


@settings(max_examples=30)
@given(data=st.binary(max_size=9000), part=st.integers(1, 3000), buf_size=st.integers(96, 2475))
async def test_every_file_survives_the_way(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, part: int, buf_size: int
) -> None:
    """Whatever the sizes of parts and buffers, what comes down is what went up, and no reply is too large."""
    bench = make(tmp_path_factory.mktemp("way"))
    off = 0
    while True:
        reply = await upload(bench, data[off : off + part], off, len=len(data))
        off = reply["off"]
        if off >= len(data):
            break
    bench.link.buf_size = buf_size
    reply = await download(bench)
    got = reply["data"]
    assert reply["len"] == len(data)
    while len(got) < len(data):
        got += (await download(bench, len(got)))["data"]
    assert got == data


async def test_an_empty_file_can_be_made(bench: GroupBench, files: Path) -> None:
    assert await upload(bench, b"") == {"off": 0}
    assert await size(bench) == 0
    assert await download(bench) == {"off": 0, "data": b"", "len": 0}
    assert await bench.ask(READ, 2, {"name": NAME}) == refused(16)
    assert (files / "a").read_bytes() == b""


async def test_an_upload_replaces_what_was_there_with_its_first_data(bench: GroupBench) -> None:
    await upload(bench, b"a long file")
    assert await upload(bench, b"", len=5) == {"off": 0}
    assert await size(bench) == 11
    assert await upload(bench, b"short") == {"off": 5}
    assert await download(bench) == {"off": 0, "data": b"short", "len": 5}


async def test_an_upload_that_begins_again_begins_at_0(bench: GroupBench) -> None:
    await upload(bench, b"abc", len=10)
    assert await upload(bench, b"short") == {"off": 5}
    assert await size(bench) == 5


async def test_an_upload_has_its_old_size_until_it_is_closed(bench: GroupBench) -> None:
    await upload(bench, b"1234567")
    await upload(bench, b"abc", len=10)
    assert await size(bench) == 7
    assert await bench.ask(WRITE, 4) == {}
    assert await size(bench) == 3


async def test_a_broken_upload_goes_on_at_the_files_end(bench: GroupBench) -> None:
    await upload(bench, b"abc", len=6)
    bench.parts.clock.advance(4.1)
    assert await size(bench) == 3
    assert await upload(bench, b"def", 3) == {"off": 6}
    bench.restart()
    assert (await download(bench))["data"] == b"abcdef"


async def test_a_request_puts_the_idle_close_off(bench: GroupBench) -> None:
    await upload(bench, b"abc", len=9)
    bench.parts.clock.advance(3)
    await upload(bench, b"def", 3)
    bench.parts.clock.advance(3)
    assert await size(bench) == 0
    bench.parts.clock.advance(1.1)
    assert await size(bench) == 6
    assert bench.parts.clock.timers == []


@pytest.mark.parametrize("off", [1, 2, 4, 100, 2**40])
async def test_a_part_out_of_place_is_told_where_to_go_on(bench: GroupBench, off: int) -> None:
    await upload(bench, b"abc", len=9)
    assert await upload(bench, b"x", off) == refused(11, len=3)
    assert await upload(bench, b"def", 3) == {"off": 6}


async def test_version_0_is_told_no_more_than_the_code(bench: GroupBench) -> None:
    body = {"name": NAME, "off": 5, "data": b"x"}
    assert await bench.ask(WRITE, 0, body, version=0) == {"rc": 1}


async def test_another_file_and_another_peer_close_the_upload(bench: GroupBench) -> None:
    await upload(bench, b"abc", len=6)
    await upload(bench, b"xyz", name="/lfs1/b", len=6)
    assert await size(bench) == 3
    bench.link.peer = BLE
    assert await upload(bench, b"uvw", 3, "/lfs1/b") == {"off": 6}
    assert await upload(bench, b"def", 3) == {"off": 6}
    assert (await download(bench, name="/lfs1/b"))["data"] == b"xyzuvw"


async def test_more_than_len_is_taken(bench: GroupBench) -> None:
    assert await upload(bench, b"longer than len", len=4) == {"off": 15}
    assert await size(bench) == 15
    assert await upload(bench, b"!", 15) == {"off": 16}


async def test_a_full_file_system_takes_back_what_was_written(tmp_path: Path, files: Path) -> None:
    bench = make(tmp_path, size=100)
    await upload(bench, b"x" * 30, name="/lfs1/other")
    assert await upload(bench, b"y" * 60, len=90) == {"off": 60}
    assert await upload(bench, b"y" * 30, 60) == refused(10)
    assert (files / "a").read_bytes() == b""
    assert await upload(bench, b"y" * 70) == {"off": 70}
    assert await upload(bench, b"y", 70) == refused(10)
    assert (files / "a").read_bytes() == b"y" * 70


async def test_there_are_only_so_many_files(tmp_path: Path) -> None:
    bench = make(tmp_path, files=1)
    await upload(bench, b"abc")
    assert await upload(bench, b"abc", name="/lfs1/b") == refused(1)
    assert await upload(bench, b"abcd") == {"off": 4}


async def test_a_read_only_file_system_is_only_read(tmp_path: Path, files: Path) -> None:
    bench = make(tmp_path, read_only=True)
    (files / "a").write_bytes(b"abc")
    assert await upload(bench, b"x") == refused(15)
    assert (await download(bench))["data"] == b"abc"


@pytest.mark.parametrize(
    ("name", "read", "write"),
    [
        ("", {"rc": 3}, {"rc": 3}),
        ("/lfs1/" + "n" * 58, refused(3), {"off": 1}),
        ("/lfs1/" + "n" * 59, {"rc": 3}, {"rc": 3}),
        ("/lfs1/" + "ü" * 30, {"rc": 3}, {"rc": 3}),
        ("a.txt", refused(2), refused(2)),
        ("/lfs1/../a", refused(2), refused(2)),
        ("/lfs1/a\0b", refused(2), refused(2)),
        ("/nope/x", refused(3), refused(14)),
        ("/lfs1/no/x", refused(3), refused(14)),
        ("/lfs1", refused(4), refused(1)),
        ("/", refused(4), refused(1)),
    ],
)
async def test_paths_are_refused_as_zephyr_does(
    bench: GroupBench, name: str, read: dict[str, Any], write: dict[str, Any]
) -> None:
    assert await download(bench, name=name) == read
    assert await bench.ask(READ, 1, {"name": name}) == read
    assert await bench.ask(READ, 2, {"name": name}) == read
    assert await upload(bench, b"x", name=name) == write


@pytest.mark.parametrize("body", [{"off": 0}, {"name": NAME}, {"name": NAME, "off": -1}, {"name": b"/", "off": 0}, []])
async def test_requests_without_path_or_offset_are_invalid(bench: GroupBench, body: object) -> None:
    assert await bench.ask(READ, 0, body) == {"rc": 3}
    assert await bench.ask(WRITE, 0, body) == {"rc": 3}


async def test_a_first_part_without_length_is_invalid(bench: GroupBench) -> None:
    assert await bench.ask(WRITE, 0, {"name": NAME, "off": 0, "data": b"x"}) == {"rc": 3}


DATA = b"hello world"


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ({}, {"type": "crc32", "len": 11, "output": 222957957}),
        ({"type": ""}, {"type": "crc32", "len": 11, "output": 222957957}),
        ({"type": "sha256"}, {"type": "sha256", "len": 11, "output": hashlib.sha256(DATA).digest()}),
        ({"off": 6}, {"type": "crc32", "off": 6, "len": 5, "output": zlib.crc32(b"world")}),
        ({"off": 1, "len": 3}, {"type": "crc32", "off": 1, "len": 3, "output": zlib.crc32(b"ell")}),
        ({"off": 6, "len": 100}, {"type": "crc32", "off": 6, "len": 5, "output": zlib.crc32(b"world")}),
        ({"len": 0}, {"rc": 3}),
        ({"type": "sha256xxx"}, {"rc": 3}),
        ({"type": "md5"}, refused(13)),
        ({"type": "CRC32"}, refused(13)),
        ({"off": 11}, refused(12)),
        ({"off": 2**64 - 1}, refused(12)),
    ],
)
async def test_hashes_are_told(bench: GroupBench, body: dict[str, Any], reply: dict[str, Any]) -> None:
    await upload(bench, DATA)
    assert await bench.ask(READ, 2, {"name": NAME, **body}) == reply
    assert list(await bench.ask(READ, 2, {"name": NAME, **body})) == list(reply)


async def test_a_file_larger_than_a_read_is_hashed_whole(tmp_path: Path, files: Path) -> None:
    bench = make(tmp_path)
    data = bytes(range(256)) * 1000
    (files / "a").write_bytes(data)
    reply = await bench.ask(READ, 2, {"name": NAME, "type": "sha256", "off": 1})
    assert reply["output"] == hashlib.sha256(data[1:]).digest()


async def test_hash_types_are_told(bench: GroupBench) -> None:
    types = {"crc32": {"format": 0, "size": 4}, "sha256": {"format": 1, "size": 32}}
    assert await bench.ask(READ, 3, b"garbage") == {"types": types}


async def test_hooks_are_asked_when_a_file_is_opened(bench: GroupBench) -> None:
    await upload(bench, b"ab", len=4)
    await upload(bench, b"cd", 2)
    bench.link.buf_size = 96
    await upload(bench, bytes(100))
    for off in (0, 52):
        await download(bench, off)
    await size(bench)
    await bench.ask(READ, 2, {"name": NAME})
    uses = [(data.use.name, data.name, data.peer) for event, data in bench.events if event is Event.FS_FILE_ACCESS]
    assert uses == [(use, NAME, UDP) for use in ("WRITE", "WRITE", "READ", "STATUS", "HASH")]


async def test_a_hook_can_refuse_each_use(bench: GroupBench) -> None:
    await upload(bench, b"abc")

    def refuse(notice: Notice) -> None:
        raise GroupError(8, 99) if notice.data.name == NAME else MgmtError(11)

    bench.parts.hooks.register(Event.FS_FILE_ACCESS, refuse)
    for name, reply in ((NAME, refused(99)), ("/lfs1/b", {"rc": 11})):
        assert await upload(bench, b"x", name=name) == reply
        assert await download(bench, name=name) == reply
        assert await bench.ask(READ, 1, {"name": name}) == reply
        assert await bench.ask(READ, 2, {"name": name}) == reply


async def test_a_hook_puts_another_path_in_the_place(bench: GroupBench, files: Path) -> None:
    def redirect(notice: Notice) -> None:
        notice.data.name = "/lfs1/b" if notice.data.name == NAME else "/lfs1/../b"

    bench.parts.hooks.register(Event.FS_FILE_ACCESS, redirect)
    await upload(bench, b"ab", len=4)
    await upload(bench, b"cd", 2)
    assert (files / "b").read_bytes() == b"abcd"
    assert await download(bench, name="/lfs1/c") == refused(2)


async def test_errors_of_the_disk_end_the_transfer(bench: GroupBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> bytes:
        raise MountError(MountFault.FAILED, "the disk is broken")

    await upload(bench, b"abc", len=9)
    with monkeypatch.context() as broken:
        broken.setattr(MountedFile, "sync", fail)
        assert await upload(bench, b"defghi", 3) == refused(17)
    assert bench.parts.clock.timers == []
    with monkeypatch.context() as broken:
        broken.setattr(MountedFile, "read", fail)
        assert await download(bench) == refused(7)
        assert await bench.ask(READ, 2, {"name": NAME}) == refused(7)
    with monkeypatch.context() as broken:
        broken.setattr(MountedFile, "truncate", fail)
        assert await upload(bench, b"abc") == refused(8)
        broken.setattr(MountedFile, "write", fail)
        assert await upload(bench, b"x", 9) == refused(10)
    assert (await download(bench))["data"] == b"abcdefghi"


def test_the_group_needs_its_folder(tmp_path: Path) -> None:
    assert FileSystemGroup.needs(parse({}, tmp_path)) == "fs.folder"
    config = parse({"fs": {"folder": "x"}}, tmp_path)
    assert FileSystemGroup.needs(config) == ""
    with pytest.raises(ConfigError, match=r"fs\.folder is missing"):
        mount(parse({}, tmp_path))
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"fs\.folder = .*: File exists"):
        mount(config)


@pytest.mark.parametrize(("op", "command"), [(WRITE, 1), (WRITE, 2), (WRITE, 3), (READ, 4), (READ, 5)])
async def test_what_is_not_there_is_not_supported(bench: GroupBench, op: int, command: int) -> None:
    assert await bench.ask(op, command, {"name": NAME}) == {"rc": 8}

"""Whatever path a client says, whatever is renamed or linked meanwhile, no file outside of the folder is touched."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smp_dfu_host.groups.fs_mgmt import FileSystemGroup
from smp_dfu_host.wire.body import encode
from tests.groups.bench import READ, WRITE, GroupBench

SECRET = b"nobody may see this"
EVIL = b"written from outside"


class Prison:
    """A file system group in a folder, and what surrounds it."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder / "outside"
        self.files = folder / "files"
        for path in (self.outside, self.files, self.files / "sub"):
            path.mkdir()
        for path in (folder / "secret", self.outside / "secret"):
            path.write_bytes(SECRET)
        (self.files / "sub" / "secret").write_bytes(b"harmless")
        self.folder = folder
        self.bench = GroupBench(
            FileSystemGroup, folder / "device", fs={"folder": str(self.files), "path_len": 1024, "files": 100}
        )
        self.before = self.picture()

    def picture(self) -> dict[str, tuple[int, int, bytes]]:
        """Return what is outside of the folder: names, inodes, links and contents."""
        found = {}
        for path in (*self.folder.glob("*"), *self.outside.rglob("*")):
            if path.is_file() and not path.is_symlink():
                stat = path.stat()
                found[str(path)] = (stat.st_ino, stat.st_nlink, path.read_bytes())
        return found

    async def attack(self, name: str) -> list[dict[str, Any]]:
        """Try everything that the group can do with that path; return the answers."""
        requests: list[tuple[int, int, dict[str, object]]] = [
            (READ, 0, {"off": 0}),
            (READ, 1, {}),
            (READ, 2, {"type": "sha256"}),
            (WRITE, 0, {"off": 0, "len": 40, "data": EVIL}),
            (WRITE, 0, {"off": len(EVIL), "data": EVIL}),
            (WRITE, 0, {"off": len(SECRET), "data": EVIL}),
            (WRITE, 4, {}),
        ]
        return [await self.bench.ask(op, command, encode({"name": name, **body})) for op, command, body in requests]

    def check(self, replies: list[dict[str, Any]]) -> None:
        """Check that nothing has leaked and nothing has changed."""
        assert all(reply.get("data") != SECRET and reply.get("len") != len(SECRET) for reply in replies), replies
        assert self.picture() == self.before


@pytest.fixture
def prison(tmp_path: Path) -> Prison:
    return Prison(tmp_path)


def paths(prison: Prison) -> list[str]:
    """Return paths that lead outside if one is not careful."""
    return [
        "/lfs1/../secret",
        "/lfs1/../outside/secret",
        "/lfs1/sub/../../secret",
        "/lfs1/./.././secret",
        "/lfs1//..//secret",
        "/lfs1/..",
        "/lfs1/sub/..",
        "/../secret",
        "/lfs1/../../../../../../../../etc/passwd",
        "/lfs1/..\0/secret",
        "/lfs1/../secret\0",
        "/lfs1/sub\0/../../secret",
        "../secret",
        "..",
        str(prison.folder / "secret"),
        f"/lfs1/{prison.folder / 'secret'}",
        f"/lfs1{prison.folder / 'secret'}",
        f"//lfs1/..{prison.folder / 'secret'}",
        "/etc/passwd",
        "/proc/self/root/etc/passwd",
        "/lfs1/%2e%2e/secret",
        "/lfs1/..\\secret",
        "/lfs1/\uff0e\uff0e/secret",
        "/lfs1/.\udcc0\udcae/secret",
        "/lfs1/\udcc0\udcae\udcc0\udcae/secret",
        "/LFS1/../secret",
        "~/secret",
        "/lfs1/~root",
        "/lfs1/$HOME",
        "/lfs1/" + "../" * 300 + "etc/passwd",
        "/lfs1/" + "a/" * 500,
        "/lfs1/" + "n" * 1000,
        "/lfs1/" + "/" * 1000,
        "/" * 1024,
        "\0" * 64,
    ]


@pytest.mark.parametrize("number", range(35))
async def test_no_path_leads_out(prison: Prison, number: int) -> None:
    prison.check(await prison.attack(paths(prison)[number]))


def test_every_path_is_tried(prison: Prison) -> None:
    assert len(paths(prison)) == 35


PIECES = ["..", ".", "", "sub", "secret", "out", "hard", "\0", "...", "..\0", "lfs1", "outside", "\udcff", "x" * 300]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=6), start=st.sampled_from(["/lfs1/", "/lfs1", "/", "", "//"]))
async def test_no_path_of_these_pieces_leads_out(prison: Prison, pieces: list[str], start: str) -> None:
    """Whatever the pieces, only files in the folder are read and written."""
    link = prison.files / "out"
    if not link.is_symlink():
        link.symlink_to(prison.outside)
    prison.check(await prison.attack(start + "/".join(pieces)))


LINKS = ["../secret", "../outside/secret", "/etc/passwd", "../files/../secret", "sub/secret", "loop"]


@pytest.mark.parametrize("target", LINKS)
async def test_links_are_not_followed(prison: Prison, target: str) -> None:
    (prison.files / "loop").symlink_to(target)
    replies = await prison.attack("/lfs1/loop")
    assert all("err" in reply for reply in replies[:-1])
    prison.check(replies)


@pytest.mark.parametrize("target", ["..", "../outside", "/", "/etc", "sub", "."])
async def test_links_to_folders_are_not_followed(prison: Prison, target: str) -> None:
    (prison.files / "loop").symlink_to(target)
    for name in ("/lfs1/loop/secret", "/lfs1/loop/passwd", "/lfs1/loop/new", "/lfs1/loop/loop/secret"):
        replies = await prison.attack(name)
        assert all("err" in reply for reply in replies[:-1])
        prison.check(replies)
    assert not (prison.outside / "new").exists()


async def test_a_link_to_nothing_is_not_filled(prison: Prison) -> None:
    (prison.files / "loop").symlink_to(prison.outside / "new")
    prison.check(await prison.attack("/lfs1/loop"))
    assert not (prison.outside / "new").exists()


async def test_hard_links_are_not_served(prison: Prison) -> None:
    os.link(prison.outside / "secret", prison.files / "hard")
    prison.before = prison.picture()
    replies = await prison.attack("/lfs1/hard")
    assert all("err" in reply for reply in replies[:-1])
    prison.check(replies)


async def test_pipes_and_devices_are_not_opened(prison: Prison) -> None:
    os.mkfifo(prison.files / "pipe")
    names = ["pipe"]
    with suppress(PermissionError):  # only root may
        os.mknod(prison.files / "null", 0o600 | 0o020000, os.makedev(1, 3))
        names.append("null")
    for name in names:
        replies = await prison.attack(f"/lfs1/{name}")
        assert all("err" in reply for reply in replies[:-1])
        prison.check(replies)


SWAP = """
import os, sys
first, second, place = sys.argv[1:]
print("begun", flush=True)
while True:
    for each in (first, second):
        os.rename(each, place)
        os.rename(place, each)
"""


@contextmanager
def swapping(first: Path, second: Path, place: Path) -> Iterator[None]:
    """Have another process put two things in one place by turns, as fast as it can."""
    with subprocess.Popen([sys.executable, "-c", SWAP, first, second, place], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


async def test_a_folder_that_is_swapped_for_a_link_leads_nowhere_else(prison: Prison) -> None:
    link = prison.files / "link"
    link.symlink_to(prison.outside)
    with swapping(link, prison.files / "sub", prison.files / "place"):
        for _ in range(150):
            replies = await prison.attack("/lfs1/place/secret")
            assert all(reply.get("data") != SECRET for reply in replies)
    assert prison.picture() == prison.before


async def test_a_file_that_is_swapped_for_a_link_leads_nowhere_else(prison: Prison) -> None:
    link, plain = prison.files / "link", prison.files / "plain"
    link.symlink_to(prison.outside / "secret")
    plain.write_bytes(b"harmless")
    with swapping(link, plain, prison.files / "place"):
        for _ in range(150):
            replies = await prison.attack("/lfs1/place")
            assert all(reply.get("data") != SECRET for reply in replies)
    assert prison.picture() == prison.before


async def test_an_open_file_that_is_swapped_for_a_link_stays_the_same(prison: Prison) -> None:
    await prison.bench.ask(WRITE, 0, {"name": "/lfs1/a", "off": 0, "len": 40, "data": EVIL})
    (prison.files / "a").rename(prison.files / "b")
    (prison.files / "a").symlink_to(prison.outside / "secret")
    await prison.bench.ask(WRITE, 0, {"name": "/lfs1/a", "off": len(EVIL), "data": EVIL})
    assert (prison.files / "b").read_bytes() == EVIL * 2
    assert prison.picture() == prison.before


async def test_case_decides(prison: Prison) -> None:
    (prison.files / "a").write_bytes(b"small")
    for name in ("/lfs1/A", "/Lfs1/a", "/LFS1/a"):
        assert "data" not in await prison.bench.ask(READ, 0, {"name": name, "off": 0})
    assert (await prison.bench.ask(READ, 0, {"name": "/lfs1/a", "off": 0}))["data"] == b"small"

"""Files that somebody asked for."""

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.output import write_output


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file become larger than that, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_new_file_is_as_any_other(tmp_path: Path) -> None:
    path, other = tmp_path / "a.bin", tmp_path / "other"
    other.touch()
    write_output(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == other.stat().st_mode


def test_old_file_stays_if_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with full_at(1000), pytest.raises(StoreError, match=r"a\.bin: File too large"):
        write_output(path, bytes(2000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_takes_the_place_of_a_private_one_is_never_public(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "dump.bin", list[int]()
    path.write_bytes(b"old")
    path.chmod(0o600)

    def look(descriptor: int) -> None:
        if stat.S_ISREG((status := os.fstat(descriptor)).st_mode):
            seen.append(stat.S_IMODE(status.st_mode))

    monkeypatch.setattr(os, "fsync", look)
    write_output(path, b"secret")
    assert (seen, stat.S_IMODE(path.stat().st_mode)) == ([0o600], 0o600)


def test_old_file_keeps_its_mode_and_the_links_to_it(tmp_path: Path) -> None:
    path, link = tmp_path / "a.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path.name)
    write_output(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_link_to_nothing_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a.bin")
    write_output(tmp_path / "link", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_pipes_and_files_without_a_name_are_written_in_place(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    write_output(Path(f"/dev/fd/{writer}"), b"through the pipe")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"through the pipe"
    with (tmp_path / "a.bin").open("w+b") as file:
        (tmp_path / "a.bin").unlink()
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"nameless")
        assert file.read() == b"nameless"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "words"), [("none/a.bin", "No such file"), (".", "directory"), ("loop", "symbolic")])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError, match=words):
        write_output(tmp_path / name, b"new")


def test_device_that_is_full_is_named() -> None:
    with pytest.raises(StoreError, match="/dev/full: No space left on device"):
        write_output(Path("/dev/full"), b"new")

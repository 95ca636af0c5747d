import errno
import json
import os
import resource
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.commit import commit, finish, pending


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name; the list of the last commit, which stays, is left out."""
    return {name: (folder / name).read_bytes() for name in os.listdir(folder) if name != "commit"}


def writer(data: bytes) -> Callable[[BinaryIO], object]:
    """Return what writes that to a file."""
    return lambda file: file.write(data)


def test_commit_replaces_all_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    for new in (b"A", b"AA"):
        commit(tmp_path, {"a": writer(new), "b": writer(b"B")})
        assert contents(tmp_path) == {"a": new, "b": b"B"}
        assert not pending(tmp_path)


def test_commit_syncs_the_folder_between_steps_that_must_not_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a power cut may show either order, one step is on the disk before the next is begun."""
    (tmp_path / "a").write_bytes(b"old")
    folders: list[set[str]] = []
    files: dict[str, bytes] = {}
    """By name: contents when synced, before the commit point."""

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path == tmp_path:
            folders.append(set(os.listdir(tmp_path)))
        else:
            assert not pending(tmp_path)
            files[path.name] = path.read_bytes()

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(secrets, "token_hex", lambda _: "5f3a")
    commit(tmp_path, {"a": writer(b"A"), "b": writer(b"B")})
    staged, committed = folders
    assert staged == {"a", "a.5f3a.staged", "b.5f3a.staged", "commit.5f3a.staged"}
    assert committed == {"a", "a.5f3a.staged", "b.5f3a.staged", "commit"}
    listed = json.dumps({"a.5f3a.staged": "a", "b.5f3a.staged": "b"}).encode()
    assert files == {"a.5f3a.staged": b"A", "b.5f3a.staged": b"B", "commit.5f3a.staged": listed}


def test_an_old_list_that_comes_back_after_a_power_cut_does_not_find_half_written_files(tmp_path: Path) -> None:
    commit(tmp_path, {"a": writer(b"A")})
    old = (tmp_path / "commit").read_bytes()

    def power_cut(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit(tmp_path, {"a": power_cut})
    (tmp_path / "commit").write_bytes(old)
    assert not pending(tmp_path)
    finish(tmp_path)
    assert contents(tmp_path) == {"a": b"A"}


def test_commit_of_a_file_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StoreError, match=r"missing/b\.[0-9a-f]{8}\.staged: No such file"):
        commit(tmp_path, {"a": writer(b"A"), "missing/b": writer(b"B")})
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("size", [4097, 1 << 20])
def test_commit_that_cannot_write_changes_nothing(tmp_path: Path, size: int) -> None:
    """A small file fails when its buffer is written out, a large one at once."""
    (tmp_path / "a").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"b\.[0-9a-f]{8}\.staged: File too large"):
            commit(tmp_path, {"a": writer(b"A"), "b": writer(bytes(size)), "c": writer(b"C")})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == {"a": b"old"}


def test_commit_whose_file_does_not_come_to_the_disk_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fsync(descriptor: int) -> None:
        if ".staged" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"/a\.[0-9a-f]{8}\.staged: Input/output error"):
        commit(tmp_path, {"a": writer(b"A"), "b": writer(b"B")})
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_commit_cut_behind_its_commit_point_is_finished(tmp_path: Path, renamed: int) -> None:
    """However many renames were done, finishing does the others, and can be done again."""
    for number, name in enumerate("ab"):
        (tmp_path / name).write_bytes(b"new" if number < renamed else b"old")
        if number >= renamed:
            (tmp_path / f"{name}.5f3a.staged").write_bytes(b"new")
    (tmp_path / "commit").write_text(json.dumps({"a.5f3a.staged": "a", "b.5f3a.staged": "b"}))
    assert pending(tmp_path) == (renamed < 2)
    finish(tmp_path)
    finish(tmp_path)
    assert contents(tmp_path) == {"a": b"new", "b": b"new"}


def test_commit_cut_before_its_commit_point_is_undone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a.5f3a.staged").write_bytes(b"new")
    (tmp_path / "commit.5f3a.staged").write_text(json.dumps({"a.5f3a.staged": "a"}))
    assert not pending(tmp_path)
    finish(tmp_path)
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("marker", ["{", "[]", '{"a.staged": 1}', '{"a.staged": "../a"}'])
def test_a_marker_that_makes_no_sense_is_refused_and_touches_nothing(tmp_path: Path, marker: str) -> None:
    (tmp_path / "a.staged").write_bytes(b"new")
    (tmp_path / "commit").write_text(marker)
    with pytest.raises(StoreError, match="commit"):
        finish(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.staged", "commit"]

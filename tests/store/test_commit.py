import json
import os
from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.commit import commit, finish, pending
from smp_dfu_host.store.files import write_synced


def test_commit_replaces_all_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    commit(tmp_path, {"a": lambda path: write_synced(path, b"A"), "b": lambda path: write_synced(path, b"B")})
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"A", "b": b"B"}


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
    commit(tmp_path, {"a": lambda path: write_synced(path, b"A"), "b": lambda path: write_synced(path, b"B")})
    before, staged, committed, renamed = folders
    assert before == {"a"}
    assert staged == {"a", "a.staged", "b.staged", "commit.staged"}
    assert committed == {"a", "a.staged", "b.staged", "commit"}
    assert renamed == {"a", "b", "commit"}
    assert files == {"a.staged": b"A", "b.staged": b"B", "commit.staged": b'["a", "b"]'}


def test_commit_of_a_file_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StoreError, match=r"missing/b.staged: No such file"):
        commit(
            tmp_path, {"a": lambda path: write_synced(path, b"A"), "missing/b": lambda path: write_synced(path, b"B")}
        )
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"old"}


def test_commit_that_cannot_write_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(path: Path) -> None:
        raise StoreError(f"{path}: no space")

    with pytest.raises(StoreError, match="no space"):
        commit(tmp_path, {"a": lambda path: write_synced(path, b"A"), "b": fail})
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"old"}


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_commit_cut_behind_its_commit_point_is_finished(tmp_path: Path, renamed: int) -> None:
    """However many renames were done, finishing does the others, and can be done again."""
    for number, name in enumerate("ab"):
        (tmp_path / name).write_bytes(b"new" if number < renamed else b"old")
        if number >= renamed:
            (tmp_path / f"{name}.staged").write_bytes(b"new")
    (tmp_path / "commit").write_text(json.dumps(["a", "b"]))
    assert pending(tmp_path)
    finish(tmp_path)
    finish(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"new", "b": b"new"}


def test_commit_cut_before_its_commit_point_is_undone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a.staged").write_bytes(b"new")
    (tmp_path / "commit.staged").write_text(json.dumps(["a"]))
    assert not pending(tmp_path)
    finish(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"old"}


@pytest.mark.parametrize("marker", ["{", "{}", "[1]", '["../a"]'])
def test_a_marker_that_makes_no_sense_is_refused_and_touches_nothing(tmp_path: Path, marker: str) -> None:
    (tmp_path / "a.staged").write_bytes(b"new")
    (tmp_path / "commit").write_text(marker)
    with pytest.raises(StoreError, match="commit"):
        finish(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.staged", "commit"]

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
            (tmp_path / f"{name}.new").write_bytes(b"new")
    (tmp_path / "commit").write_text(json.dumps(["a", "b"]))
    assert pending(tmp_path)
    finish(tmp_path)
    finish(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"new", "b": b"new"}


def test_commit_cut_before_its_commit_point_is_undone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a.new").write_bytes(b"new")
    (tmp_path / "commit.new").write_text(json.dumps(["a"]))
    assert not pending(tmp_path)
    finish(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {"a": b"old"}


@pytest.mark.parametrize("marker", ["{", "{}", "[1]", '["../a"]'])
def test_a_marker_that_makes_no_sense_is_refused_and_touches_nothing(tmp_path: Path, marker: str) -> None:
    (tmp_path / "a.new").write_bytes(b"new")
    (tmp_path / "commit").write_text(marker)
    with pytest.raises(StoreError, match="commit"):
        finish(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.new", "commit"]

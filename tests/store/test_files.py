import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.files import (
    Overlay,
    freed_later,
    locked,
    read_file,
    replace_durably,
    replace_file,
    write_synced,
)


def test_replace_durably_shows_old_or_new_contents(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_durably(path, b"old")
    kept = path.open("rb")
    replace_durably(path, b"new")
    with kept:
        assert (kept.read(), path.read_bytes()) == (b"old", b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_write_to_a_missing_folder_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/file: No such file"):
        write_synced(tmp_path / "missing" / "file", b"")


def test_read_file_tells_missing_from_unreadable(tmp_path: Path) -> None:
    assert read_file(tmp_path / "missing") is None
    with pytest.raises(StoreError, match="Is a directory"):
        read_file(tmp_path)


def test_a_held_lock_is_refused_after_the_timeout_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), pytest.raises(StoreError, match="another process"), locked(path, timeout_s=0.02):
        pass
    with locked(path, timeout_s=0):
        pass


def test_a_lock_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"), locked(tmp_path / "missing" / "lock"):
        pass


@given(
    st.binary(min_size=1, max_size=200),
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 199), st.binary(max_size=80)), max_size=8),
)
def test_overlay_is_the_file_with_the_writes_on_it(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, unit: int, writes: list[tuple[int, bytes]]
) -> None:
    """Whatever is written where, reads and the saved file are as if it had been written to the file itself."""
    path = tmp_path_factory.mktemp("overlay") / "file"
    path.write_bytes(start)
    expected = bytearray(start)
    overlay = Overlay(path, unit)
    for where, data in writes:
        offset = where % len(start)
        part = data[: len(start) - offset]
        overlay.write(offset, part)
        expected[offset : offset + len(part)] = part
    assert overlay.read(0, overlay.size) == expected
    assert all(overlay.read(i, 1) == expected[i : i + 1] for i in range(len(start)))
    assert overlay.changed == (expected != start)
    with path.with_name("saved").open("wb") as file:
        overlay.save(file)
    overlay.close()
    overlay.close()
    assert (path.read_bytes(), path.with_name("saved").read_bytes()) == (start, bytes(expected))


def test_overlay_hands_a_whole_sector_on_without_a_copy(tmp_path: Path) -> None:
    """A swap moves all sectors of both slots; a sector that was changed in part is copied, for it may change again."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(64)))
    one, other = Overlay(path, 16), Overlay(path, 16)
    moved = one.read(16, 16)
    other.write(32, moved)
    assert other.read(32, 16) is moved
    other.write(40, b"")
    assert other.read(32, 16) is moved
    other.write(40, b"x")
    seen = other.read(32, 16)
    other.write(40, b"y")
    assert (moved, seen[8:9], other.read(40, 1)) == (bytes(range(16, 32)), b"x", b"y")
    assert one.read(16, 16) == moved
    one.close()
    other.close()


def test_files_are_freed_only_after_all_is_done(tmp_path: Path) -> None:
    replaced, removed, new = (tmp_path / name for name in ("replaced", "removed", "new"))
    for path in (replaced, removed, new):
        path.write_bytes(b"")
    before = open_files()
    with freed_later([replaced, removed, tmp_path / "missing"]):
        removed.unlink()
        new.replace(replaced)
        assert {path.name.removesuffix(" (deleted)") for path in open_files() - before} == {"replaced", "removed"}
    for thread in threading.enumerate():
        if thread.name == "free":
            thread.join()
    assert open_files() == before


def open_files() -> set[Path]:
    """Return what this process has open, but for the folder that is listed to find out."""
    links = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.add(Path(os.readlink(f"/proc/self/fd/{name}")))
    return links


def test_overlay_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Overlay(tmp_path / "missing", 16)


def test_overlay_of_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(64))
    overlay = Overlay(path, 16)
    os.truncate(path, 10)
    with pytest.raises(StoreError, match="cut short"):
        overlay.read(0, 64)
    with pytest.raises(StoreError, match="cut short"), (tmp_path / "saved").open("wb") as file:
        overlay.save(file)
    overlay.close()


def test_replace_file_names_the_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/a: No such file"):
        replace_file(tmp_path / "missing" / "a", b"new")

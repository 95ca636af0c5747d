import errno
import os
from pathlib import Path

import pytest

from smp_dfu_host.store.mount import Mount, MountedFile, MountError, MountFault


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"abc")
    return Mount(tmp_path, "/lfs1", size=100, files=3)


def fault(mount: Mount, name: str) -> MountFault:
    """Return why a file cannot be looked up, which must be why it cannot be opened too."""
    with pytest.raises(MountError) as found:
        mount.file_size(name)
    with pytest.raises(MountError) as opened:
        mount.open(name)
    assert opened.value.fault is found.value.fault
    return found.value.fault


@pytest.mark.parametrize("name", ["/lfs1/sub/a", "/lfs1//sub/./a", "/lfs1/./sub//a"])
def test_a_file_is_found_by_its_path(mount: Mount, name: str) -> None:
    assert mount.file_size(name) == 3
    file = mount.open(name)
    assert (file.size, file.read(1, 10), file.read(3, 10), file.read(2**63, 1)) == (3, b"bc", b"", b"")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", MountFault.NAME),
        ("", MountFault.NAME),
        ("lfs1/sub/a", MountFault.NAME),
        ("/lfs1/sub/../sub/a", MountFault.NAME),
        ("/lfs1/sub/a\0", MountFault.NAME),
        ("/", MountFault.DIRECTORY),
        ("//", MountFault.DIRECTORY),
        ("/lfs1", MountFault.DIRECTORY),
        ("/lfs1/", MountFault.DIRECTORY),
        ("/lfs1/.", MountFault.DIRECTORY),
        ("/lfs1/sub", MountFault.DIRECTORY),
        ("/lfs1/sub/", MountFault.DIRECTORY),
        ("/lfs2/sub/a", MountFault.ABSENT),
        ("/lfs12/sub/a", MountFault.ABSENT),
        ("/LFS1/sub/a", MountFault.ABSENT),
        ("//lfs1/sub/a", MountFault.ABSENT),
        ("/lfs1/sub/A", MountFault.ABSENT),
        ("/lfs1/nothing", MountFault.ABSENT),
        ("/lfs1/nothing/a", MountFault.ABSENT),
        ("/lfs1/sub/a/b", MountFault.ABSENT),
        ("/lfs1/" + "n" * 256, MountFault.FAILED),
    ],
)
def test_what_is_no_file_is_told(mount: Mount, name: str, expected: MountFault) -> None:
    assert fault(mount, name) is expected


def test_a_file_is_changed_in_place(mount: Mount, tmp_path: Path) -> None:
    file = mount.edit("/lfs1/sub/a")
    file.write(3, b"def")
    file.write(0, b"A")
    file.sync()
    assert (tmp_path / "sub" / "a").read_bytes() == b"Abcdef"
    file.truncate(2)
    file.close()
    file.close()
    assert (tmp_path / "sub" / "a").read_bytes() == b"Ab"


def test_a_new_file_is_made_if_there_may_be_another(mount: Mount, tmp_path: Path) -> None:
    mount.edit("/lfs1/b").close()
    mount.edit("/lfs1/sub/c").close()
    with pytest.raises(MountError, match="there are 3 files already") as refused:
        mount.edit("/lfs1/d")
    assert refused.value.fault is MountFault.FULL
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "c", "sub"]
    mount.edit("/lfs1/b").close()


def test_room_is_what_the_other_files_leave(mount: Mount, tmp_path: Path) -> None:
    file = mount.edit("/lfs1/sub/a")
    assert mount.room(file) == 100
    (tmp_path / "b").write_bytes(bytes(40))
    assert mount.room(file) == 60
    (tmp_path / "b").write_bytes(bytes(400))
    assert mount.room(file) == 0


def test_links_do_not_count_for_what_they_lead_to(mount: Mount, tmp_path: Path) -> None:
    big = tmp_path.parent / f"{tmp_path.name}-big"
    big.write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to(big)
    file = mount.edit("/lfs1/sub/a")
    assert 0 < mount.room(file) < 100


def test_a_read_only_mount_is_not_written(tmp_path: Path) -> None:
    mount = Mount(tmp_path, "/lfs1", 100, 3, read_only=True)
    with pytest.raises(MountError) as refused:
        mount.edit("/lfs1/a")
    assert refused.value.fault is MountFault.READ_ONLY


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "gone", "/lfs1", 100, 3)
    assert fault(mount, "/lfs1/a") is MountFault.ABSENT


def test_what_is_no_plain_file_with_one_name_is_not_there(mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "a")
    (tmp_path / "folder").symlink_to(tmp_path / "sub")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "folder/a", "pipe"):
        assert fault(mount, f"/lfs1/{name}") is MountFault.ABSENT
        with pytest.raises(MountError):
            mount.edit(f"/lfs1/{name}")
    os.link(tmp_path / "sub" / "a", tmp_path / "hard")
    for name in ("hard", "sub/a"):
        assert fault(mount, f"/lfs1/{name}") is MountFault.ABSENT


def test_errors_of_the_host_are_ours(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    file = MountedFile(os.open(tmp_path / "a", os.O_RDONLY), "/lfs1/a")
    with pytest.raises(MountError, match=f"'/lfs1/a': {os.strerror(errno.EBADF)}") as failed:
        file.write(0, b"x")
    assert failed.value.fault is MountFault.FAILED
    with pytest.raises(MountError):
        file.truncate(0)


def test_a_file_that_becomes_a_link_while_it_is_opened_is_closed_again(
    mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.stat(tmp_path / "sub" / "a")
    os.link(tmp_path / "sub" / "a", tmp_path / "hard")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as racing:
        racing.setattr(os, "stat", lambda *_arguments, **_options: plain)  # what it was a moment ago
        with pytest.raises(MountError) as found:
            mount.open("/lfs1/sub/a")
    assert found.value.fault is MountFault.ABSENT
    assert len(os.listdir("/proc/self/fd")) == before


def test_reasons_can_be_logged_whatever_the_path(mount: Mount) -> None:
    for name in ("/lfs1/\x1b[2J", "/lfs1/\n", "/lfs1/\udcff", "/lfs1/sub/\udcff/a"):
        for use in (mount.file_size, mount.open):
            with pytest.raises(MountError) as refused:
                use(name)
            assert str(refused.value).isprintable()

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smp_dfu_host.dispatch.lock import DfuLock, LockError, LockHeld, LockOwner
from smp_dfu_host.dispatch.stats import Statistics

OTHER_PROCESS = """
import sys
from pathlib import Path
from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
lock, owner = DfuLock(Path(sys.argv[1])), LockOwner(sys.argv[2])
lock.claim(owner)
print(lock.counter, flush=True)
if sys.stdin.readline().strip() == "release":
    lock.release(owner)
    print("released", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process(path: Path, name: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has claimed the lock; a line on its stdin ends it."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(path), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        yield process
        process.kill()


def say(process: "subprocess.Popen[str]", word: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


class Owner:
    """An owner who writes down who took the lock after him."""

    def __init__(self, name: str) -> None:
        self.lost_to: list[str] = []
        self.owner = LockOwner(name, lambda new: self.lost_to.append(new.name))


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "store" / "dfu.lock" if request.param == "file" else None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dfu.lock"


def test_claim_of_a_free_lock_succeeds(path: Path | None) -> None:
    lock, a = DfuLock(path), Owner("a")
    lock.claim(a.owner)
    assert (lock.owner, lock.counter) == (a.owner, 1)


def test_claim_by_the_holder_changes_nothing(path: Path | None) -> None:
    lock, a = DfuLock(path), Owner("a")
    lock.claim(a.owner)
    lock.claim(LockOwner("a"))
    assert (lock.owner, lock.counter, a.lost_to) == (a.owner, 1, [])


def test_claim_of_a_held_lock_is_refused(path: Path | None) -> None:
    lock, a, b = DfuLock(path), Owner("a"), Owner("b")
    lock.claim(a.owner)
    with pytest.raises(LockHeld, match="held by a") as caught:
        lock.claim(b.owner)
    assert caught.value.holder == "a"
    assert (lock.owner, lock.counter, a.lost_to) == (a.owner, 1, [])


def test_only_the_holder_releases(path: Path | None) -> None:
    lock, a, b = DfuLock(path), Owner("a"), Owner("b")
    with pytest.raises(LockError, match="a does not hold the DFU lock"):
        lock.release(a.owner)
    lock.claim(a.owner)
    with pytest.raises(LockError, match="b does not hold the DFU lock"):
        lock.release(b.owner)
    lock.release(a.owner)
    assert lock.owner is None


def test_last_owner_comes_back_to_what_he_left(path: Path | None) -> None:
    lock, a = DfuLock(path), Owner("a")
    for _ in range(3):
        lock.claim(a.owner)
        lock.release(a.owner)
    assert (lock.counter, a.lost_to) == (1, [])


def test_different_owner_is_counted_and_the_previous_one_told_inside_the_claim(path: Path | None) -> None:
    lock, a, b = DfuLock(path), Owner("a"), Owner("b")
    lock.claim(a.owner)
    lock.release(a.owner)
    lock.claim(b.owner)
    assert (lock.counter, a.lost_to, b.lost_to) == (2, ["b"], [])
    lock.release(b.owner)
    lock.claim(a.owner)
    assert (lock.counter, a.lost_to, b.lost_to) == (3, ["b"], ["a"])


def test_claim_fails_whole_if_the_previous_owner_cannot_be_told(path: Path | None) -> None:
    lock, b = DfuLock(path), Owner("b")
    a = LockOwner("a", lambda _: print(1 // 0))
    lock.claim(a)
    lock.release(a)
    with pytest.raises(ZeroDivisionError):
        lock.claim(b.owner)
    assert lock.owner is None
    lock.claim(b.owner)


def test_disabled_lock_is_everybody_s(file: Path) -> None:
    lock, a, b = DfuLock(file, enabled=False), Owner("a"), Owner("b")
    lock.claim(a.owner)
    lock.claim(b.owner)
    lock.release(a.owner)
    lock.release(b.owner)
    lock.release(b.owner)
    assert (lock.owner, lock.counter, a.lost_to, file.exists()) == (None, 0, [], False)


def test_lock_file_says_who_and_how_often_and_keeps_its_size(file: Path) -> None:
    lock = DfuLock(file)
    for name in ("ble:AA:BB:CC:DD:EE:FF", "udp:127.0.0.1"):
        lock.claim(LockOwner(name))
        lock.release(LockOwner(name))
        assert file.stat().st_size == 512
    assert json.loads(file.read_bytes()) == {"owner": "udp:127.0.0.1", "counter": 2}


@pytest.mark.parametrize("name", ["x" * 5000, "\udcff\udc80", "\x00" * 400, "ä" * 300])
def test_any_name_is_known_again(file: Path, name: str) -> None:
    for _ in range(2):
        lock = DfuLock(file)
        lock.claim(LockOwner(name))
        lock.release(LockOwner(name))
    assert (lock.counter, file.stat().st_size) == (1, 512)


def test_counter_survives_a_restart(file: Path) -> None:
    a, b = LockOwner("a"), LockOwner("b")
    before = DfuLock(file)
    for owner in (a, b):
        before.claim(owner)
        before.release(owner)
    after = DfuLock(file)
    assert after.counter == 2
    after.claim(b)
    assert after.counter == 2
    after.release(b)
    after.claim(a)
    assert after.counter == 3


def test_two_locks_on_one_file_exclude_each_other(file: Path) -> None:
    here, there, a, b = DfuLock(file), DfuLock(file), Owner("a"), Owner("b")
    here.claim(a.owner)
    with pytest.raises(LockHeld, match="held by a"):
        there.claim(b.owner)
    with pytest.raises(LockHeld):
        there.claim(LockOwner("a"))
    here.release(a.owner)
    there.claim(b.owner)
    assert (there.counter, a.lost_to) == (2, [])


def test_owner_learns_at_his_next_claim_that_another_process_was_there(file: Path) -> None:
    here, there, a, b = DfuLock(file), DfuLock(file), Owner("a"), Owner("b")
    here.claim(a.owner)
    here.release(a.owner)
    there.claim(b.owner)
    there.release(b.owner)
    here.claim(a.owner)
    assert (here.counter, a.lost_to) == (3, ["b"])


def test_other_process_holds_the_lock_until_it_releases(file: Path) -> None:
    lock, a = DfuLock(file), Owner("a")
    with other_process(file, "local:1") as process:
        with pytest.raises(LockHeld, match="held by local:1"):
            lock.claim(a.owner)
        assert say(process, "release") == "released"
        lock.claim(a.owner)
    assert lock.counter == 2


def test_kernel_frees_the_lock_when_its_holder_is_killed(file: Path) -> None:
    lock, a = DfuLock(file), Owner("a")
    lock.claim(a.owner)
    lock.release(a.owner)
    with other_process(file, "local:1") as process:
        process.kill()
        process.wait(10)
        lock.claim(a.owner)
    assert (lock.counter, a.lost_to) == (3, ["local:1"])


def test_child_processes_do_not_keep_the_lock(file: Path) -> None:
    lock, a = DfuLock(file), Owner("a")
    lock.claim(a.owner)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release(a.owner)
        DfuLock(file).claim(Owner("b").owner)
        child.kill()


DAMAGED = {
    "garbage": b"\xff\x00garbage",
    "torn": b'{"owner": "b", "coun' + b"{" * 100,
    "zeros": b"\0" * 512,
    "other JSON": b"[1, 2]",
    "null": b"null",
    "owner of another type": b'{"owner": 5, "counter": 3}',
    "counter of another type": b'{"owner": "a", "counter": "x"}',
    "counter below 0": b'{"owner": "a", "counter": -1}',
    "counter that is true": b'{"owner": "a", "counter": true}',
    "nesting": b"[" * 510,
    "huge number": b'{"owner": "a", "counter": ' + b"9" * 400,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_record_is_a_change_of_owner(file: Path, name: str) -> None:
    lock, a = DfuLock(file), Owner("a")
    for _ in range(3):
        lock.claim(a.owner)
        lock.release(a.owner)
    file.write_bytes(DAMAGED[name])
    lock.claim(a.owner)
    assert lock.counter > 1
    assert a.lost_to == ["another process"]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_record_gives_a_new_process_a_new_counter(file: Path, name: str) -> None:
    file.write_bytes(DAMAGED[name])
    lock = DfuLock(file)
    lock.claim(LockOwner("a"))
    assert lock.counter > 1_000_000_000 or name == "owner of another type"
    assert json.loads(file.read_bytes())["owner"] == "a"


def test_torn_record_goes_on_from_its_digits(file: Path) -> None:
    file.write_bytes(b'{"owner": "b"", "counter": 41}')
    lock = DfuLock(file)
    lock.claim(LockOwner("a"))
    assert lock.counter == 42


def test_empty_file_is_a_new_one(file: Path) -> None:
    file.touch()
    lock = DfuLock(file)
    lock.claim(LockOwner("a"))
    assert lock.counter == 1


@given(st.binary(max_size=600))
def test_no_content_makes_the_lock_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever the file holds, the lock can be claimed and counts up."""
    file = tmp_path_factory.mktemp("lock") / "dfu.lock"
    file.write_bytes(content)
    lock, a, b = DfuLock(file), LockOwner("a\udc80"), LockOwner("b")
    lock.claim(a)
    counter = lock.counter
    lock.release(a)
    lock.claim(b)
    assert lock.counter == counter + 1


def test_removed_file_does_not_turn_the_counter_back(file: Path) -> None:
    lock, a, b = DfuLock(file), LockOwner("a"), LockOwner("b")
    for owner in (a, b, a):
        lock.claim(owner)
        lock.release(owner)
    file.unlink()
    lock.claim(a)
    assert lock.counter == 4


@pytest.mark.parametrize("replaced", [False, True])
def test_file_that_is_replaced_while_it_is_opened_is_not_the_lock(
    file: Path, replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, opened, really = DfuLock(file), list[int](), os.open

    def replace_once(*args: object, **kwargs: object) -> int:
        descriptor = really(*args, **kwargs)  # type: ignore[arg-type]
        opened.append(descriptor)
        if len(opened) == 1:
            file.unlink()
            if replaced:
                os.close(really(file, os.O_CREAT))
        return descriptor

    monkeypatch.setattr(os, "open", replace_once)
    lock.claim(LockOwner("a"))
    assert len(opened) == 2
    with pytest.raises(LockHeld):
        DfuLock(file).claim(LockOwner("b"))


def test_file_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=f"{tmp_path}: Is a directory"):
        DfuLock(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match="Not a directory"):
        DfuLock(tmp_path / "file" / "dfu.lock")


def test_file_that_cannot_be_opened_refuses_the_claim(tmp_path: Path) -> None:
    lock = DfuLock(tmp_path / "folder" / "dfu.lock")
    (tmp_path / "folder").touch()
    with pytest.raises(LockError, match=r"dfu\.lock: File exists"):
        lock.claim(LockOwner("a"))
    assert lock.owner is None


def test_file_that_cannot_be_written_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = DfuLock(file)

    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_space)
        with pytest.raises(LockError, match=r"dfu\.lock: No space left on device"):
            lock.claim(LockOwner("a"))
    assert lock.owner is None
    DfuLock(file).claim(LockOwner("b"))


class LockMachine(RuleBasedStateMachine):
    """Three processes with three owners each, on one file."""

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "dfu.lock"
        self.locks = [DfuLock(self.file) for _ in range(3)]
        self.holder: tuple[int, str] | None = None
        self.last: str | None = None
        self.counter = 0

    @rule(process=st.integers(0, 2), name=st.sampled_from("abc"))
    def claim(self, process: int, name: str) -> None:
        free = self.holder is None or self.holder == (process, name)
        try:
            self.locks[process].claim(LockOwner(name))
        except LockHeld:
            assert not free
            return
        assert free
        if self.last != name:
            self.counter += 1
        self.holder, self.last = (process, name), name
        assert self.locks[process].counter == self.counter

    @rule(process=st.integers(0, 2), name=st.sampled_from("abc"))
    def release(self, process: int, name: str) -> None:
        held = self.holder == (process, name)
        try:
            self.locks[process].release(LockOwner(name))
        except LockError:
            assert not held
            return
        assert held
        self.holder = None

    @rule(process=st.integers(0, 2))
    def restart(self, process: int) -> None:
        lock = self.locks[process]
        if lock.owner is not None:
            self.holder = None
            lock.release(lock.owner)
        self.locks[process] = DfuLock(self.file)

    @invariant()
    def one_holder_at_most(self) -> None:
        """However claims and releases come, at most one owner of one process holds the lock."""
        held = [(process, lock.owner.name) for process, lock in enumerate(self.locks) if lock.owner is not None]
        assert held == ([] if self.holder is None else [self.holder])

    def teardown(self) -> None:
        for lock in self.locks:
            if lock.owner is not None:
                lock.release(lock.owner)
        self.folder.cleanup()


TestLockMachine = LockMachine.TestCase


def test_what_becomes_of_the_lock_is_counted() -> None:
    stats = Statistics()
    lock, first, second = DfuLock(stats=stats), LockOwner("first"), LockOwner("second")
    lock.claim(first)
    lock.claim(first)
    with pytest.raises(LockHeld):
        lock.claim(second)
    lock.release(first)
    for owner in (first, second):
        lock.claim(owner)
        lock.release(owner)
    assert stats.groups["lock"] == {"claims": 3, "owners": 2, "refused": 1, "released": 3}

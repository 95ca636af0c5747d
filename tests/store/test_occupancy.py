"""One server a store."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.occupancy import NAME, occupied, unoccupied

HOLD = """
import sys, time
from pathlib import Path
from smp_dfu_host.store.occupancy import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_server_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    with (
        occupied(tmp_path),
        pytest.raises(StoreError, match=rf"already \(process {os.getpid()}\)"),
        occupied(tmp_path),
    ):
        pass


def test_store_is_free_again_after_the_server(tmp_path: Path) -> None:
    with occupied(tmp_path):
        pass
    with occupied(tmp_path):
        assert (tmp_path / NAME).read_text() == f"{os.getpid()}\n"


def test_folder_is_made(tmp_path: Path) -> None:
    with occupied(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / NAME).exists()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"), occupied(tmp_path / "file" / "store"):
        pass


def test_unoccupied_passes_without_a_server(tmp_path: Path) -> None:
    with unoccupied(tmp_path):
        pass
    with occupied(tmp_path):
        pass
    with unoccupied(tmp_path):
        pass


def test_unoccupied_is_refused_while_a_server_runs(tmp_path: Path) -> None:
    with occupied(tmp_path), pytest.raises(StoreError, match="reset it by a client"), unoccupied(tmp_path):
        pass


def test_lock_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(NAME)
    with pytest.raises(StoreError, match=NAME), unoccupied(tmp_path):
        pass


def test_damaged_process_number_is_left_out(tmp_path: Path) -> None:
    with occupied(tmp_path):
        (tmp_path / NAME).write_bytes(b"\xff")
        with pytest.raises(StoreError, match=r"already$"), occupied(tmp_path):
            pass


def test_killed_server_frees_the_store_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"process {server.pid}"), occupied(tmp_path):
            pass
        server.send_signal(signal.SIGKILL)
    with occupied(tmp_path):
        pass

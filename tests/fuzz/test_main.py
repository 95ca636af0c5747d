"""The fuzzer itself: it counts, and it finds what is there to be found."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.__main__ import Outcome, fuzz, main
from tests.fuzz.targets import TARGETS

needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install .[fuzz]")

PLANTED = """
import sys
from contextlib import nullcontext
from pathlib import Path
from dataclasses import replace
from tests.fuzz import engine, targets

def check(data):
    if data[:1] == b"x":
        {fault}

target = targets.Target("planted", lambda folder: nullcontext(check), lambda: [b"a", b"b"], 2)
targets.TARGETS["wire"] = target
engine.main("wire", Path(sys.argv[1]), "-runs=20000", "-timeout=60")
"""


def test_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TARGETS)


def test_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["nonsense", "1"])
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


def test_outcome_is_told_in_a_line() -> None:
    told = str(Outcome("wire", 7, 1.6, 3, 50, 0))
    assert told == "fuzz wire: 7 executions in 2 s, 3 features, 50 MiB at most, no finding"
    assert "A FINDING (status 77), see above and .fuzz/wire" in str(Outcome("wire", 7, 1.6, 3, 50, 77))


@needs_atheris
@pytest.mark.slow
def test_executions_are_counted(tmp_path: Path) -> None:
    outcome = fuzz("bodies", 3, tmp_path)
    assert outcome.status == 0
    assert outcome.executions > 100
    assert outcome.seconds > 1
    assert outcome.features > 10
    assert outcome.peak_mb > 10
    assert list((tmp_path / "bodies" / "corpus").iterdir())


@needs_atheris
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise ZeroDivisionError", "raise RecursionError", "sum(range(150_000_000))"])
def test_planted_faults_are_found(tmp_path: Path, fault: str) -> None:
    code = PLANTED.format(fault=fault)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    (found,) = tmp_path.glob("crash-*")
    assert found.read_bytes()[:1] == b"x", json.dumps(done.stderr)

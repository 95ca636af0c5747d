import asyncio
import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from smp_dfu_host.dispatch.program import run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_output_and_exit_status_are_told() -> None:
    done = await run(
        python("import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); exit(3)"), 20, 99
    )
    assert (done.output, done.ret) == (b"out\nerr\n", 3)


async def test_a_signal_is_told() -> None:
    assert (await run(python("import os; os.kill(os.getpid(), 9)"), 20, 99)).ret == -signal.SIGKILL


async def test_nothing_is_given_to_read_and_little_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "42")
    code = "import os, sys; print(sys.stdin.read(), sorted(os.environ.keys() - {'LC_CTYPE'}), os.getcwd())"
    assert (await run(python(code), 20, 99)).output == b" ['LANG', 'PATH'] /\n"


async def test_no_open_file_of_ours_is_passed_on(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w"):
        done = await run(python("import os; print(len(os.listdir('/proc/self/fd')))"), 20, 99)
    assert done.output == b"4\n"


async def test_output_beyond_the_limit_is_dropped_and_does_not_block() -> None:
    done = await run(python("print('x' * 10_000_000)"), 20, 7)
    assert (done.output, done.ret) == (b"x" * 7, 0)


async def test_a_program_without_an_end_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, time, pathlib\n"
        "child = os.fork()\n"
        f"if child: pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{child}}')\n"
        "print('begun', flush=True)\n"
        "time.sleep(1000)"
    )
    done = await run(python(code), 2, 99)
    assert (done.output.split()[0], done.ret) == (b"begun", -errno.ETIMEDOUT)
    async with asyncio.timeout(10):
        for pid in map(int, pids.read_text().split()):
            while alive(pid):  # noqa: ASYNC110  (a process of which we are not told)
                await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_one_that_leaves_its_output_open_is_waited_for_no_longer() -> None:
    code = "import os, time\nif os.fork(): os._exit(5)\ntime.sleep(1000)"
    assert (await run(python(code), 1, 99)).ret == -errno.ETIMEDOUT


async def test_a_cancelled_run_leaves_nothing_behind(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    os.mkfifo(pid)
    task = asyncio.create_task(
        run(python(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(99)"), 99, 9)
    )
    number = int(await asyncio.to_thread(pid.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(number)


@pytest.mark.parametrize(
    ("program", "error"), [("/no/such/program", errno.ENOENT), ("/etc/passwd", errno.EACCES), ("/", errno.EACCES)]
)
async def test_what_cannot_be_run_is_told(program: str, error: int) -> None:
    done = await run([program], 20, 99)
    assert (done.output, done.ret) == (b"", -error)


async def test_what_is_told_can_be_read_or_left() -> None:
    told = b"\0\xff" + b"x" * 1_000_000
    code = "import os, sys; data = sys.stdin.buffer.read(); print(len(data), data[:3], os.environ['MORE'])"
    done = await run(python(code), 20, 99, told=told, environment={"MORE": "a b;$(c)"})
    assert done.output == b"1000002 b'\\x00\\xffx' a b;$(c)\n"
    assert (await run(python("pass"), 20, 99, told=told)).ret == 0


async def test_the_path_cannot_be_replaced() -> None:
    code = "import os; print(os.environ['PATH'])"
    done = await run(python(code), 20, 99, environment={"PATH": "/evil"})
    assert done.output.decode() == f"{os.defpath}\n"

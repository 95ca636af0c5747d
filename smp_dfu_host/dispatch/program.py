"""Running one program: no shell, no open file of ours, little environment, and an end to time and output."""

import asyncio
import errno
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}
"""All that programs are told; what the server was started with may be secret."""
NO_MORE: Mapping[str, str] = {}
_READ_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program did."""

    output: bytes
    """The beginning of what it wrote, errors included."""
    ret: int
    """Its exit status, minus the signal that ended it, or minus an errno: it could not be run, or took too long."""


async def run(
    command: Sequence[str],
    timeout_s: float,
    limit: int,
    *,
    told: bytes = b"",
    environment: Mapping[str, str] = NO_MORE,
) -> Finished:
    """Run a program to its end, or kill it and all that it has started when its time is over.

    Args:
        command: The program and its arguments, none with a NUL in it.
        timeout_s: How long it may take, in seconds.
        limit: Bytes of output that are kept; what follows is read and dropped.
        told: What it can read from stdin.
        environment: Variables besides `ENVIRONMENT`; no NUL in them.
    """
    kept = bytearray()
    try:
        async with _started(command, told, environment) as (process, output):
            try:
                async with asyncio.timeout(timeout_s):
                    while data := await output.read(_READ_SIZE):
                        kept += data[: limit - len(kept)]
                    ret = await process.wait()
            except TimeoutError:
                ret = -errno.ETIMEDOUT
    except OSError as exc:
        ret = -(exc.errno or errno.EIO)
    return Finished(bytes(kept), ret)


@asynccontextmanager
async def _started(
    command: Sequence[str], told: bytes, environment: Mapping[str, str]
) -> AsyncIterator[tuple[Process, asyncio.StreamReader]]:
    """Start a program in a session of its own; leave none of it behind."""
    variables = {**environment, **ENVIRONMENT}
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
    )
    try:
        try:
            with _file(told) as stdin:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=stdin,
                    stdout=theirs,
                    stderr=theirs,
                    env={key: value.encode(errors="surrogateescape") for key, value in variables.items()},
                    cwd="/",
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        try:
            yield process, reader
        finally:
            if not reader.at_eof() or process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    finally:
        pipe.close()


@contextmanager
def _file(content: bytes) -> Iterator[int]:
    """Return a file in memory with that content; a program that does not read it blocks nobody, as a pipe would."""
    number = os.memfd_create("stdin")
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(number, 0, os.SEEK_SET)
        yield number
    finally:
        os.close(number)

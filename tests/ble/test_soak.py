"""What must not wear out over the real BlueZ: uploads that are cut at any moment, and connections that come and go.

Run by `scripts/ble-vm --timeout 7200 -- .venv/bin/python -u -m pytest -s -m soak tests/ble/test_soak.py`; SOAK_ROUNDS
says how many rounds, 100 unless set.
"""

import asyncio
import gc
import os
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from smp_dfu_host.transport.ble import BleTransport
from tests.ble.conftest import CENTRAL, HELLO, SERVER, EchoInbox, eventually, forget_devices
from tests.ble.raw_central import RawCentral, hang_up
from tests.ble.test_faults import advertising
from tests.ble.uploads import LostError, Running, image, pair, phone, target, upload
from tests.leaks import held, released, resident

pytestmark = [pytest.mark.ble, pytest.mark.soak]

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "100"))
IMAGE_SIZE = 12_000
UPLOAD_S = 4.0
"""About the time of an upload on the emulated processor; the link is cut within it, or within the time of setting up
the connection before it."""
WARM_ROUNDS = 30
"""After so many, everything is in memory that ever will be; a table of the interpreter's that doubles takes 2 MiB."""
LOOK_ROUNDS = 10
"""How often memory is looked at."""
GROWTH = 1 << 20
"""Bytes by which memory may grow over the rest; an object of 10 KiB a round would be as much."""


async def cut(after_s: float, by: int) -> None:
    """Have a controller end the connection, whatever is under way."""
    await asyncio.sleep(after_s)
    hang_up(by)


async def one_upload(running: Running) -> tuple[bool, int]:
    """Upload an image, with one cut at a random moment; tell whether it was resumed, and how many bytes differ."""
    new = image(IMAGE_SIZE)
    knife = asyncio.create_task(cut(random.uniform(0, UPLOAD_S), random.choice((SERVER, CENTRAL))))
    try:
        if resumed := not await sent(new):
            assert knife.done(), "the connection has ended before it was cut"
            async with phone() as (client, _):
                await upload(client, new)
    finally:
        knife.cancel()
        with suppress(asyncio.CancelledError):
            await knife
    there = running.waiting[: len(new)]
    return resumed, sum(a != b for a, b in zip(there, new, strict=True))


async def sent(new: bytes) -> bool:
    """Upload over one connection; False if that has ended."""
    with suppress(LostError, OSError, TimeoutError):
        async with phone() as (client, _):
            await upload(client, new)
            return True
    return False


async def test_uploads_that_are_cut_at_a_random_moment_are_resumed_and_finished(tmp_path: Path) -> None:
    await forget_devices()
    resumed = wrong = 0
    began = time.monotonic()
    async with target(tmp_path) as running:
        await pair()
        for number in range(ROUNDS):
            again, differ = await one_upload(running)
            resumed, wrong = resumed + again, wrong + differ
            print(f"upload {number + 1}: {again:d} resumed, {differ} bytes wrong", flush=True)
    each_s = (time.monotonic() - began) / ROUNDS
    print(f"{ROUNDS} uploads of {each_s:.1f} s finished, {resumed} cuts resumed, {wrong} bytes wrong")
    assert wrong == 0
    assert resumed >= ROUNDS / 4


async def test_connections_that_come_and_go_leave_nothing_behind(transport: BleTransport, inbox: EchoInbox) -> None:
    memory = []
    await pair()
    await inbox.until(lambda: not inbox.present, 30)
    before = held()
    began = time.monotonic()
    for number in range(ROUNDS + WARM_ROUNDS):
        if number == WARM_ROUNDS:
            before = held()
        if number % LOOK_ROUNDS == 0:
            memory.append(used())
        async with await RawCentral(CENTRAL).connect(SERVER, 30) as central:
            await central.setup()
            assert await central.ask(HELLO) == HELLO
        await inbox.until(lambda: not inbox.present, 30)
        await eventually(advertising)
        inbox.packets.clear()
    memory.append(used())
    await released(before)
    growth = memory[-1] - memory[WARM_ROUNDS // LOOK_ROUNDS]
    each_s = (time.monotonic() - began) / (ROUNDS + WARM_ROUNDS)
    print(f"{ROUNDS} rounds of {each_s:.1f} s, {growth >> 10} KiB more; KiB:", *(each >> 10 for each in memory))
    assert growth < GROWTH


def used() -> int:
    """Memory of this process, in bytes, without what only waits to be collected."""
    gc.collect()
    return resident()

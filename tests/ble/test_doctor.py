"""`doctor` beside a running target: it finds and echoes it over the air, from another adapter."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ble.conftest import forget_devices

pytestmark = pytest.mark.ble

COMMAND = (sys.executable, "-m", "smp_dfu_host")
TIMEOUT_S = 120.0


async def doctor(store: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run it; return the exit status and the checks by name."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "doctor", "--ble", "--json", "--store", str(store), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, {check["check"]: check for check in json.loads(out)}


async def test_doctor_echoes_the_target_over_the_air(tmp_path: Path) -> None:
    await forget_devices()
    target = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "--ble", "--store", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert target.stdout
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert json.loads(await target.stdout.readline())["ready"]
        status, found = await doctor(tmp_path)
        assert status == 0, found
        assert found["echo"]["level"] == "good", found["echo"]
        assert "SMP DFU Host" in found["echo"]["found"]
        assert found["SMP service"]["level"] == "good"
    finally:
        target.send_signal(signal.SIGINT)
        assert await target.wait() == 0

"""The transport as a user who is nobody, with and without CAP_NET_RAW."""

import asyncio
import json
import sys

import pytest

from tests.ble.conftest import CENTRAL, HELLO, NAME, SERVER, forget_devices
from tests.ble.raw_central import RawCentral, shown

pytestmark = [pytest.mark.ble, pytest.mark.slow]

NOBODY = 65534
SERVE = f"""
import asyncio, json, logging, sys, warnings
warnings.simplefilter("ignore")
from smp_dfu_host.config import BleConfig
from smp_dfu_host.transport.ble import BleTransport
from tests.ble.conftest import EchoInbox

async def main():
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    transport = BleTransport(BleConfig(enabled=True), {NAME!r}, 2475)
    print(json.dumps(await transport.open(EchoInbox())), flush=True)
    await transport.online()
    await asyncio.to_thread(sys.stdin.read)
    await transport.close()

asyncio.run(main())
"""
"""Echoes until its input ends."""
WARNING = b"no permission for raw HCI: "


@pytest.mark.parametrize("raw", [False, True])
async def test_nobody_may_serve(raw: bool) -> None:
    """Without the capability one line says what is missing, and a central is served all the same."""
    await forget_devices()
    capabilities = "-all,+dac_read_search" + (",+net_raw" if raw else "")  # the former for folders that only root reads
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    drop += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *drop, sys.executable, "-c", SERVE, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(240):
            line = await process.stdout.readline()
        assert line, (await process.communicate())[1].decode()
        assert json.loads(line) == {"adapter": f"hci{SERVER}", "address": shown(SERVER)}
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.setup()
            await central.send(HELLO)
            assert await central.received(len(HELLO)) == HELLO
        async with asyncio.timeout(60):
            _, errors = await process.communicate(b"")  # Python 3.11 would leave its input open without
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert errors.count(WARNING) == (0 if raw else 1), errors.decode()

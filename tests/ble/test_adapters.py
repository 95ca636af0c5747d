"""Which adapter serves, and that there is one target on it, over the real BlueZ."""

import asyncio
from pathlib import Path

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport
from tests import target as targets
from tests.ble.conftest import CENTRAL, HELLO, NAME, SERVER, EchoInbox, forget_devices
from tests.ble.raw_central import RawCentral, shown
from tests.target import running, start

pytestmark = pytest.mark.ble

EMULATED_S = 240.0
"""Time-out of what the emulated processor has to compute: starting Python twice."""


def another(adapter: str) -> BleTransport:
    return BleTransport(BleConfig(enabled=True, adapter=adapter), NAME, 2475)


@pytest.mark.parametrize("wanted", ["hci0", shown(SERVER)])
async def test_a_second_target_on_an_adapter_is_refused_and_the_first_goes_on(
    transport: BleTransport, inbox: EchoInbox, wanted: str
) -> None:
    with pytest.raises(TransportError, match=r"^a target runs on Bluetooth adapter hci0 already; end it, or use"):
        await another(wanted).open(EchoInbox())
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        await central.send(HELLO)
        assert await central.received(len(HELLO)) == HELLO


async def test_a_second_target_that_is_told_no_adapter_takes_the_next(transport: BleTransport) -> None:
    second = another("")
    try:
        assert await second.open(EchoInbox()) == {"adapter": "hci1", "address": shown(1)}
        await second.online()
    finally:
        await second.close()


@pytest.mark.slow
async def test_a_target_that_was_killed_is_followed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bluetoothd removes what the dead one registered, and takes the same handles again."""
    monkeypatch.setattr(targets, "READY_S", EMULATED_S)
    await forget_devices()
    config = tmp_path / "target.toml"
    config.write_text('store = "store"\ntransport.ble = { enabled = true, adapter = "hci0" }\n')
    first = await start(config)
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        handles = await central.discover()
        await first.kill()
        async with running(config):
            async with asyncio.timeout(EMULATED_S):
                await central.closed.wait()
            async with await RawCentral(CENTRAL).connect(SERVER, EMULATED_S) as again:
                assert await again.discover() == handles
                await again.setup()
                await again.send(HELLO)
                assert await again.received(8)

"""Security levels, pairing policies, the window and bonds, over the real BlueZ."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from smp_dfu_host.config import BleConfig
from smp_dfu_host.dispatch.stats import Counters
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import BleTransport, status, window
from smp_dfu_host.transport.ble.bluez_bonds import bonds, forget
from smp_dfu_host.transport.ble.bluez_bus import Bus
from tests.ble.agents import Desk, pairer
from tests.ble.conftest import (
    CENTRAL,
    NAME,
    SERVER,
    Daemon,
    EchoInbox,
    eventually,
    forget_devices,
    objects,
)
from tests.ble.raw_central import MEDIUM, AttError, RawCentral, shown

pytestmark = pytest.mark.ble

HELLO = bytes.fromhex("00 00 0001 0000 ff 06 a0")
REFUSED = (0x05, 0x0F)
"""ATT errors that make a phone pair: insufficient authentication, insufficient encryption."""
LINKS_S = 20


class Served:
    """A transport that is on the air, and who is asked about pairings."""

    def __init__(self, folder: Path, config: BleConfig, inbox: EchoInbox) -> None:
        self.folder = folder
        self.desk = Desk()
        self.counters = Counters(unsecured=0)
        self.inbox = inbox
        self.transport = BleTransport(config, NAME, 2475, folder=folder, desk=self.desk, counters=self.counters)

    def said(self) -> list[dict[str, object]]:
        """The centrals in the status file."""
        return [dict(each) for each in status.read(self.folder).status.get("centrals", ())]


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(inbox: EchoInbox, tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serving(**options: object) -> AsyncIterator[Served]:
        await forget_devices()
        made = Served(tmp_path, BleConfig(enabled=True, **options), inbox)  # type: ignore[arg-type]
        await made.transport.open(inbox)
        await made.transport.online()
        try:
            yield made
        finally:
            await made.transport.close()

    return serving


async def device(adapter: int, other: int) -> dict[str, object]:
    """What bluetoothd says of a device of an adapter; nothing if it knows none."""
    path = f"/org/bluez/hci{adapter}/dev_{shown(other).replace(':', '_')}"
    return (await objects()).get(path, {}).get("org.bluez.Device1", {})


async def echoes(central: RawCentral) -> None:
    """Subscribe, and see that a request is answered."""
    await central.subscribe()
    central.notifications.clear()
    await central.send(HELLO)
    assert await central.received(len(HELLO)) == HELLO


async def refuses(central: RawCentral, inbox: EchoInbox) -> None:
    """See that neither a subscription nor a request gets through."""
    before = len(inbox.packets)
    await central.write(HELLO)
    with pytest.raises(AttError) as refused:
        await central.subscribe()
    assert refused.value.code in REFUSED
    await central.exchange_mtu()  # whatever was written before is through when this is answered
    assert len(inbox.packets) == before


async def is_kept_out(central: RawCentral, served: Served) -> None:
    """See that a pairing that failed costs the link, and that the central has gained nothing by it."""
    async with asyncio.timeout(LINKS_S):
        await central.closed.wait()
    await served.inbox.until(lambda: not served.inbox.present, LINKS_S)
    assert not await is_bonded()
    async with await RawCentral(CENTRAL).connect(SERVER) as again:
        await again.discover()
        await refuses(again, served.inbox)


async def fails_to_secure(served: Served) -> None:
    """Try to pair, or to encrypt; who refuses it ends the link, perhaps before the central has asked for anything."""
    with pytest.raises((OSError, AttError)):  # time-outs, resets, aborts
        await secures()
    await served.inbox.until(lambda: not served.inbox.present, LINKS_S)


async def secures() -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.discover()
        await central.secure(5)  # a socket whose link has fallen says that it is as secure as was asked
        await central.subscribe()


@pytest.mark.parametrize("level", ["encrypt", "authenticate", "secure"])
async def test_unpaired_is_refused_and_paired_as_the_level_asks_is_served(serve: Serve, level: str) -> None:
    async with (
        serve(security=level) as served,
        pairer(served.desk, "KeyboardOnly") as other,
        await RawCentral(CENTRAL).connect(SERVER) as central,
    ):
        await central.discover()
        await refuses(central, served.inbox)
        await other.pair(CENTRAL, SERVER)
        assert central.security >= MEDIUM
        await echoes(central)
        await eventually(is_bonded)
        await eventually(lambda: shows(served, "encrypt" if level == "encrypt" else "authenticate"))


async def is_bonded() -> bool:
    return bool((await device(SERVER, CENTRAL)).get("Bonded"))


async def shows(served: Served, security: str) -> bool:
    return [each["security"] for each in served.said()] == [security]


async def test_a_just_works_pairing_does_not_reach_a_level_that_authenticates(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serve(security="authenticate") as served,
        pairer(served.desk, "NoInputNoOutput") as other,
        await RawCentral(CENTRAL).connect(SERVER) as central,
    ):
        await central.discover()
        with pytest.raises(TransportError, match="Authentication"):
            await other.pair(CENTRAL, SERVER)
        assert "it can only pair by just-works" in caplog.text
        await is_kept_out(central, served)


async def test_a_wrong_passkey_does_not_pair(serve: Serve) -> None:
    async with (
        serve(security="secure") as served,
        pairer(served.desk, "KeyboardOnly") as other,
        await RawCentral(CENTRAL).connect(SERVER) as central,
    ):
        await central.discover()
        other.agent.wrong = True
        with pytest.raises(TransportError, match="Authentication"):
            await other.pair(CENTRAL, SERVER)
        await is_kept_out(central, served)


@pytest.mark.parametrize("agrees", [True, False])
async def test_numbers_are_compared(serve: Serve, agrees: bool) -> None:
    async with (
        serve(security="secure", pairing="confirm") as served,
        pairer(served.desk, "DisplayYesNo") as other,
        await RawCentral(CENTRAL).connect(SERVER) as central,
    ):
        await central.discover()
        served.desk.agrees = agrees
        if not agrees:
            with pytest.raises(TransportError, match="Authentication"):
                await other.pair(CENTRAL, SERVER)
            await is_kept_out(central, served)
            return
        await other.pair(CENTRAL, SERVER)
        assert served.desk.numbers == other.agent.numbers
        assert len(served.desk.numbers) == 1
        await echoes(central)


async def test_nobody_new_bonds_when_pairing_is_rejected(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(pairing="reject") as served:
        await fails_to_secure(served)
        assert "pairing = reject" in caplog.text
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.discover()
            await refuses(central, served.inbox)
        assert not await is_bonded()


async def test_a_window_lets_one_bond_and_a_closed_one_does_not(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(pairing_window=True) as served:
        await fails_to_secure(served)
        assert "the pairing window is closed" in caplog.text
        assert not await is_bonded()
        window.open_window(served.folder, 3600)
        await secures_and_echoes(served)
        window.close_window(served.folder)
        await secures_and_echoes(served)  # it has bonded before


async def test_a_central_that_does_not_secure_the_link_is_disconnected(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(secure_within_s=2), await RawCentral(CENTRAL).connect(SERVER) as central:
        async with asyncio.timeout(LINKS_S):
            await central.closed.wait()
        assert "link not secured within 2 s" in caplog.text


async def test_a_central_that_has_secured_the_link_stays(serve: Serve) -> None:
    async with serve(secure_within_s=3) as served, await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.discover()
        await central.secure()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await central.closed.wait()
        await echoes(central)
        assert served.inbox.present


async def test_a_central_is_forgotten_while_it_is_connected_and_can_pair_again(serve: Serve) -> None:
    async with serve() as served:
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.discover()
            await central.secure()
            await eventually(is_bonded)
            await forget_here()
            async with asyncio.timeout(LINKS_S):
                await central.closed.wait()
        assert not await device(SERVER, CENTRAL)
        await forget_there()
        await served.inbox.until(lambda: not served.inbox.present, LINKS_S)
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.discover()
            await central.secure()
            await echoes(central)


async def test_a_central_that_lost_its_bond_is_refused_and_pairs_again_once_forgotten_here(serve: Serve) -> None:
    """main.conf's JustWorksRepairing = never: bluetoothd refuses by itself, and asks no agent.

    The line that the log has then is tested without the rig: here bluetoothd, which comes first, has refused and
    dropped the link before our process hears of it.
    """
    async with serve() as served:
        await bond_and_lose(served)
        await fails_to_secure(served)
        await forget_here()
        await secures_and_echoes(served)


async def test_a_central_that_lost_its_bond_pairs_again_where_main_conf_lets_the_agent_decide(
    serve: Serve, bluetoothd: Daemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = tmp_path / "main.conf"
    conf.write_text("[General]\nJustWorksRepairing = confirm\n[GATT]\nChannels = 1\n")
    before = await bluetoothd.restart(conf)
    try:
        async with serve(pairing_window=True) as served:
            window.open_window(served.folder, 3600)
            await bond_and_lose(served)
            window.close_window(served.folder)
            await fails_to_secure(served)
            assert "the pairing window is closed" in caplog.text
            window.open_window(served.folder, 3600)
            await secures_and_echoes(served)
    finally:
        await bluetoothd.restart(before)


async def bond_and_lose(served: Served) -> None:
    """Bond, and have the central alone forget it."""
    await secures_and_echoes(served)
    await eventually(is_bonded)
    await forget_there()


async def secures_and_echoes(served: Served) -> None:
    async with await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.discover()
        await central.secure()
        await echoes(central)
    await served.inbox.until(lambda: not served.inbox.present, LINKS_S)


async def forget_here() -> None:
    """Forget every bond of the server's adapter, as `ble forget` does."""
    bus = await Bus.open()
    try:
        for bond in await bonds(bus, f"hci{SERVER}", {}):
            await forget(bus, bond)
    finally:
        await bus.close()


async def forget_there() -> None:
    """Have the central's side forget the server."""
    bus = await Bus.open()
    path = f"/org/bluez/hci{CENTRAL}"
    try:
        await bus.ask(path, "org.bluez.Adapter1.RemoveDevice", "o", f"{path}/dev_{shown(SERVER).replace(':', '_')}")
    finally:
        await bus.close()

"""What is on the air, by btmon's record of the rig: advertising, connection parameters, the end of a connection."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from smp_dfu_host.config import BleConfig, parse
from smp_dfu_host.server import Server
from smp_dfu_host.transport.ble import BleTransport, advertising
from smp_dfu_host.transport.ble.hci_packets import (
    CONNECTION_UPDATE_COMPLETE,
    DISCONNECTION_COMPLETE,
    LE_CONNECTION_UPDATE,
    REMOTE_USER_TERMINATED,
)
from smp_dfu_host.transport.ble.link import SMP_SERVICE
from smp_dfu_host.transport.ble.parameters import MIN_INTERVAL, Parameters
from tests.ble import btsnoop
from tests.ble.btsnoop import ACL_RECEIVED, ACL_SENT, Packet, att, commands, events, recorded
from tests.ble.conftest import CENTRAL, HELLO, NAME, SERVER, EchoInbox, eventually, forget_devices, message, set_powered
from tests.ble.raw_central import INDICATION, NOTIFICATION, WRITE_COMMAND, RawCentral, shown
from tests.ble.uploads import LOOKED_S
from tests.client import Client, rc
from tests.mcuboot.images import make_image

pytestmark = pytest.mark.ble

SET_PARAMETERS, SET_DATA, SET_SCAN_RESPONSE, SET_ENABLE = 0x2006, 0x2008, 0x2009, 0x200A
"""Legacy advertising commands (Core Specification, vol 4 part E 7.8.5 to 7.8.9); extended ones would be 0x2036 on."""
UPDATED = 0x3E00 | CONNECTION_UPDATE_COMPLETE
BACK_S = 2.0
"""The target must be connectable again within so long after its links fell."""
INTERVAL = 0.625
"""Steps of advertising intervals, in ms."""


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Callable[[], list[Packet]]]:
    """What has been on the air since the test began."""
    await forget_devices()
    async with recorded(tmp_path / "air.snoop") as path:
        yield lambda: btsnoop.read(path)


Record = Callable[[], list[Packet]]


@asynccontextmanager
async def on_the_air(inbox: EchoInbox) -> AsyncIterator[BleTransport]:
    made = BleTransport(BleConfig(enabled=True), NAME, 2475)
    await made.open(inbox)
    await made.online()
    try:
        yield made
    finally:
        await made.close()


def intervals(packets: list[Packet]) -> list[tuple[float, float]]:
    """The advertising intervals that the server's controller was given, in ms; each connectable, legacy, public."""
    found = []
    for packet in commands(packets, SERVER, SET_PARAMETERS):
        low, high, kind, own_address = struct.unpack_from("<HHBB", packet.body)
        assert (kind, own_address) == (0, 0)
        found.append((low * INTERVAL, high * INTERVAL))
    return found


def parameters_in_force(packets: list[Packet], controller: int) -> list[tuple[float, Parameters]]:
    """When which connection parameters came into force."""
    unpacked = ((each.time_s, struct.unpack_from("<BHHHH", each.body)) for each in events(packets, controller, UPDATED))
    return [(time_s, Parameters(*values[2:])) for time_s, values in unpacked if values[0] == 0]


def reasons(packets: list[Packet], controller: int) -> list[int]:
    """Why a controller's connections ended."""
    return [struct.unpack_from("<BHB", each.body)[2] for each in events(packets, controller, DISCONNECTION_COMPLETE)]


async def test_the_advertisement_is_what_phones_look_for(
    record: Record, inbox: EchoInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advertising, "FAST_S", 2.0)
    await set_powered(on=False)  # Linux gives a controller nothing that it has already
    await set_powered(on=True)
    async with on_the_air(inbox):

        async def slow() -> bool:
            return intervals(record())[-1:] == [(1000, 1200)]

        await eventually(slow)
        uuid = bytes.fromhex(SMP_SERVICE.replace("-", ""))[::-1]
        flags, name = b"\x02\x01\x06", NAME.encode()
        expected = bytes((17, 0x07)) + uuid + flags  # complete list of 128-bit UUIDs; discoverable, no BR/EDR
        response = bytes((len(name) + 1, 0x09)) + name  # complete local name
        packets = record()
        assert {each.body[1 : each.body[0] + 1] for each in commands(packets, SERVER, SET_DATA) if each.body[0]} == {
            expected
        }
        assert response in {each.body[1 : each.body[0] + 1] for each in commands(packets, SERVER, SET_SCAN_RESPONSE)}
        assert (30, 60) in intervals(packets)
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.discover()
        await inbox.until(lambda: not inbox.present)

        async def fast_again() -> bool:
            return intervals(record())[-1:] == [(30, 60)]

        await eventually(fast_again)
    assert not commands(record(), SERVER, *range(0x2036, 0x203A))  # no extended advertising: old phones miss it


async def test_a_change_of_the_interval_leaves_no_gap(
    record: Record, inbox: EchoInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller must be off the air to take other parameters; nothing else may come between."""
    monkeypatch.setattr(advertising, "FAST_S", 2.0)
    async with on_the_air(inbox):

        async def slow() -> bool:
            sent = commands(record(), SERVER, SET_PARAMETERS, SET_ENABLE)
            return intervals(sent)[-1:] == [(1000, 1200)] and sent[-1].code == SET_ENABLE

        await eventually(slow)
        sent = commands(record(), SERVER, *range(0x2000, 0x2100))
        first = next(at for at, each in enumerate(sent) if each.code == SET_ENABLE and each.body[0])
        off = [at for at, each in enumerate(sent) if each.code == SET_ENABLE and not each.body[0] and at > first]
        for at in off:
            following = [each.code for each in sent[at + 1 : at + 5]]
            assert SET_ENABLE in following
            on = sent[at + 1 + following.index(SET_ENABLE)]
            assert on.body[0] == 1
            assert set(following[: following.index(SET_ENABLE)]) <= {SET_PARAMETERS, SET_DATA, SET_SCAN_RESPONSE}


class RawChannel:
    """A `tests.client.Channel` over a raw central."""

    def __init__(self, central: RawCentral) -> None:
        self._central = central

    async def send(self, frame: bytes) -> None:
        self._central.notifications.clear()
        await self._central.send(frame)

    async def receive(self) -> bytes:
        head = await self._central.received(8, 60)
        return await self._central.received(8 + int.from_bytes(head[2:4], "big"), 60)

    def close(self) -> None:
        self._central.close()


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[Server]:
    """A whole server in this process."""
    ready = asyncio.Event()
    ble = {"enabled": True, "adapter": shown(SERVER)}
    config = parse({"name": NAME, "store": str(folder / "store"), "transport": {"ble": ble}}, folder)
    server = Server(config, on_ready=lambda _line: ready.set())
    running = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        yield server
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def test_the_interval_is_short_during_an_upload_and_long_after_it(record: Record, tmp_path: Path) -> None:
    image = make_image((2, 0, 0, 0), bytes(100_000))
    async with target(tmp_path) as server, await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()

        async def in_force() -> list[Parameters]:
            return [each for _, each in parameters_in_force(record(), CENTRAL)]

        async def default() -> bool:
            last = (await in_force())[-1:]
            return bool(last) and 24 <= last[0].interval <= 40

        await eventually(default, 30)  # 5 s after the connection
        assert (await in_force())[0] == Parameters(MIN_INTERVAL, 0, 400)
        client = Client(RawChannel(central), timeout_s=30)
        assert rc(await client.begin(image)) == 0
        loop = asyncio.get_running_loop()
        began, offset = loop.time(), 400
        while loop.time() - began < 12 and offset < len(image) - 400:
            reply = await client.chunk(image, offset)
            assert rc(reply) == 0
            offset = reply["off"]
            await asyncio.sleep(0.2)
        assert server.stats.groups["ble_parameters"]["interval_us"] == 7500
        await eventually(default, 30)
        assert server.stats.groups["ble_parameters"]["interval_us"] >= 30000
    packets = record()
    writes = [each.time_s for each in att(packets, CENTRAL, ACL_SENT) if each.data[0] == WRITE_COMMAND]
    at_central = parameters_in_force(packets, CENTRAL)
    begun = next(time_s for time_s in writes if time_s > at_central[1][0])
    short = [time_s for time_s, now in at_central if now.interval == MIN_INTERVAL and time_s > begun]
    long = [time_s for time_s, now in at_central if now.interval >= 24 and time_s > begun]
    assert len(short) == len(long) == 1
    assert short[0] - begun < 2
    assert 5 <= long[0] - writes[-1] < 15
    asked = commands(packets, SERVER, LE_CONNECTION_UPDATE)
    assert len(asked) == 4


async def test_a_refusal_of_the_central_is_told_and_harms_nothing(
    record: Record, inbox: EchoInbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Path(f"/sys/kernel/debug/bluetooth/hci{CENTRAL}")
    before = (limits / "conn_max_interval").read_text()
    (limits / "conn_max_interval").write_text("28")  # Linux as the central grants no longer interval than this
    caplog.set_level("INFO")
    try:
        async with target(tmp_path), await RawCentral(CENTRAL).connect(SERVER) as central:
            await central.setup()

            async def refused() -> bool:
                return f"ble {shown(CENTRAL)}: no 30 to 50 ms, latency 0" in caplog.text

            await eventually(refused, 40)
            await asyncio.sleep(6)  # it is asked again, and refuses again
            assert caplog.text.count("no 30 to 50 ms") == 1
            assert await Client(RawChannel(central), timeout_s=30).echo() == "hello"
    finally:
        (limits / "conn_max_interval").write_text(before)
    asked = [each.time_s for each in commands(record(), SERVER, LE_CONNECTION_UPDATE)][1:]
    assert len(asked) >= 2
    assert all(later - earlier >= 4.9 for earlier, later in pairwise(asked))


async def test_a_reset_is_seen_by_a_phone_as_one_of_a_device(record: Record, inbox: EchoInbox) -> None:
    """The link falls because we ended it; the same address and handles are back in time; nothing old is left."""
    loop = asyncio.get_running_loop()
    half = message(b"half of a message")[:-1]
    async with on_the_air(inbox) as transport:
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            handles = await (await central.setup()).discover()
            await asyncio.sleep(LOOKED_S)
            inbox.echoing = False
            await central.send(HELLO)
            await inbox.until(lambda: bool(inbox.packets))
            old = inbox.packets[0][0]
            await central.write(half)
            asked = loop.time()
            await transport.offline()
            async with asyncio.timeout(2):
                await central.closed.wait()
            fallen = loop.time()
        assert old.closed
        assert fallen - asked < BACK_S
        await transport.online()
        async with await RawCentral(CENTRAL).connect(SERVER) as central:
            assert loop.time() - fallen < BACK_S
            assert await central.discover() == handles
            await central.secure()
            inbox.echoing = True
            await central.send(HELLO)
            assert await central.received(len(HELLO)) == HELLO
            assert inbox.packets[-1][0] is not old
            assert inbox.packets[-1][1] == HELLO
    packets = record()
    assert reasons(packets, CENTRAL)[0] == REMOTE_USER_TERMINATED
    told = [each for each in att(packets, CENTRAL, ACL_RECEIVED) if each.data[0] in (INDICATION, NOTIFICATION)]
    assert [each.data[3:] for each in told if each.data[0] == NOTIFICATION] == [HELLO]
    assert not [each for each in told if each.data[0] == INDICATION]  # Service Changed: nothing has changed


async def test_without_raw_hci_bluetoothd_drops_the_link(record: Record, inbox: EchoInbox) -> None:
    async with on_the_air(inbox) as transport, await RawCentral(CENTRAL).connect(SERVER) as central:
        await central.setup()
        transport.connections.close()
        async with asyncio.timeout(4):
            await transport.offline()
        await central.closed.wait()
    assert reasons(record(), CENTRAL)[0] == REMOTE_USER_TERMINATED

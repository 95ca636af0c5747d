"""Who hears what: the ways to the centrals, against a bluetoothd of our own that notifies as BlueZ does."""

import asyncio
import struct

import pytest

from smp_dfu_host.dispatch.peer import Link
from smp_dfu_host.errors import TransportError
from smp_dfu_host.transport.ble import hci
from tests.transport.ble.rig import HELLO, Rig, at_end, message, until


async def written(rig: Rig, path: str) -> Link:
    """Have a central write; return its link."""
    await rig.daemon.write(path, HELLO)
    link, _ = await rig.inbox.next()
    return link


async def test_without_a_socket_the_reply_goes_by_properties_changed(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    await rig.daemon.write(path, HELLO)
    link, _ = await rig.inbox.next()
    for number in range(1000):
        await link.send(message(struct.pack(">I", number)))
    await until(lambda: len(rig.daemon.notified) == 1000)
    await rig.daemon.heard()
    assert rig.daemon.notified == [message(struct.pack(">I", number)) for number in range(1000)]


async def test_a_socket_that_closes_falls_back(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    (await rig.daemon.subscribe(path)).close()
    await rig.daemon.write(path, HELLO)
    link, _ = await rig.inbox.next()
    await link.send(HELLO)
    await until(lambda: rig.daemon.notified == [HELLO])


async def test_a_new_subscription_replaces_the_old_socket(rig: Rig) -> None:
    await rig.online()
    path = rig.connect()
    with await rig.daemon.subscribe(path) as old, await rig.daemon.subscribe(path) as new:
        assert await at_end(old)
        await rig.daemon.write(path, HELLO)
        link, _ = await rig.inbox.next()
        await link.send(HELLO)
        assert new.recv(100) == HELLO


async def test_a_socket_that_closes_before_it_was_passed_costs_nobody_else_anything(rig: Rig) -> None:
    """dbus-next ends the connection when it writes a message whose descriptor was closed meanwhile."""
    await rig.online()
    path = rig.connect()
    old, new = await asyncio.gather(rig.daemon.subscribe(path), rig.daemon.subscribe(path))
    with old, new:
        assert await at_end(old)
        await rig.daemon.write(path, HELLO)
        link, _ = await rig.inbox.next()
        await link.send(HELLO)
        assert new.recv(100) == HELLO


async def test_a_central_without_a_socket_is_dropped_beside_others(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.online()
    first, second = rig.connect(1), rig.connect(2)
    with await rig.daemon.subscribe(first) as sock:
        await (await written(rig, first)).send(HELLO)
        assert sock.recv(100) == HELLO
        with pytest.raises(TransportError, match="others would hear it"):
            await (await written(rig, second)).send(HELLO)
        await until(lambda: not rig.daemon.devices[second].connected)
        await rig.daemon.heard()
        assert rig.daemon.notified == []
        assert "ble AA:00:00:00:00:02: disconnected, it has no notification socket" in caplog.text


async def test_nobody_else_gets_in_while_a_central_is_notified_without_a_socket(rig: Rig) -> None:
    await rig.online()
    first = rig.connect(1)
    link = await written(rig, first)
    assert rig.daemon.advertisement
    await link.send(HELLO)
    assert rig.daemon.advertisement == {}
    second = rig.connect(2)
    await until(lambda: not rig.daemon.devices[second].connected)
    await link.send(HELLO)
    await rig.daemon.heard()
    assert rig.daemon.notified == [HELLO, HELLO]
    assert rig.inbox.present == [link]
    rig.daemon.disconnect(first)
    await until(lambda: rig.daemon.advertisement)


async def test_others_get_in_again_when_it_subscribes(rig: Rig) -> None:
    await rig.online()
    first = rig.connect(1)
    link = await written(rig, first)
    await link.send(HELLO)
    with await rig.daemon.subscribe(first) as sock:
        await until(lambda: rig.daemon.advertisement)
        await link.send(HELLO)
        assert sock.recv(100) == HELLO
    await rig.daemon.heard()
    assert rig.daemon.notified == [HELLO]


@pytest.mark.parametrize("version", [(5, 66), (5, 82)])
async def test_a_notification_waits_until_a_central_that_slipped_in_has_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    rig.version = version
    await rig.online()
    link = await written(rig, rig.connect(1))
    await link.send(HELLO)
    leave = rig.daemon.disconnect
    asked: list[str] = []
    monkeypatch.setattr(rig.daemon, "disconnect", asked.append)
    second = rig.connect(2)
    await until(lambda: asked == [second])
    sending = asyncio.create_task(link.send(HELLO))
    await rig.daemon.heard()
    assert rig.daemon.notified == [HELLO]
    leave(second)
    await sending
    await rig.daemon.heard()
    assert rig.daemon.notified == [HELLO, HELLO]


async def test_before_5_76_a_socket_waits_for_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.version = (5, 66)
    await rig.online()
    first = rig.connect(1)
    with await rig.daemon.subscribe(first) as sock:
        link = await written(rig, first)
        monkeypatch.setattr(rig.daemon, "disconnect", lambda _path: None)
        rig.connect(2)
        await rig.daemon.heard()
        with pytest.raises(TransportError, match="others would hear it"):
            await link.send(HELLO)  # it does not leave
        with pytest.raises(BlockingIOError):
            sock.recv(100)


async def test_a_reply_goes_out_at_once_where_nobody_else_can_hear_it(rig: Rig) -> None:
    await rig.online()
    first, second = rig.connect(1), rig.connect(2)
    with await rig.daemon.subscribe(first) as sock:
        assert (await written(rig, first)).send_now(HELLO)
        assert sock.recv(100) == HELLO
        assert not (await written(rig, second)).send_now(HELLO)  # has no socket


async def test_before_5_76_only_to_a_central_that_is_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.version = (5, 66)
    await rig.online()
    first = rig.connect(1)
    with await rig.daemon.subscribe(first) as sock:
        link = await written(rig, first)
        await link.send(HELLO)  # nobody can connect any more
        assert link.send_now(HELLO)
        assert [sock.recv(100) for _ in range(2)] == [HELLO, HELLO]
        asked: list[str] = []
        monkeypatch.setattr(rig.daemon, "disconnect", asked.append)
        second = rig.connect(2)
        await until(lambda: asked == [second])
        assert not link.send_now(HELLO)


async def test_what_waited_does_not_go_to_the_next_connection_of_the_same_central(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.online()
    first = rig.connect(1)
    link = await written(rig, first)
    await link.send(HELLO)
    leave = rig.daemon.disconnect
    monkeypatch.setattr(rig.daemon, "disconnect", lambda _path: None)
    second = rig.connect(2)
    await rig.daemon.heard()
    sending = asyncio.create_task(link.send(HELLO))
    await rig.daemon.heard()
    leave(first)
    await until(lambda: rig.inbox.gone)
    leave(second)
    rig.connect(1)
    with pytest.raises(TransportError, match="not notified"):
        await sending
    await rig.daemon.heard()
    assert rig.daemon.notified == [HELLO]


async def test_a_central_that_is_refused_gets_no_socket(rig: Rig) -> None:
    await rig.online()
    await rig.transport.offline()
    with pytest.raises(ConnectionRefusedError):
        await rig.daemon.subscribe(rig.connect())


async def test_a_full_bus_is_waited_for(rig: Rig) -> None:
    """Whole replies of 2475 bytes, more than the bus takes at once, while bluetoothd is busy with something else."""
    await rig.online()
    link = await written(rig, rig.connect())
    sent = [message(struct.pack(">I", number) * 616) for number in range(40)]
    await asyncio.gather(*map(link.send, sent))
    await rig.daemon.heard()
    assert b"".join(rig.daemon.notified) == b"".join(sent)


async def test_where_the_kernel_does_not_tell_any_device_may_hear(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.online()
    link = await written(rig, rig.connect(1))
    await link.send(HELLO)
    monkeypatch.setattr(hci, "incoming", lambda _adapter: None)
    rig.daemon.connect(2)
    await rig.daemon.heard()
    with pytest.raises(TransportError, match="others would hear it"):
        await link.send(HELLO)
    await rig.daemon.heard()
    assert rig.daemon.notified == [HELLO]

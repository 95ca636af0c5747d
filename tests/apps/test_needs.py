"""What clients need of a server, a test each (device-manager-client.md 7).

Where else: resume over a broken link and the rolled-back image in test_android.py and test_ios.py, since it is the
apps that must not be misled.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest

from smp_dfu_host.config import parse
from smp_dfu_host.dispatch.peer import Peer
from smp_dfu_host.errors import ConfigError
from tests.apps.android import Android
from tests.apps.clock import play
from tests.apps.device import Device, device
from tests.apps.phone import (
    BOOT_INFO,
    ECHO,
    ERASE,
    HEADER,
    IMAGE,
    INFO,
    OS,
    PARAMS,
    READ,
    RESET,
    SLOT_INFO,
    STATE,
    UPLOAD,
    WRITE,
    Phone,
    Refused,
    Reply,
    body_of,
    frame,
)
from tests.apps.radio import Air, Radio
from tests.fakes import BLE, OTHER_BLE
from tests.store.builders import hash_of

CROWD = 4
"""Peers that ask for something all the time."""


async def nagging(target: Device, number: int) -> None:
    """Ask for the costliest readings, three at a time, for ever."""
    name = f"/dev/ttyUSB{number}"
    phone = Phone(target.transport, peer=Peer("serial", name, f"serial:{name}"))
    await phone.link(10)
    requests = [(IMAGE, STATE), (OS, 2), (IMAGE, SLOT_INFO)]
    while True:
        asked = [frame(READ, group, command, {}, n) for n, (group, command) in enumerate(requests)]
        await asyncio.gather(*(phone.exchange(request, 60) for request in asked))


def test_answers_come_within_the_apps_limits_under_load(folder: Path, delay_s: float) -> None:
    """Each of the app's requests has its own limit; an upload with three chunks in flight fails at 2.5 s for one."""

    async def scene() -> str:
        async with device(folder, smp={"buf_size": 500}) as target:
            crowd = [asyncio.create_task(nagging(target, number)) for number in range(CROWD)]
            app = Android(target.transport, Air(delay_s))
            await app.connect()
            await app.upgrade(target.update(8000), "confirm only")
            for task in crowd:
                task.cancel()
            await asyncio.wait(crowd)
            return await target.running()

    assert play(scene()) == "2.0.0 active confirmed"


def chunk(image: bytes, off: int, end: int, **more: object) -> Reply:
    """Return the body of an upload request."""
    first = {"len": len(image), "sha": hashlib.sha256(image).digest()} if off == 0 else {}
    return {"off": off, "data": image[off:end], **first, **more}


async def answers(target: Device, frames: list[bytes], peer: Peer = BLE) -> list[bytes]:
    """Send frames at once; return as many replies."""
    replies: list[bytes] = []
    complete = asyncio.Event()

    def arrived(reply: bytes) -> None:
        replies.append(reply)
        if len(replies) == len(frames):
            complete.set()

    radio = Radio(Air(), target.transport, arrived, peer)
    for each in frames:
        radio.write(each)
    async with asyncio.timeout(60):
        await complete.wait()
    await radio.drop()
    return replies


def bodies(replies: list[bytes]) -> list[Reply]:
    return [cbor2.loads(reply[HEADER.size :]) for reply in replies]


def run(folder: Path, scene: Callable[[Device], Awaitable[Any]], **sections: Any) -> Any:
    """Play a scene with a device of its own."""

    async def whole() -> Any:
        async with device(folder, **sections) as target:
            return await scene(target)

    return play(whole())


def test_upload_of_the_same_file_is_resumed_and_another_begins_anew(folder: Path) -> None:
    async def scene(target: Device) -> list[Reply]:
        image, other = target.update(), target.update(8000)
        begun = [frame(WRITE, IMAGE, UPLOAD, chunk(image, off, off + 1000), 7) for off in (0, 1000)]
        await answers(target, begun)
        again = [(image, 600), (image, 50), (other, 600), (image, 600)]
        return bodies(
            await answers(target, [frame(WRITE, IMAGE, UPLOAD, chunk(what, 0, end), 7) for what, end in again])
        )

    assert [reply["off"] for reply in run(folder, scene)] == [2000, 2000, 600, 600]


def test_same_sequence_number_twice_is_answered_twice_and_harmless(folder: Path) -> None:
    async def scene(target: Device) -> tuple[list[Reply], str]:
        image = target.update(3000)
        mark: Reply = {"hash": hash_of(image), "confirm": True}
        requests = [
            frame(WRITE, IMAGE, UPLOAD, chunk(image, 0, 1500), 9),
            frame(WRITE, IMAGE, UPLOAD, chunk(image, 1500, 2000), 9),
            frame(WRITE, IMAGE, STATE, mark | {"confirm": False}, 9),
            frame(WRITE, IMAGE, ERASE, {}, 9),
            frame(WRITE, IMAGE, UPLOAD, chunk(image, 0, 2000), 9),
            frame(WRITE, IMAGE, UPLOAD, chunk(image, 2000, 9999), 9),
            frame(WRITE, IMAGE, UPLOAD, chunk(image, 0, 2000), 9),
            frame(WRITE, IMAGE, STATE, mark, 9),
            frame(WRITE, OS, RESET, {}, 9),
        ]
        replies = await answers(target, [each for request in requests for each in (request, request)])
        await asyncio.sleep(3)
        return bodies(replies), await target.running()

    replies, runs = run(folder, scene)
    size = len(Device.update(Device(None, "swap-using-move"), 3000))  # type: ignore[arg-type]
    assert [reply.get("off") for reply in replies[:4]] == [1500, 1500, 2000, 2000]
    assert [reply["err"]["rc"] for reply in replies[4:6]] == [8, 8]
    assert replies[6:8] == [{}, {}]
    # Behind the last chunk there is no session: sent again it is answered with 0, and so the first one is sent again.
    assert [reply.get("off") for reply in replies[8:14]] == [2000, 2000, size, 0, size, size]
    assert replies[14] == replies[15]
    assert replies[16:] == [{}, {}]
    assert runs == "2.0.0 active confirmed"


@pytest.mark.parametrize("window", [2, 24])
def test_frames_of_a_whole_window_and_stale_ones_are_answered_in_order(folder: Path, window: int) -> None:
    """As many frames of the full size as phones ever have in flight, all at once, each followed by one from before."""

    async def scene(target: Device) -> tuple[list[int], list[int], int]:
        image = target.update(window * 1000)
        fresh = [frame(WRITE, IMAGE, UPLOAD, chunk(image, off, off + 1000), 0) for off in range(0, len(image), 1000)]
        sent = [fresh[0]]
        for number in range(1, len(fresh)):
            sent += [fresh[number], fresh[number - 1] if number > 1 else fresh[number]]
        numbered = [each[:6] + bytes((n % 256,)) + each[7:] for n, each in enumerate(sent)]
        replies = await answers(target, numbered)
        return [reply[6] for reply in replies], [body["off"] for body in bodies(replies)], len(image)

    sequence, told, size = run(folder, scene, smp={"buf_size": 1100, "queue_size": 64})
    assert sequence == list(range(len(sequence)))
    assert told[:-1] == sorted(told[:-1])
    assert size in told[-2:]


@pytest.mark.parametrize("size", [20, 32, 100, 500, 2380])
def test_chunks_of_any_size_are_taken(folder: Path, size: int) -> None:
    """The first one must hold the image's header of 32 bytes; the largest fills the buffer."""

    async def scene(target: Device) -> bytes:
        image = target.update(4000)
        off, sequence = 0, 0
        while off < len(image):
            request = frame(WRITE, IMAGE, UPLOAD, chunk(image, off, off + max(size, 0 if off else 32)), sequence % 256)
            assert len(request) <= 2475
            (reply,) = bodies(await answers(target, [request]))
            assert reply["off"] > off
            off, sequence = reply["off"], sequence + 1
        return bytes((await target.images())[1]["hash"]) + hash_of(image)

    hashes = run(folder, scene)
    assert hashes[:32] == hashes[32:]


@pytest.mark.parametrize("buf_size", [96, 500, 2475, 2500])
def test_frame_of_buf_size_is_taken_by_radio(folder: Path, buf_size: int) -> None:
    async def scene(target: Device) -> Reply:
        phone = Phone(target.transport)
        await phone.link(1)
        request = frame(READ, OS, PARAMS, {}, 1)
        told = body_of(request, await phone.exchange(request, 1))["buf_size"]
        full = filled(told)
        return body_of(full, await phone.exchange(full, 1)) | {"size": len(full)}

    assert run(folder, scene, smp={"buf_size": buf_size}) == {"r": "here", "size": buf_size}


def filled(size: int) -> bytes:
    """Return an echo request of that size; what fills it is not echoed."""
    empty = len(frame(WRITE, OS, ECHO, {"d": "here", "x": b""}, 1))
    for spare in range(4):  # what the length of the byte string takes
        request = frame(WRITE, OS, ECHO, {"d": "here", "x": bytes(size - empty - spare)}, 1)
        if len(request) == size:
            return request
    raise ValueError(f"no request has {size} bytes")


def test_no_reply_is_longer_than_the_apps_can_read(folder: Path) -> None:
    """Android takes 2500 bytes behind the header for an error of its own; the option cannot be set higher."""
    with pytest.raises(ConfigError, match=r"smp\.buf_size = 2501: must be between"):
        parse({"smp": {"buf_size": 2501}}, folder)

    async def scene(target: Device) -> list[bytes]:
        letters = [frame(WRITE, OS, ECHO, {"d": "x" * size}, 1) for size in (2480, 2484, 2485, 2486)]
        readings = [frame(READ, OS, command, {"format": "a"}, 1) for command in (2, 3, INFO, BOOT_INFO)]
        return await answers(target, [*letters, *readings])

    replies = run(folder, scene, smp={"buf_size": 2500})
    assert max(map(len, replies)) <= 2500
    assert [body.get("rc") for body in bodies(replies)][:4] == [None, None, None, 7]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    "payload", [b"\xa0", b"", b"\xff\xff", cbor2.dumps({"force": True}), cbor2.dumps({"force": 1})]
)
def test_reset_is_never_refused_to_the_owner_of_the_lock(folder: Path, payload: bytes, version: int) -> None:
    async def scene(target: Device) -> tuple[Reply, Reply]:
        image = target.update()
        await answers(target, [frame(WRITE, IMAGE, UPLOAD, chunk(image, 0, 1000), 7)])
        request = HEADER.pack(version << 3 | WRITE, 0, len(payload), OS, 7, RESET) + payload
        (others,) = bodies(await answers(target, [request], OTHER_BLE))
        (owners,) = bodies(await answers(target, [request]))
        return others, owners

    assert run(folder, scene) == ({"rc": 11}, {})


def test_requests_without_a_payload_and_in_version_0_are_answered_to_the_web_client(folder: Path) -> None:
    """mcumgr-web sends eight bytes where there are no arguments, and reads nothing but `rc` of an error."""

    async def scene(target: Device) -> list[Reply]:
        asked = [(OS, PARAMS), (OS, INFO), (OS, BOOT_INFO), (IMAGE, STATE), (77, 0)]
        frames = [HEADER.pack(READ, 0, 0, group, 3, command) for group, command in asked]
        refused = frame(WRITE, IMAGE, STATE, {"hash": bytes(32)}, 3, version=0)
        return bodies(await answers(target, [*frames, refused]))

    params, info, boot, state, unknown, refused = run(folder, scene)
    assert params["buf_size"] == 2475
    assert "images" in state
    assert info == boot == {"rc": 3}  # commands that decode a map want one, as Zephyr's do
    assert (unknown, refused) == ({"rc": 8}, {"rc": 1})


@pytest.mark.parametrize("name", ["/lfs1/empty", "/lfs1/full"])
def test_empty_files_go_both_ways(folder: Path, name: str) -> None:
    """A download says its length with its first part, and an empty one ends there."""
    (folder / "files").mkdir()
    data = b"" if name.endswith("empty") else os.urandom(100)

    async def scene(target: Device) -> list[Reply]:
        requests: list[tuple[int, int, Reply]] = [
            (WRITE, 0, {"name": name, "off": 0, "data": data, "len": len(data)}),
            (READ, 1, {"name": name}),
            (READ, 0, {"name": name, "off": 0}),
        ]
        return bodies(await answers(target, [frame(op, 8, command, body, 5) for op, command, body in requests]))

    replies = run(folder, scene, fs={"folder": "files"})
    assert replies == [{"off": len(data)}, {"len": len(data)}, {"off": 0, "data": data, "len": len(data)}]


def test_rolled_back_image_cannot_be_confirmed_by_its_hash(folder: Path) -> None:
    async def scene(target: Device) -> int:
        app, image = Android(target.transport), target.update()
        await app.connect()
        await app.upgrade(image, "test only")
        await target.reset()
        await app.connect()
        with pytest.raises(Refused) as refused:
            await app.ask(WRITE, IMAGE, STATE, {"hash": hash_of(image), "confirm": True})
        return refused.value.rc

    assert run(folder, scene) == 8

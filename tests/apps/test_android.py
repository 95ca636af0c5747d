"""What the Android app does around an update, and what it must get back (device-manager-client.md 1.3, 3.2 to 3.4)."""

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
import pytest

from tests.apps.android import MODES, Android
from tests.apps.clock import play
from tests.apps.device import Device, device
from tests.apps.phone import HEADER, IMAGE, STATE, UPLOAD, WRITE, Phone, UpgradeFailed
from tests.apps.radio import Air
from tests.store.builders import hash_of

SMALL: dict[str, Any] = {"smp": {"buf_size": 500}}
"""A device with small frames, so that an image has many."""
SIZE = 24_000
"""Of an image of some fifty such frames, in bytes."""


def offsets(frames: list[bytes]) -> list[int]:
    """Return the offsets in upload requests or replies."""
    chosen = [frame for frame in frames if HEADER.unpack_from(frame)[3::2] == (IMAGE, UPLOAD)]
    return [cbor2.loads(frame[HEADER.size :])["off"] for frame in chosen]


def test_first_request_is_params_in_version_0_with_sequence_255(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[Air, int]:
        async with device(folder) as target:
            app = Android(target.transport, Air(delay_s))
            await app.connect()
            return app.air, app.frame_size

    air, frame_size = play(scene())
    assert air.sent == [bytes.fromhex("00 00 0001 0000 ff 06 a0")]
    assert air.received[0][:8] == bytes.fromhex("01 00 0019 0000 ff 06")
    assert frame_size == 2475


def test_device_tab_gets_an_answer_to_every_request(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[Air, dict[str, object]]:
        async with device(folder) as target:
            app = Android(target.transport, Air(delay_s))
            await app.connect()
            return app.air, dict(await app.open_device_tab())

    air, shown = play(scene())
    assert len(air.received) == len(air.sent) == 7
    assert (shown["memfault"], shown["boot loader"], shown["mode"]) == (8, {"bootloader": "MCUboot"}, {"mode": 3})


@pytest.mark.parametrize("mtu", [23, 65, 498])
@pytest.mark.parametrize("window", [1, 3, 24])
def test_upload_with_a_window_sends_every_chunk_once(folder: Path, window: int, mtu: int, delay_s: float) -> None:
    async def scene() -> tuple[Air, int, bytes]:
        async with device(folder, **SMALL) as target:
            app, image = Android(target.transport, Air(delay_s, mtu), window=window), target.update(SIZE)
            await app.connect()
            await app.upload(image)
            return app.air, len(image), (await target.images())[1]["hash"]

    air, size, digest = play(scene())
    sent = offsets(air.sent)
    assert sent == sorted(set(sent))
    assert offsets(air.received) == [*sent[1:], size]
    assert digest == hash_of(air_image(air))


def air_image(air: Air) -> bytes:
    """Return what was sent in upload requests, one after the other."""
    bodies = (cbor2.loads(frame[HEADER.size :]) for frame in air.sent if frame[4:8:3] == bytes((0, UPLOAD)))
    return b"".join(body["data"] for body in bodies if "data" in body)


@pytest.mark.parametrize("window", [3, 24])
def test_chunk_that_is_lost_is_sent_again_from_the_low_offset(folder: Path, window: int, delay_s: float) -> None:
    async def scene() -> tuple[Air, str]:
        async with device(folder, **SMALL) as target:
            app = Android(target.transport, Air(delay_s, lost={12, 30}), window=window)
            await app.connect()
            await app.upgrade(target.update(SIZE), "test and confirm")
            return app.air, await target.running()

    air, runs = play(scene())
    told = offsets(air.received)
    assert any(later <= earlier for earlier, later in pairwise(told))
    assert runs == "2.0.0 active confirmed"


@pytest.mark.parametrize("window", [1, 3, 24])
def test_replies_that_are_lost_do_not_stop_an_upload(folder: Path, window: int, delay_s: float) -> None:
    async def scene() -> str:
        async with device(folder, **SMALL) as target:
            app = Android(target.transport, Air(delay_s, lost_replies={9, 10, 33}), window=window)
            await app.connect()
            await app.upgrade(target.update(SIZE), "confirm only")
            return await target.running()

    assert play(scene()) == "2.0.0 active confirmed"


@pytest.mark.parametrize("window", [1, 3, 24])
def test_upload_goes_on_by_itself_over_a_new_link_when_one_breaks(folder: Path, window: int, delay_s: float) -> None:
    async def scene() -> tuple[list[int], str]:
        async with device(folder, **SMALL) as target:
            app = Android(target.transport, Air(delay_s, broken_at=25), window=window)
            await app.connect()
            await app.upgrade(target.update(SIZE), "test and confirm")
            return offsets(app.air.sent), await target.running()

    sent, runs = play(scene())
    assert sent.count(0) == 1
    assert runs == "2.0.0 active confirmed"


async def broken_off(app: Phone, uploading: Coroutine[Any, Any, None]) -> None:
    """Begin an upload, and give it up when the link breaks."""
    task = asyncio.create_task(uploading)
    await app.radio.dropped.wait()
    task.cancel()
    await asyncio.wait([task])
    app.air.sent.clear()
    await app.connect()


def test_upload_begun_anew_after_a_broken_link_goes_on_where_it_was(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[list[int], str]:
        async with device(folder, **SMALL) as target:
            app, image = Android(target.transport, Air(delay_s, broken_at=25)), target.update(SIZE)
            await app.connect()
            await broken_off(app, app.upload(image))
            await app.upgrade(image, "test and confirm")
            return offsets(app.air.sent), await target.running()

    sent, runs = play(scene())
    assert sent[0] == 0
    assert sent[1] > 5_000
    assert sent[1:] == sorted(sent[1:])
    assert runs == "2.0.0 active confirmed"


def test_upload_card_goes_one_by_one_and_over_a_broken_link(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[list[int], bytes, bytes]:
        async with device(folder, **SMALL) as target:
            app, image = Android(target.transport, Air(delay_s, broken_at=25)), target.update(SIZE)
            await app.connect()
            await broken_off(app, app.upload_one_by_one(image))
            await app.upload_one_by_one(image)
            return offsets(app.air.sent), (await target.images())[1]["hash"], hash_of(image)

    sent, found, wanted = play(scene())
    assert sent[1] > 5_000
    assert found == wanted


async def rolled_back(target: Device, app: Android) -> None:
    """Have the app's device give up the image between the app's reset and its return."""
    await app.radio.dropped.wait()
    await asyncio.sleep(1)
    assert await target.running() == "2.0.0 active"
    await target.reset()


@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-move", "swap-using-offset"])
def test_image_that_was_rolled_back_is_not_confirmed_blindly(folder: Path, mode: str, delay_s: float) -> None:
    async def scene() -> tuple[str, str, str]:
        async with device(folder, mode) as target:
            app = Android(target.transport, Air(delay_s))
            await app.connect()
            back = asyncio.create_task(rolled_back(target, app))
            with pytest.raises(UpgradeFailed) as failed:
                await app.upgrade(target.update(), "test and confirm")
            await back
            before = await target.running()
            await target.reset()
            return str(failed.value), before, await target.running()

    assert play(scene()) == ("error 1/8", "1.0.0 active confirmed", "1.0.0 active confirmed")


def test_image_that_was_rolled_back_is_confirmed_where_that_is_configured(folder: Path) -> None:
    async def scene() -> str:
        image = {"factory": "factory.bin", "confirm_rolled_back": True}
        async with device(folder, image=image) as target:
            app = Android(target.transport)
            await app.connect()
            back = asyncio.create_task(rolled_back(target, app))
            await app.upgrade(target.update(), "test and confirm")
            await back
            await target.reset()
            return await target.running()

    assert play(scene()) == "2.0.0 active confirmed"


@pytest.mark.parametrize("how", MODES)
def test_what_runs_for_good_already_is_left_alone(folder: Path, how: str) -> None:
    async def scene() -> list[tuple[int, ...]]:
        async with device(folder) as target:
            app, image = Android(target.transport), target.update()
            await app.connect()
            await app.upgrade(image, "confirm only")
            app.air.sent.clear()
            await app.connect()
            await app.upgrade(image, how)
            return [HEADER.unpack_from(frame)[3::2] for frame in app.air.sent]

    assert play(scene()) == [(0, 6), (0, 8), (0, 8), (IMAGE, STATE)]


def test_what_runs_on_trial_already_is_confirmed_without_a_reset(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[str, list[tuple[int, ...]]]:
        async with device(folder) as target:
            app, image = Android(target.transport, Air(delay_s)), target.update()
            await app.connect()
            await app.upgrade(image, "test only")
            app.air.sent.clear()
            await app.connect()
            await app.upgrade(image, "test and confirm")
            return await target.running(), [HEADER.unpack_from(frame)[3::2] for frame in app.air.sent]

    runs, asked = play(scene())
    assert runs == "2.0.0 active confirmed"
    assert asked == [(0, 6), (0, 8), (0, 8), (IMAGE, STATE), (IMAGE, STATE)]


def test_device_with_something_scheduled_is_reset_first(folder: Path, delay_s: float) -> None:
    async def scene() -> str:
        async with device(folder) as target:
            app = Android(target.transport, Air(delay_s))
            await app.connect()
            other = target.update(8000)
            await app.upload(other)
            await app.ask(WRITE, IMAGE, STATE, {"confirm": False, "hash": hash_of(other)})
            await app.upgrade(target.update(), "confirm only")
            return await target.running()

    # The other image runs on trial after the first reset, and no slot is free; the second one gives it up.
    assert play(scene()) == "2.0.0 active confirmed"


def test_settings_are_erased_or_that_is_not_supported(folder: Path) -> None:
    async def scene() -> str:
        async with device(folder) as target:
            app = Android(target.transport)
            await app.connect()
            await app.upgrade(target.update(), "confirm only", erase_settings=True)
            return await target.running()

    assert play(scene()) == "2.0.0 active confirmed"


def test_downgrade_that_is_not_allowed_is_refused_and_shown(folder: Path) -> None:
    async def scene() -> str:
        async with device(folder, bootloader={"mode": "overwrite-only", "downgrade": "by-version"}) as target:
            app, old = Android(target.transport), target.older()
            await app.connect()
            with pytest.raises(UpgradeFailed) as failed:
                await app.upgrade(old, "confirm only")
            return str(failed.value)

    assert play(scene()) == "error 1/27"

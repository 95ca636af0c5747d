"""What the iOS app does around an update, and what it must get back (device-manager-client.md 1.4, 3.1 to 3.4)."""

import asyncio
from pathlib import Path

import pytest

from tests.apps.clock import play
from tests.apps.device import device
from tests.apps.ios import Ios
from tests.apps.phone import IMAGE, OS, PARAMS, RESET, STATE, UPLOAD, WRITE, Refused
from tests.apps.radio import Air
from tests.apps.test_android import SIZE, SMALL, broken_off, offsets
from tests.store.builders import hash_of


@pytest.mark.parametrize("letters", ["sv", "vs"])
def test_device_tab_gets_an_answer_to_every_request(folder: Path, letters: str, delay_s: float) -> None:
    async def scene() -> tuple[Air, dict[str, object]]:
        async with device(folder) as target:
            app = Ios(target.transport, Air(delay_s))
            await app.connect()
            return app.air, dict(await app.open_device_tab(letters))

    air, shown = play(scene())
    assert len(air.received) == len(air.sent) == 6
    assert shown["info"] == {"output": "SMP-DFU-Host 0.1.0"}
    assert shown["memfault"] == 8


@pytest.mark.parametrize("depth", [1, 3, 24])
def test_upload_with_a_pipeline_sends_every_chunk_once(folder: Path, depth: int, delay_s: float) -> None:
    async def scene() -> tuple[list[int], list[int], int]:
        async with device(folder, **SMALL) as target:
            app, image = Ios(target.transport, Air(delay_s), depth=depth), target.update(SIZE)
            await app.connect()
            await app.upgrade(image, "confirm only")
            return offsets(app.air.sent), offsets(app.air.received), len(image)

    sent, told, size = play(scene())
    assert sent == sorted(set(sent))
    assert told == [*sent[1:], size]


@pytest.mark.parametrize("depth", [3, 24])
def test_frames_that_are_lost_are_sent_again_as_they_were(folder: Path, depth: int, delay_s: float) -> None:
    async def scene() -> tuple[Air, str]:
        async with device(folder, **SMALL) as target:
            app = Ios(target.transport, Air(delay_s, lost={2, 9, 20}), depth=depth)
            await app.connect()
            await app.upgrade(target.update(SIZE), "test and confirm")
            return app.air, await target.running()

    air, runs = play(scene())
    for number in (2, 9, 20):
        assert air.sent.count(air.sent[number]) > 1
    assert runs == "2.0.0 active confirmed"


def test_replies_that_are_lost_have_the_same_frames_answered_again(folder: Path, delay_s: float) -> None:
    """Every kind of request of an update comes twice: params, list, first and middle and last chunk, test, confirm."""

    async def scene() -> tuple[list[bytes], str]:
        async with device(folder) as target:
            # Of two replies the first is always lost, and what is sent again gets the second.
            app, image = (
                Ios(target.transport, Air(delay_s, lost_replies=set(range(0, 99, 2))), depth=1),
                target.update(),
            )
            await app.connect()
            await app.read_params()
            await app.images()
            await app.upload(image)
            await app.mark(hash_of(image), confirm=False)
            await target.reset()
            await app.confirm_after(0.0, hash_of(image))
            return app.air.sent, await target.running()

    sent, runs = play(scene())
    assert sent[::2] == sent[1::2]
    assert {frame[4:8:3] for frame in sent} == {bytes((0, command)) for command in (PARAMS, STATE, UPLOAD)}
    assert runs == "2.0.0 active confirmed"


def test_reset_whose_reply_is_lost_still_drops_the_link(folder: Path, delay_s: float) -> None:
    async def scene() -> str:
        async with device(folder) as target:
            app, image = Ios(target.transport, Air(delay_s)), target.update()
            await app.connect()
            await app.read_params()
            await app.upload(image)
            await app.mark(hash_of(image), confirm=True)
            app.air.lost_replies |= set(range(len(app.air.received), 99))
            asking = asyncio.create_task(app.ask(WRITE, OS, RESET, {}))
            await app.radio.dropped.wait()
            asking.cancel()
            return await target.running()

    assert play(scene()) == "2.0.0 active confirmed"


def test_reset_reply_reaches_the_phone_before_the_link_drops(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[bool, float]:
        async with device(folder) as target:
            app = Ios(target.transport, Air(delay_s))
            await app.connect()
            await app.ask(WRITE, OS, RESET, {})
            up, told_s = not app.radio.dropped.is_set(), asyncio.get_running_loop().time()
            await app.radio.dropped.wait()
            return up, asyncio.get_running_loop().time() - told_s

    up, later_s = play(scene())
    assert up
    assert 0.1 < later_s < 3.0


def test_device_can_be_reached_again_in_the_time_that_the_app_gives_it(folder: Path) -> None:
    async def scene() -> float:
        async with device(folder) as target:
            app = Ios(target.transport)
            await app.connect()
            await app.ask(WRITE, OS, RESET, {})
            await app.radio.dropped.wait()
            dropped_s = asyncio.get_running_loop().time()
            await app.connect()
            return asyncio.get_running_loop().time() - dropped_s

    assert play(scene()) < 20.0


@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-move"])
def test_image_that_was_rolled_back_is_not_confirmed_for_being_listed(folder: Path, mode: str, delay_s: float) -> None:
    async def scene() -> tuple[int, str]:
        async with device(folder, mode) as target:
            app, image = Ios(target.transport, Air(delay_s)), target.update()
            await app.connect()
            await app.upgrade(image, "test only")
            await target.reset()
            with pytest.raises(Refused) as refused:
                await app.confirm_after(0.0, hash_of(image))
            await target.reset()
            return refused.value.rc, await target.running()

    assert play(scene()) == (8, "1.0.0 active confirmed")


@pytest.mark.parametrize("depth", [1, 3, 24])
def test_upload_goes_on_by_itself_over_a_new_link_when_one_breaks(folder: Path, depth: int, delay_s: float) -> None:
    async def scene() -> tuple[list[int], str]:
        async with device(folder, **SMALL) as target:
            app = Ios(target.transport, Air(delay_s, broken_at=25), depth=depth)
            await app.connect()
            await app.upgrade(target.update(SIZE), "test and confirm")
            return offsets(app.air.sent), await target.running()

    sent, runs = play(scene())
    assert sent.count(0) == 1
    assert runs == "2.0.0 active confirmed"


def test_upload_begun_anew_after_a_broken_link_goes_on_where_it_was(folder: Path, delay_s: float) -> None:
    async def scene() -> tuple[list[int], str]:
        async with device(folder, **SMALL) as target:
            app, image = Ios(target.transport, Air(delay_s, broken_at=25)), target.update(SIZE)
            await app.connect()
            await app.read_params()
            await broken_off(app, app.upload(image))
            await app.upgrade(image, "test and confirm")
            return offsets(app.air.sent), await target.running()

    sent, runs = play(scene())
    assert sent[1] > 5_000
    assert runs == "2.0.0 active confirmed"


def test_version_of_the_replies_is_that_of_the_requests(folder: Path) -> None:
    """The app goes on in the version of the last reply, so an old one must never come back by itself."""

    async def scene() -> set[int]:
        async with device(folder) as target:
            app = Ios(target.transport)
            await app.connect()
            await app.upgrade(target.update(), "test and confirm")
            await app.open_device_tab()
            return {reply[0] >> 3 & 3 for reply in app.air.received}

    assert play(scene()) == {1}


def test_upload_names_neither_an_image_nor_upgrade(folder: Path) -> None:
    async def scene() -> bytes:
        async with device(folder) as target:
            app = Ios(target.transport)
            await app.connect()
            await app.upgrade(target.update(), "confirm only")
            return next(frame for frame in app.air.sent if frame[4:8:3] == bytes((0, UPLOAD)) and frame[5] == IMAGE)

    first = play(scene())
    assert b"image" not in first
    assert b"upgrade" not in first

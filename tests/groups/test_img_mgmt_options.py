"""Options of the image group that Zephyr has as build options."""

from pathlib import Path

import pytest

from smp_dfu_host.config import parse
from smp_dfu_host.errors import ConfigError
from smp_dfu_host.groups.img_mgmt import ImageGroup
from tests.groups.bench import READ, WRITE, GroupBench
from tests.store.builders import hash_of, image

NEW = image((2, 0, 0))
STATE, UPLOAD, ERASE, SLOT_INFO = 0, 1, 5, 6
IN_USE = {"err": {"group": 1, "rc": 9}}


async def scheduled(folder: Path, *, confirm: bool, allow: bool) -> GroupBench:
    """Return a target whose slot 1 is for the next boot."""
    bench = GroupBench(ImageGroup, folder, image={"allow_erase_pending": allow})
    bench.store.load(1, NEW)
    assert "images" in await bench.ask(WRITE, STATE, {"hash": hash_of(NEW), "confirm": confirm})
    return bench


async def test_a_frugal_list_has_no_flags_that_are_false(tmp_path: Path) -> None:
    bench = GroupBench(ImageGroup, tmp_path, image={"frugal_list": True})
    bench.store.load(1, NEW)
    reply = await bench.ask(READ, STATE)
    first, second = reply["images"]
    assert list(reply) == ["images"]
    assert list(first) == ["slot", "version", "hash", "bootable", "confirmed", "active"]
    assert second == {"slot": 1, "version": "2.0.0", "hash": hash_of(NEW), "bootable": True}


async def test_a_scheduled_image_can_be_erased_and_replaced(tmp_path: Path) -> None:
    for number, confirm in enumerate((False, True)):
        bench = await scheduled(tmp_path / str(number), confirm=confirm, allow=True)
        first = {"off": 0, "len": len(NEW), "data": NEW[:40]}
        assert await bench.ask(WRITE, UPLOAD, first) == {"off": 40}
        bench = await scheduled(tmp_path / f"other{number}", confirm=confirm, allow=True)
        assert await bench.ask(WRITE, ERASE) == {}


async def test_a_scheduled_image_is_kept_where_configured(tmp_path: Path) -> None:
    for number, confirm in enumerate((False, True)):
        bench = await scheduled(tmp_path / str(number), confirm=confirm, allow=False)
        assert await bench.ask(WRITE, UPLOAD, {"off": 0, "len": len(NEW), "data": NEW[:40]}) == IN_USE
        assert await bench.ask(WRITE, ERASE) == IN_USE
        assert len((await bench.ask(READ, STATE))["images"]) == 2
    bench = GroupBench(ImageGroup, tmp_path / "free", image={"allow_erase_pending": False})
    bench.store.load(1, NEW)
    assert await bench.ask(WRITE, ERASE) == {}


@pytest.mark.parametrize(("number", "taken"), [(0, True), (1, False), (2, True), (3, False), (99, False)])
async def test_an_upload_may_name_its_slot(tmp_path: Path, number: int, taken: bool) -> None:
    bench = GroupBench(ImageGroup, tmp_path, image={"direct_upload": True})
    first = {"image": number, "off": 0, "len": len(NEW), "data": NEW[:40]}
    assert await bench.ask(WRITE, UPLOAD, first) == ({"off": 40} if taken else IN_USE)
    (entry,) = (await bench.ask(READ, SLOT_INFO))["images"]
    assert [slot["upload_image_id"] for slot in entry["slots"]] == [1, 2]


async def test_where_the_first_slot_is_free_an_upload_may_name_that(tmp_path: Path) -> None:
    bench = GroupBench(ImageGroup, tmp_path, bootloader={"mode": "direct-xip"}, image={"direct_upload": True})
    bench.store.load(1, NEW)
    bench.store.boot()
    first = {"off": 0, "len": len(NEW), "data": NEW[:40]}
    assert await bench.ask(WRITE, UPLOAD, {"image": 2, **first}) == IN_USE
    assert await bench.ask(WRITE, UPLOAD, {"image": 1, **first}) == {"off": 40}


def test_slots_are_named_where_there_is_one_image() -> None:
    with pytest.raises(ConfigError, match=r"image.direct_upload = true: with bootloader.images = 2, an upload names"):
        parse({"bootloader": {"images": 2}, "image": {"direct_upload": True}}, Path())

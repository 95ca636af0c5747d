"""The image group of a device with several images, and of the other boot loader modes."""

from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.groups.img_mgmt import ImageGroup
from tests.groups.bench import READ, WRITE, GroupBench
from tests.store.builders import SLOT, hash_of, image

STATE, UPLOAD, ERASE, SLOT_INFO = 0, 1, 5, 6
NEW = image((2, 0, 0), b"for image 1")


def bench_of(folder: Path, images: int = 2, **sections: Any) -> GroupBench:
    build = {"images": images, **sections.pop("bootloader", {})}
    return GroupBench(ImageGroup, folder, bootloader=build, **sections)


def err(rc: int) -> dict[str, Any]:
    return {"err": {"group": 1, "rc": rc}}


async def upload(bench: GroupBench, number: int, data: bytes = NEW) -> dict[str, Any]:
    return await bench.ask(WRITE, UPLOAD, {"image": number, "off": 0, "len": len(data), "data": data})


async def listed(bench: GroupBench) -> list[tuple[int, int, str]]:
    reply = await bench.ask(READ, STATE)
    return [(each["image"], each["slot"], each["version"]) for each in reply["images"]]


@pytest.mark.parametrize("images", [2, 3])
async def test_images_are_listed_with_their_numbers(tmp_path: Path, images: int) -> None:
    bench = bench_of(tmp_path, images)
    assert await listed(bench) == [(number, 0, "0.0.0") for number in range(images)]
    assert await upload(bench, 1) == {"off": len(NEW)}
    assert (1, 1, "2.0.0") in await listed(bench)


async def test_an_image_of_a_number_that_does_not_exist_finds_no_slot(tmp_path: Path) -> None:
    assert await upload(bench_of(tmp_path), 2) == err(9)


async def test_slot_info_has_every_slot_of_every_image(tmp_path: Path) -> None:
    reply = await bench_of(tmp_path, flash={"slots": ["512x16", "512x15"], "max_sectors": 16}).ask(READ, SLOT_INFO)
    sizes = [(each["image"], slot["slot"], slot["size"]) for each in reply["images"] for slot in each["slots"]]
    assert sizes == [(0, 0, SLOT), (0, 1, SLOT - 512), (1, 0, SLOT), (1, 1, SLOT - 512)]
    assert [slot.get("upload_image_id") for each in reply["images"] for slot in each["slots"]] == [None, 0, None, 1]
    assert {each["max_image_size"] for each in reply["images"]} == {SLOT - 1024}


async def test_images_are_tested_and_confirmed_each_by_itself(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    await upload(bench, 1)
    digest = hash_of(NEW)
    reply = await bench.ask(WRITE, STATE, {"hash": digest})
    assert [each["pending"] for each in reply["images"]] == [False, False, True]
    bench.store.boot()
    assert await listed(bench) == [(0, 0, "0.0.0"), (1, 0, "2.0.0"), (1, 1, "0.0.0")]
    assert await bench.ask(WRITE, STATE, {"hash": digest, "confirm": True}) == err(32)
    bench.store.boot()
    assert (1, 0, "0.0.0") in await listed(bench)


async def test_an_application_may_confirm_all_images_if_that_is_configured(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, image={"confirm_others": "any"})
    await upload(bench, 1)
    await bench.ask(WRITE, STATE, {"hash": hash_of(NEW)})
    bench.store.boot()
    reply = await bench.ask(WRITE, STATE, {"hash": hash_of(NEW), "confirm": True})
    assert [each["confirmed"] for each in reply["images"]] == [True, True, False]


async def test_an_update_of_another_image_may_be_confirmed_by_default(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    await upload(bench, 1)
    reply = await bench.ask(WRITE, STATE, {"hash": hash_of(NEW), "confirm": True})
    assert reply["images"][2]["permanent"]
    bench = bench_of(tmp_path / "none", image={"confirm_others": "none"})
    await upload(bench, 1)
    assert await bench.ask(WRITE, STATE, {"hash": hash_of(NEW), "confirm": True}) == err(32)


async def test_slots_of_all_images_can_be_erased_but_those_that_run(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    await upload(bench, 1)
    assert await bench.ask(WRITE, ERASE, {"slot": 3}) == {}
    assert await bench.ask(WRITE, ERASE, {"slot": 2}) == err(9)
    assert len(await listed(bench)) == 2


async def test_direct_xip_runs_one_slot_of_each_image(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, bootloader={"mode": "direct-xip"})
    await upload(bench, 1)
    bench.store.boot()
    reply = await bench.ask(READ, STATE)
    assert [(each["image"], each["slot"], each["active"]) for each in reply["images"]] == [
        (0, 0, True),
        (1, 0, False),
        (1, 1, True),
    ]
    assert await bench.ask(WRITE, STATE, {"hash": hash_of(NEW)}) == {"rc": 8}


async def test_an_image_for_another_slot_is_refused_on_its_first_chunk(tmp_path: Path) -> None:
    fixed = image((3, 0, 0), flags=0x100, load_addr=0xC000)
    xip = {"mode": "direct-xip"}
    body = {"off": 0, "len": len(fixed), "data": fixed[:40]}
    assert await bench_of(tmp_path, 1, bootloader=xip).ask(WRITE, UPLOAD, body) == err(25)
    off = {"check_address": False, "validate_upload": False}
    assert await bench_of(tmp_path / "off", 1, bootloader=xip, image=off).ask(WRITE, UPLOAD, body) == {"off": 40}


async def test_a_single_slot_has_no_room_for_uploads(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, 1, bootloader={"mode": "single-slot"})
    assert await upload(bench, 0) == err(9)
    info = await bench.ask(READ, SLOT_INFO)
    assert [list(slot) for slot in info["images"][0]["slots"]] == [["slot", "size"]] * 2


@pytest.mark.parametrize(
    ("data", "rc"),
    [
        (image(flags=0x4), 22),
        (image(flags=0x200), 22),
        (image(payload=bytes(SLOT)), 30),
        (image()[:-40], 4),
        (image()[:-1] + b"\0", 24),
        (image()[:-34] + b"\xff\x7f" + image()[-32:], 5),
        (image((0, 0, 0)), 27),
    ],
    ids=["encrypted", "compressed", "too large", "no TLVs", "wrong hash", "broken TLV", "older"],
)
async def test_bad_images_are_refused_with_their_code(tmp_path: Path, data: bytes, rc: int) -> None:
    (tmp_path / "factory.bin").write_bytes(image((0, 0, 1)))
    sections = {"bootloader": {"downgrade": "by-version"}, "image": {"factory": "factory.bin"}}
    bench = bench_of(tmp_path, 1, **sections)
    reply = await bench.ask(WRITE, UPLOAD, {"off": 0, "len": min(len(data), SLOT), "data": data[:40]})
    if "off" in reply:
        reply = await bench.ask(WRITE, UPLOAD, {"off": 40, "data": data[40:]})
    assert reply == err(rc)


async def test_a_padded_image_is_refused_before_its_padding(tmp_path: Path) -> None:
    data = (image()[:-1] + b"\0").ljust(SLOT, b"\xff")
    bench = bench_of(tmp_path, 1)
    assert await bench.ask(WRITE, UPLOAD, {"off": 0, "len": SLOT, "data": data[:40]}) == {"off": 40}
    assert await bench.ask(WRITE, UPLOAD, {"off": 40, "data": data[40:400]}) == err(24)
    assert await bench.ask(WRITE, UPLOAD, {"off": 400, "data": data[400:]}) == {"off": 0}

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from smp_dfu_host.dispatch.hooks import Event, Notice, UploadStatus
from smp_dfu_host.errors import GroupError, MgmtError
from smp_dfu_host.groups import img_mgmt
from smp_dfu_host.groups.img_mgmt import ImageGroup
from smp_dfu_host.store.upload import Uploads
from tests.fakes import UDP
from tests.groups.bench import READ, WRITE, GroupBench
from tests.mcuboot.images import pem
from tests.store.builders import SLOT, hash_of, image, slot_bytes

STATE, UPLOAD, ERASE, SLOT_INFO = 0, 1, 5, 6
NEW = image((2, 0, 0), bytes(300))
SHA = hashlib.sha256(NEW).digest()


@pytest.fixture
def bench(tmp_path: Path) -> GroupBench:
    return GroupBench(ImageGroup, tmp_path)


def err(rc: int) -> dict[str, Any]:
    return {"err": {"group": 1, "rc": rc}}


async def first(bench: GroupBench, count: int = 100, version: int = 1, **others: Any) -> dict[str, Any]:
    body = {"off": 0, "len": len(NEW), "sha": SHA, "data": NEW[:count]} | others
    return await bench.ask(
        WRITE, UPLOAD, {key: value for key, value in body.items() if value is not None}, version=version
    )


async def go_on(bench: GroupBench, off: int, count: int = 100) -> dict[str, Any]:
    return await bench.ask(WRITE, UPLOAD, {"off": off, "data": NEW[off : off + count]})


async def upload(bench: GroupBench, **others: Any) -> dict[str, Any]:
    reply = await first(bench, **others)
    while "off" in reply and reply["off"] < len(NEW):
        reply = await go_on(bench, reply["off"])
    return reply


async def test_the_list_has_zephyrs_fields(bench: GroupBench) -> None:
    reply = await bench.ask(READ, STATE, b"garbage")
    (entry,) = reply["images"]
    assert list(reply) == ["images", "splitStatus"]
    assert list(entry) == ["slot", "version", "hash", "bootable", "pending", "confirmed", "active", "permanent"]
    assert (entry["slot"], entry["version"], entry["active"], entry["confirmed"]) == (0, "0.0.0", True, True)


async def test_an_upload_test_and_confirm(bench: GroupBench) -> None:
    assert await upload(bench) == {"off": len(NEW), "match": True}
    reply = await bench.ask(WRITE, STATE, {"hash": hash_of(NEW)})
    assert [(each["version"], each["pending"]) for each in reply["images"]] == [("0.0.0", False), ("2.0.0", True)]
    bench.store.boot()
    reply = await bench.ask(WRITE, STATE, {"confirm": True})
    assert [(each["version"], each["confirmed"]) for each in reply["images"]] == [("2.0.0", True), ("0.0.0", False)]
    assert bench.told()[-3:] == ["IMG_DFU_CONFIRMED", "IMG_IMAGE_SLOT_STATE", "IMG_IMAGE_SLOT_STATE"]


@pytest.mark.parametrize(
    ("body", "rc", "v0"),
    [
        ({}, 24, 3),
        ({"hash": bytes(31)}, 24, 3),
        ({"hash": bytes(32)}, 8, 1),
        ({"hash": bytes(32), "confirm": True}, 8, 1),
    ],
)
async def test_state_writes_are_refused_by_code(bench: GroupBench, body: dict[str, Any], rc: int, v0: int) -> None:
    assert await bench.ask(WRITE, STATE, body) == err(rc)
    assert await bench.ask(WRITE, STATE, body, version=0) == {"rc": v0}


async def test_the_running_image_is_not_tested(bench: GroupBench) -> None:
    running = (await bench.ask(READ, STATE))["images"][0]["hash"]
    assert await bench.ask(WRITE, STATE, {"hash": running}) == err(33)


async def test_a_rolled_back_image_is_not_there_to_be_confirmed(bench: GroupBench) -> None:
    await upload(bench)
    await bench.ask(WRITE, STATE, {"hash": hash_of(NEW)})
    bench.store.boot()
    bench.store.boot()
    assert await bench.ask(WRITE, STATE, {"hash": hash_of(NEW), "confirm": True}) == err(8)


async def test_direct_xip_has_no_state_write(tmp_path: Path) -> None:
    bench = GroupBench(ImageGroup, tmp_path, bootloader={"mode": "direct-xip"})
    assert await bench.ask(WRITE, STATE, {"confirm": True}) == {"rc": 8}


async def test_a_store_that_cannot_be_read_is_a_flash_error(bench: GroupBench) -> None:
    bench.store.layout.slot(1).unlink()
    assert await bench.ask(READ, STATE) == err(11)
    assert await bench.ask(READ, SLOT_INFO) == err(11)
    assert await bench.ask(WRITE, STATE, {"confirm": True}) == err(12)
    assert await bench.ask(WRITE, ERASE) == err(13)
    assert await first(bench) == err(10)


async def test_a_trailer_that_takes_no_mark_is_refused_by_code(bench: GroupBench) -> None:
    await upload(bench)
    with bench.store.layout.slot(1).open("r+b") as file:
        file.seek(SLOT - 1)
        file.write(b"\x00")
    assert await bench.ask(WRITE, STATE, {"hash": hash_of(NEW)}) == err(23)


async def test_a_hook_adds_fields_to_the_list(bench: GroupBench) -> None:
    bench.parts.hooks.register(Event.IMG_IMAGE_SLOT_STATE, lambda notice: notice.data.fields.update(extra=1))
    assert (await bench.ask(READ, STATE))["images"][0]["extra"] == 1


@pytest.mark.parametrize(
    ("others", "rc", "v0", "rsn"),
    [
        ({"off": None}, 20, 3, "header malformed"),
        ({"off": 0xFFFFFFFF}, 20, 3, "header malformed"),
        ({"len": None}, 21, 3, "header malformed"),
        ({"len": 0xFFFFFFFF}, 21, 3, "header malformed"),
        ({"data": None}, 22, 3, "header malformed"),
        ({"data": bytes(32)}, 23, 1, "magic mismatch"),
        ({"sha": bytes(33)}, 24, 3, None),
        ({"len": SLOT + 1}, 30, 1, "img too large"),
        ({"len": 99}, 31, 1, "data overrun"),
        ({"data": image(flags=0x10)}, 22, 3, "header malformed"),
    ],
)
async def test_uploads_are_refused_by_code_and_end_the_session(
    bench: GroupBench, others: dict[str, Any], rc: int, v0: int, rsn: str | None
) -> None:
    assert await first(bench, **({"sha": b"x"} | others), version=0) == {"rc": v0} | ({"rsn": rsn} if rsn else {})
    await first(bench)
    assert await first(bench, **({"sha": b"x"} | others)) == err(rc)
    assert await go_on(bench, 100) == {"off": 0}


async def test_a_chunk_past_the_end_ends_the_session(bench: GroupBench) -> None:
    await first(bench)
    assert await bench.ask(WRITE, UPLOAD, {"off": 100, "data": bytes(len(NEW))}) == err(31)
    assert await go_on(bench, 100) == {"off": 0}


async def test_a_request_that_does_not_decode_keeps_the_session(bench: GroupBench) -> None:
    await first(bench)
    assert await bench.ask(WRITE, UPLOAD, {"off": "x"}) == {"rc": 3}
    assert await go_on(bench, 100) == {"off": 200}


async def test_offsets_are_corrected_and_resumed_without_events(bench: GroupBench) -> None:
    await first(bench)
    bench.told()
    assert await go_on(bench, 300) == {"off": 100}
    assert await first(bench) == {"off": 100}
    assert bench.told() == []


async def test_empty_data_is_answered_with_the_offset(bench: GroupBench) -> None:
    await first(bench)
    assert await bench.ask(WRITE, UPLOAD, {"off": 100}) == {"off": 100}


async def test_match_is_told_with_a_sha_only(bench: GroupBench) -> None:
    assert await upload(bench, sha=None) == {"off": len(NEW)}
    assert await upload(bench, sha=bytes(32)) == {"off": len(NEW), "match": False}


async def test_what_is_there_already_is_not_uploaded_again(bench: GroupBench) -> None:
    await upload(bench)
    bench.told()
    assert await first(bench) == {"off": len(NEW), "match": True}
    (status,) = [data.status for event, data in bench.events if event is Event.CMD_STATUS]
    assert status is UploadStatus.COMPLETE
    assert bench.told() == ["IMG_DFU_CHUNK", "IMG_DFU_STARTED", "CMD_STATUS"]
    assert await go_on(bench, 100) == {"off": 0}


async def test_without_image_check_there_is_no_match(tmp_path: Path) -> None:
    bench = GroupBench(ImageGroup, tmp_path, image={"check_upload": False})
    assert await upload(bench) == {"off": len(NEW)}
    assert await first(bench) == {"off": 100}


async def test_only_an_image_signed_by_one_of_the_keys_is_accepted(tmp_path: Path) -> None:
    ours, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (tmp_path / "key.pem").write_bytes(pem(ours))
    (tmp_path / "factory.bin").write_bytes(image((1, 0, 0), key=ours))
    bench = GroupBench(ImageGroup, tmp_path, bootloader={"keys": ["key.pem"]}, image={"factory": "factory.bin"})
    for data, answer in ((image((2, 0, 0)), err(24)), (image((2, 0, 0), key=other), err(24))):
        assert await bench.ask(WRITE, UPLOAD, {"off": 0, "len": len(data), "data": data}) == answer
    data = image((2, 0, 0), key=ours)
    assert await bench.ask(WRITE, UPLOAD, {"off": 0, "len": len(data), "data": data}) == {"off": len(data)}


async def test_what_the_boot_loader_refuses_is_refused_with_the_last_chunk(tmp_path: Path) -> None:
    bench = GroupBench(ImageGroup, tmp_path)
    data = NEW[:-1] + bytes([NEW[-1] ^ 1])
    body: dict[str, Any] = {"off": 0, "len": len(data), "data": data}
    assert await bench.ask(WRITE, UPLOAD, body) == err(24)
    assert slot_bytes(tmp_path, 1) == b"\xff" * SLOT
    lenient = GroupBench(ImageGroup, tmp_path, image={"validate_upload": False})
    assert await lenient.ask(WRITE, UPLOAD, body) == {"off": len(data)}


async def test_an_upload_tells_its_steps(bench: GroupBench) -> None:
    await first(bench, 150)
    assert bench.told() == ["IMG_DFU_CHUNK", "IMG_DFU_STARTED", "IMG_DFU_CHUNK_WRITE_COMPLETE", "CMD_STATUS"]
    await go_on(bench, 150)
    assert bench.told() == ["IMG_DFU_CHUNK", "IMG_DFU_CHUNK_WRITE_COMPLETE", "CMD_STATUS"]
    await go_on(bench, 250, 999)
    assert [data.status for event, data in bench.events if event is Event.CMD_STATUS] == [UploadStatus.ONGOING]
    assert bench.told() == ["IMG_DFU_CHUNK", "IMG_DFU_PENDING", "CMD_STATUS"]


async def test_failed_checks_tell_twice_that_it_stopped(bench: GroupBench) -> None:
    await first(bench, data=bytes(32))
    assert bench.told() == ["IMG_DFU_STOPPED", "IMG_DFU_STOPPED"]


@pytest.mark.parametrize(
    ("refusal", "reply", "off"), [(MgmtError(11), {"rc": 11}, 0), (GroupError(1, 300), err(300), 100)]
)
async def test_a_hook_that_refuses_with_rc_ends_the_session(
    bench: GroupBench, refusal: Exception, reply: dict[str, Any], off: int
) -> None:
    await first(bench)

    def refuse(notice: Notice) -> None:
        assert (notice.data.off, notice.data.size, notice.data.slot, notice.data.peer) == (100, len(NEW), 1, UDP)
        raise refusal

    bench.parts.hooks.register(Event.IMG_DFU_CHUNK, refuse)
    assert await go_on(bench, 100) == reply
    bench.parts.hooks.unregister(refuse)
    assert await bench.ask(WRITE, UPLOAD, {"off": 50, "data": b"x"}) == {"off": off}


async def test_hooks_that_cannot_refuse_do_not(bench: GroupBench) -> None:
    def refuse(_notice: Notice) -> None:
        raise MgmtError(11)

    bench.parts.hooks.register(Event.IMG_DFU_STARTED | Event.IMG_DFU_PENDING, refuse)
    assert await upload(bench) == {"off": len(NEW), "match": True}


async def test_a_failed_write_ends_the_session(bench: GroupBench) -> None:
    def fill(_notice: Notice) -> None:
        bench.store.layout.slot(1).unlink()

    bench.parts.hooks.register(Event.IMG_DFU_STARTED, fill)
    assert await first(bench) == err(12)
    assert bench.told() == ["IMG_DFU_CHUNK", "IMG_DFU_STARTED", "IMG_DFU_STOPPED", "CMD_STATUS"]


@pytest.mark.parametrize(("chunk_s", "syncs"), [(0.0, 1), (img_mgmt.SYNC_S / 10, 2)])
async def test_a_long_upload_is_synced_on_the_way_but_not_all_the_time(
    tmp_path: Path, chunk_s: float, syncs: int
) -> None:
    """A fast one is synced as often as it takes to send again what a power cut would take back."""
    flash = {"sector_size": 4096, "sectors": 64}
    bench = GroupBench(ImageGroup, tmp_path, flash=flash)
    data = image((2, 0, 0), bytes(3 * img_mgmt.SYNC_SIZE))
    body: dict[str, Any] = {"off": 0, "len": len(data), "data": data[:2000]}
    tasks = set()
    reply = await bench.ask(WRITE, UPLOAD, body)
    while reply["off"] < len(data):
        bench.parts.clock.advance(chunk_s)
        reply = await bench.ask(WRITE, UPLOAD, {"off": reply["off"], "data": data[reply["off"] :][:2000]})
        tasks |= (now := {task for task in asyncio.all_tasks() if task.get_name() == "upload sync"})
        if now:
            await asyncio.wait(now)
    assert len(tasks) == syncs
    assert slot_bytes(tmp_path, 1).startswith(data)


async def test_an_upload_ends_whatever_became_of_the_last_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = GroupBench(ImageGroup, tmp_path)
    monkeypatch.setattr(img_mgmt, "SYNC_SIZE", 1)
    monkeypatch.setattr(Uploads, "sync", lambda _self: print(1 // 0))
    assert await upload(bench) == {"off": len(NEW), "match": True}


async def test_another_owner_of_the_lock_begins_anew(bench: GroupBench) -> None:
    await first(bench)
    bench.store.drop_upload(UDP.owner)
    assert await go_on(bench, 100) == {"off": 0}


async def test_erase_takes_the_slot_that_does_not_run(bench: GroupBench, tmp_path: Path) -> None:
    await upload(bench)
    assert await bench.ask(WRITE, ERASE) == {}
    assert slot_bytes(tmp_path, 1) == b"\xff" * SLOT
    assert await bench.ask(WRITE, ERASE, {"slot": 1}) == {}


async def test_log_says_what_clients_change(bench: GroupBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await upload(bench)
    await upload(bench)
    await bench.ask(WRITE, STATE, {"hash": hash_of(NEW)})
    await bench.ask(WRITE, ERASE)
    await bench.ask(WRITE, STATE, {"confirm": True})
    said = [message.removeprefix(f"{UDP}: ") for message in caplog.messages]
    assert said == [
        f"upload of {len(NEW)} bytes to slot 1",
        "upload to slot 1 done",
        f"upload of {len(NEW)} bytes to slot 1",
        "upload to slot 1 done, the image is there already",
        f"image {hash_of(NEW).hex()[:16]} is to be tested",
        "slot 1 is erased",
        "image that runs is confirmed",
    ]


async def test_erase_of_the_running_slot_keeps_the_upload(bench: GroupBench) -> None:
    await first(bench)
    bench.told()
    assert await bench.ask(WRITE, ERASE, {"slot": 0}) == err(9)
    assert await bench.ask(WRITE, ERASE, {"slot": 0}, version=0) == {"rc": 6}
    assert bench.told() == []
    assert await go_on(bench, 100) == {"off": 200}


@pytest.mark.parametrize(("slot", "rc"), [(2, 14), (3, 14), (9, 10), (0xFFFFFFFF, 10)])
async def test_erase_of_no_slot_ends_the_upload(bench: GroupBench, slot: int, rc: int) -> None:
    await first(bench)
    bench.told()
    assert await bench.ask(WRITE, ERASE, {"slot": slot}) == err(rc)
    assert bench.told() == ["IMG_DFU_STOPPED"]
    assert await go_on(bench, 100) == {"off": 0}


@pytest.mark.parametrize("body", [{"slot": -1}, {"slot": "1"}, b"", []])
async def test_erase_decodes_its_request(bench: GroupBench, body: object) -> None:
    assert await bench.ask(WRITE, ERASE, body) == {"rc": 3}


async def test_slot_info_tells_sizes_and_where_an_upload_goes(bench: GroupBench) -> None:
    slots = [{"slot": 0, "size": SLOT}, {"slot": 1, "size": SLOT, "upload_image_id": 0}]
    expected = {"images": [{"image": 0, "slots": slots, "max_image_size": bench.store.max_image_size()}]}
    assert await bench.ask(READ, SLOT_INFO, b"garbage") == expected
    assert bench.told() == ["IMG_SLOT_INFO_SLOT", "IMG_SLOT_INFO_SLOT", "IMG_SLOT_INFO_IMAGE"]


async def test_hooks_add_to_slot_info(bench: GroupBench) -> None:
    events = Event.IMG_SLOT_INFO_SLOT | Event.IMG_SLOT_INFO_IMAGE
    bench.parts.hooks.register(events, lambda notice: notice.data.fields.update(extra=1))
    (entry,) = (await bench.ask(READ, SLOT_INFO))["images"]
    assert (entry["extra"], entry["slots"][1]["extra"]) == (1, 1)

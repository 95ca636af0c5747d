"""mcumgr-toolkit does all that it can: `python -m tests.clients.drive_toolkit udp|console|raw ADDRESS IMAGE`.

It speaks the newer version of the protocol alone. Prints `METHOD: ok` for each that did what it should.
"""

import binascii
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from mcumgr_toolkit import MCUmgrClient, mcuboot_get_image_info

FILE, SETTING = "/lfs1/note", "app/colour"
BACK_S = 60.0
ELSEWHERE = {"serial", "raw_serial", "udp", "ble", "usb_serial", "raw_usb_serial"}
"""How to connect: three of them are what this is called with, the others need hardware."""
MOMENT = datetime(2031, 2, 3, 4, 5, 6)  # noqa: DTZ001  (as the device has it: without a zone)

Step = tuple[str, Callable[[], object], Callable[[Any], object]]
"""The method's name, its call, and whether the answer is as it should be."""


def nothing(answer: object) -> bool:
    return answer is None


def methods() -> set[str]:
    """Return the names of all that the client can do."""
    return {name for name in vars(MCUmgrClient) if not name.startswith("_")} - ELSEWHERE


def connect(transport: str, address: str) -> MCUmgrClient:
    match transport:
        case "udp":
            host, _, port = address.rpartition(":")
            return MCUmgrClient.udp(host, int(port), 10_000)
        case "raw":
            return MCUmgrClient.raw_serial(address, timeout_ms=10_000)
    return MCUmgrClient.serial(address, timeout_ms=10_000)


def set_up(client: MCUmgrClient) -> Iterator[Step]:
    yield "set_timeout_ms", lambda: client.set_timeout_ms(10_000), nothing
    yield "set_retries", lambda: client.set_retries(1), nothing
    yield "set_frame_size", lambda: client.set_frame_size(1000), nothing
    yield "use_auto_frame_size", lambda: client.use_auto_frame_size(), nothing
    yield "check_connection", lambda: client.check_connection(), nothing


def os_steps(client: MCUmgrClient) -> Iterator[Step]:
    yield "os_echo", lambda: client.os_echo("x" * 1400), lambda a: a == "x" * 1400
    yield "os_task_statistics", lambda: client.os_task_statistics(), lambda a: len(a) > 0
    yield "os_memory_pool_statistics", lambda: client.os_memory_pool_statistics(), lambda a: len(a) > 0
    yield "os_set_datetime", lambda: client.os_set_datetime(MOMENT), nothing
    yield "os_get_datetime", lambda: client.os_get_datetime(), lambda a: 0 <= (a - MOMENT).total_seconds() < 60
    yield "os_mcumgr_parameters", lambda: client.os_mcumgr_parameters(), lambda a: a.buf_count == 4
    yield "os_application_info", lambda: client.os_application_info("sv"), lambda a: a.startswith("SMP-DFU-Host ")
    yield "os_bootloader_info", lambda: client.os_bootloader_info(), lambda a: a["name"] == "MCUboot"
    yield "raw_command", lambda: client.raw_command(True, 0, 0, {"d": "raw"}), lambda a: a == {"r": "raw"}


def store_steps(client: MCUmgrClient) -> Iterator[Step]:
    yield "stats_list_groups", lambda: client.stats_list_groups(), lambda a: "smp" in a
    yield "stats_get_group_data", lambda: client.stats_get_group_data("smp"), lambda a: a["requests"] > 1
    yield "settings_write", lambda: client.settings_write(SETTING, b"green"), nothing
    yield "settings_read", lambda: client.settings_read(SETTING), lambda a: a == b"green"
    yield "settings_read_ext", lambda: client.settings_read_ext(SETTING, 16), lambda a: a.value == b"green"
    yield "settings_commit", lambda: client.settings_commit(), nothing
    yield "settings_save", lambda: client.settings_save(), nothing
    yield "settings_load", lambda: client.settings_load(), nothing
    yield "settings_delete", lambda: client.settings_delete(SETTING), nothing
    yield "zephyr_erase_storage", lambda: client.zephyr_erase_storage(), nothing


def file_steps(client: MCUmgrClient, data: bytes) -> Iterator[Step]:
    crc, digest = binascii.crc32(data).to_bytes(4, "big"), hashlib.sha256(data).digest()
    yield "fs_file_upload", lambda: client.fs_file_upload(FILE, data), nothing
    yield "fs_file_close", lambda: client.fs_file_close(), nothing
    yield "fs_file_status", lambda: client.fs_file_status(FILE), lambda a: a.length == len(data)
    yield "fs_file_download", lambda: client.fs_file_download(FILE), lambda a: a == data
    yield (
        "fs_supported_checksum_types",
        lambda: client.fs_supported_checksum_types(),
        lambda a: set(a) == {"crc32", "sha256"},
    )
    yield "fs_file_checksum", lambda: client.fs_file_checksum(FILE, "sha256"), lambda a: a.output == digest
    yield "fs_file_checksum", lambda: client.fs_file_checksum(FILE, "crc32"), lambda a: a.output == crc
    yield "fs_file_upload", lambda: client.fs_file_upload("/lfs1/empty", b""), nothing
    yield "fs_file_download", lambda: client.fs_file_download("/lfs1/empty"), lambda a: a == b""


def other_steps(client: MCUmgrClient) -> Iterator[Step]:
    groups = [0, 1, 2, 3, 8, 9, 10, 63]
    yield "shell_execute", lambda: client.shell_execute(["greet", "you"]), lambda a: "hello you" in a
    yield "enum_get_group_count", lambda: client.enum_get_group_count(), lambda a: a == len(groups)
    yield "enum_get_group_ids", lambda: client.enum_get_group_ids(), lambda a: sorted(a) == groups
    yield "enum_get_group_id", lambda: client.enum_get_group_id(0), lambda a: a in groups
    yield "enum_iter_group_ids", lambda: client.enum_iter_group_ids(), lambda a: sorted(a) == groups
    yield "enum_get_group_details", lambda: client.enum_get_group_details(), lambda a: len(a) == len(groups)


def update_steps(client: MCUmgrClient, image: bytes) -> Iterator[Step]:
    digest = mcuboot_get_image_info(image).hash
    yield "image_upload", lambda: client.image_upload(image), nothing
    yield "image_get_state", lambda: client.image_get_state(), lambda a: a[1].hash == digest
    yield "image_set_state", lambda: client.image_set_state(digest), lambda a: a[1].pending
    yield "image_erase", lambda: client.image_erase(), nothing
    yield "image_slot_info", lambda: client.image_slot_info(), lambda a: len(a[0].slots) == 2
    yield "firmware_update", lambda: client.firmware_update(image), nothing
    yield "firmware_update", lambda: runs(client, "2.0.0", confirmed=False), lambda back: back is True
    yield "os_system_reset", lambda: client.os_system_reset(), nothing
    yield "os_system_reset", lambda: runs(client, "0.0.0", confirmed=True), lambda back: back is True
    yield "firmware_update", lambda: client.firmware_update(image, force_confirm=True), nothing
    yield "firmware_update", lambda: runs(client, "2.0.0", confirmed=True), lambda back: back is True


def runs(client: MCUmgrClient, version: str, *, confirmed: bool) -> bool:
    """Ask until the device is back, then tell whether it runs that version, confirmed or not."""
    client.set_timeout_ms(500)
    end_s = time.monotonic() + BACK_S
    while time.monotonic() < end_s:
        try:
            running = next(slot for slot in client.image_get_state() if slot.active)
        except Exception:  # the client has no error of its own; whatever it is, it is asked again
            time.sleep(0.2)
            continue
        if (running.version, running.confirmed) == (version, confirmed):
            client.set_timeout_ms(10_000)
            return True
        time.sleep(0.2)
    return False


def main(transport: str, address: str, file: str) -> None:
    client, image = connect(transport, address), Path(file).read_bytes()
    for steps in (
        set_up(client),
        os_steps(client),
        store_steps(client),
        file_steps(client, image),
        other_steps(client),
        update_steps(client, image),
    ):
        for name, call, check in steps:
            answer = call()
            assert check(answer), f"{name}: {answer}"
            print(f"{name}: ok", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

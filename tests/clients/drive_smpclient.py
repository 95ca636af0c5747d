"""smpclient makes every request that it knows: `python -m tests.clients.drive_smpclient udp|pty ADDRESS IMAGE VERSION`.

VERSION is 1 or 2, as clients call them. Prints `NAME: ok` for each request that was answered as it should be.
"""

import asyncio
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smp.header import Version
from smpclient import SMPClient
from smpclient.generics import error, success
from smpclient.requests import (
    enumeration_management,
    file_management,
    image_management,
    os_management,
    settings_management,
    shell_management,
    statistics_management,
    zephyr_management,
)
from smpclient.requests.user import intercreate
from smpclient.transport.serial import SMPSerialTransport

from tests.demo import Udp

MODULES = (
    os_management,
    image_management,
    statistics_management,
    settings_management,
    file_management,
    shell_management,
    enumeration_management,
    zephyr_management,
    intercreate,
)
FILE, DATA = "/lfs1/note", b"a note of some bytes"
SETTING = "app/colour"

Check = Callable[[Any], object]
Step = tuple[type[Any], dict[str, Any], Check]


def request_kinds() -> set[str]:
    """Return the names of all requests that smpclient has."""
    kinds = {(module.__name__, name) for module in MODULES for name, kind in vars(module).items() if _is_request(kind)}
    return {f"{module.rpartition('.')[2]}.{name}" for module, name in kinds}


def _is_request(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "_Response")


def os_steps() -> Iterator[Step]:
    yield os_management.EchoWrite, {"d": "hello"}, lambda a: a.r == "hello"
    yield os_management.TaskStatisticsRead, {}, lambda a: a.tasks
    yield os_management.MemoryPoolStatisticsRead, {}, lambda a: a
    yield os_management.DateTimeWrite, {"datetime": "2031-02-03T04:05:06"}, lambda a: a
    yield os_management.DateTimeRead, {}, lambda a: a.datetime.startswith("2031-02-03T04:05:")
    yield os_management.MCUMgrParametersRead, {}, lambda a: (a.buf_size, a.buf_count) == (2475, 4) or a.buf_size == 1500
    yield os_management.OSApplicationInfoRead, {"format": "sv"}, lambda a: a.output.startswith("SMP-DFU-Host ")
    yield os_management.BootloaderInformationRead, {}, lambda a: a.bootloader == "MCUboot"


def image_steps(image: bytes) -> Iterator[Step]:
    first = {"off": 0, "len": len(image), "sha": hashlib.sha256(image).digest(), "data": image[:600]}
    yield image_management.ImageErase, {"slot": 1}, lambda a: a
    yield image_management.ImageUploadWrite, first, lambda a: a.off == 600
    yield image_management.ImageUploadWrite, {"off": 600, "data": image[600:1200]}, lambda a: a.off == 1200
    yield image_management.ImageStatesRead, {}, lambda a: [each.slot for each in a.images] == [0]
    yield image_management.ImageStatesWrite, {"confirm": True}, lambda a: a.images[0].confirmed


def statistics_steps() -> Iterator[Step]:
    yield statistics_management.ListOfGroups, {}, lambda a: "smp" in a.stat_list
    yield statistics_management.GroupData, {"name": "smp"}, lambda a: a.fields["requests"] > 1


def settings_steps() -> Iterator[Step]:
    yield settings_management.WriteSetting, {"name": SETTING, "val": b"green"}, lambda a: a
    yield settings_management.ReadSetting, {"name": SETTING}, lambda a: a.val == b"green"
    yield settings_management.CommitSettings, {}, lambda a: a
    yield settings_management.SaveSettings, {}, lambda a: a
    yield settings_management.LoadSettings, {}, lambda a: a
    yield settings_management.DeleteSetting, {"name": SETTING}, lambda a: a
    yield zephyr_management.EraseStorage, {}, lambda a: a


def file_steps() -> Iterator[Step]:
    yield file_management.FileUpload, {"name": FILE, "off": 0, "data": DATA, "len": len(DATA)}, lambda a: a.off == 20
    yield file_management.FileClose, {}, lambda a: a
    yield file_management.FileStatus, {"name": FILE}, lambda a: a.len == len(DATA)
    yield file_management.FileDownload, {"name": FILE, "off": 0}, lambda a: (a.data, a.len) == (DATA, len(DATA))
    yield file_management.SupportedFileHashChecksumTypes, {}, lambda a: set(a.types) == {"crc32", "sha256"}
    hashing = {"name": FILE, "type": "sha256"}
    yield file_management.FileHashChecksum, hashing, lambda a: a.output == hashlib.sha256(DATA).digest()


def other_steps() -> Iterator[Step]:
    yield shell_management.Execute, {"argv": ["greet", "you"]}, lambda a: a.ret == 0 and "hello you" in a.o
    yield enumeration_management.CountSupportedGroups, {}, lambda a: a.count == 8
    yield enumeration_management.ListSupportedGroups, {}, lambda a: sorted(a.groups) == [0, 1, 2, 3, 8, 9, 10, 63]
    yield enumeration_management.GroupId, {"index": 7}, lambda a: a.end
    yield enumeration_management.GroupDetails, {"groups": (0,)}, lambda a: a.groups[0].name == "os mgmt"
    # Another maker's group, which we do not have: refused in so many words.
    yield intercreate.ImageUploadWrite, {"off": 0, "data": b"x", "image": 0, "len": 1}, lambda a: error(a) and a.rc == 8
    yield os_management.ResetWrite, {}, lambda a: a


def steps(image: bytes) -> Iterator[Step]:
    """Return every request with its arguments and what its answer must be like."""
    yield from os_steps()
    yield from image_steps(image)
    yield from statistics_steps()
    yield from settings_steps()
    yield from file_steps()
    yield from other_steps()


async def drive(client: SMPClient, image: bytes, version: Version) -> None:
    """Make every request, in one version of the protocol; the routines on top of them belong to neither."""
    await client.connect()
    for kind, arguments, check in steps(image):
        answer = await client.request(kind(version=version, **arguments))
        assert success(answer) or kind is intercreate.ImageUploadWrite, f"{kind}: {answer}"
        assert check(answer), f"{kind}: {answer}"
        print(f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}: ok")
    await client.disconnect()


async def transfer(client: SMPClient, image: bytes) -> None:
    """Move an image and a file with the routines that smpclient builds on its requests."""
    await client.connect()
    assert [off async for off in client.upload(image)][-1] == len(image)
    assert [off async for off in client.upload_file(image, "/lfs1/image")][-1] == len(image)
    assert await client.download_file("/lfs1/image") == image
    print("transfers: ok")
    await client.disconnect()


def connect(transport: str, address: str) -> SMPClient:
    return SMPClient(Udp() if transport == "udp" else SMPSerialTransport(), address, 10.0)


def main(transport: str, address: str, image: str, version: str) -> None:
    data = Path(image).read_bytes()
    asyncio.run(transfer(connect(transport, address), data))
    asyncio.run(drive(connect(transport, address), data, Version(int(version) - 1)))


if __name__ == "__main__":
    main(*sys.argv[1:])

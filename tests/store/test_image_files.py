"""Image files of every kind that people have."""

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.store.image_files import ImageFile, destinations, read_dump, read_files, read_one, write_hex
from tests.store.builders import image

FIRST, SECOND = image((1, 0, 0)), image((2, 0, 0))
LONG = "x" * 20_000


def package(path: Path, files: dict[str, bytes], manifest: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        if manifest is not None:
            archive.writestr("manifest.json", manifest if isinstance(manifest, bytes) else json.dumps(manifest))
    return path


def listed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"format-version": 1, "time": 0, "files": list(entries)}


def test_raw_bytes_are_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.hex"  # the name does not count
    path.write_bytes(FIRST)
    assert read_files(path) == (ImageFile("a.hex", FIRST),)


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=300), st.integers(0, 0x1FFFF))
def test_hex_comes_back_with_its_address(tmp_path_factory: pytest.TempPathFactory, data: bytes, address: int) -> None:
    """What is written as Intel HEX is read again."""
    path = tmp_path_factory.mktemp("hex") / "a.hex"
    write_hex(path, data, address)
    assert read_one(path) == ImageFile("a.hex", data, address)
    assert read_dump(path, address, len(data)) == data


def test_gaps_in_hex_are_erased(tmp_path: Path) -> None:
    path = tmp_path / "a.hex"
    path.write_text(":0200000001 02FB\n:0200080003 04EF\n:00000001FF\n".replace(" ", ""))
    assert read_one(path).data == bytes.fromhex("0102 ffffffffffff 0304")
    assert read_one(path, erased=0).data == bytes.fromhex("0102 000000000000 0304")
    assert read_dump(path, 1, 9) == bytes.fromhex("02 ffffffffffff 0304")
    assert read_dump(path, 8, 4) == bytes.fromhex("0304 ffff")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b":10000000AABB\n", "not readable as Intel HEX"),
        (b":00000001FF\n", "without any data"),
        (b":0200000001020\xff\n", "not readable as Intel HEX"),
        (b":0100000001FE\n:020000041000EA\n:0100000001FE\n:00000001FF\n", "addresses 0x0 to 0x10000001"),
    ],
)
def test_broken_hex_is_named(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "a.hex"
    path.write_bytes(text)
    with pytest.raises(StoreError, match=words) as caught:
        read_files(path)
    assert "a.hex" in str(caught.value)


def test_dump_must_be_of_the_slot(tmp_path: Path) -> None:
    path = tmp_path / "a.any"
    path.write_bytes(bytes(10))
    with pytest.raises(StoreError, match="10 bytes, a dump of the slot has 20"):
        read_dump(path, 0, 20)
    write_hex(path, bytes(10), 0x100)
    with pytest.raises(StoreError, match="0x100 to 0x10a, the slot has 0x10a to 0x11a"):
        read_dump(path, 0x10A, 16)


def test_package_says_what_goes_where(tmp_path: Path) -> None:
    manifest = listed(
        {"file": "app.bin", "image_index": "0", "slot_index_primary": "1", "version_MCUBOOT": "1.0.0"},
        {"file": "net.bin", "image_index": "1", "slot": "3"},
        {"file": "other.bin", "image": 2, "slot": 0},
    )
    path = package(tmp_path / "a.zip", {"app.bin": FIRST, "net.bin": SECOND, "other.bin": b"x"}, manifest)
    assert read_files(path) == (
        ImageFile("app.bin", FIRST, None, 0, 1),
        ImageFile("net.bin", SECOND, None, 1, 1),
        ImageFile("other.bin", b"x", None, 2, 0),
    )


def test_package_may_hold_hex(tmp_path: Path) -> None:
    write_hex(tmp_path / "a.hex", FIRST, 0x100)
    path = package(tmp_path / "a.zip", {"a.hex": (tmp_path / "a.hex").read_bytes()}, listed({"file": "a.hex"}))
    assert read_one(path) == ImageFile("a.hex", FIRST, 0x100, 0, 1)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, r"no manifest\.json"),
        (b"{", "not that of a firmware package"),
        (b"\xff" * 20_000, r"not that of a firmware package: no text, from byte 0 on"),
        (b"[]", "not that of a firmware package: a value is not of the kind that belongs there"),
        (listed({"file": LONG}), r"no x+\.\.\. in the package"),
        (listed({"file": "a.bin", "slot": LONG}), r"slot of a\.bin is 'x+\.\.\., wanted"),
        ([], "not that of a firmware package"),
        ({"files": {}}, "not that of a firmware package"),
        ({"files": ["a"]}, "not that of a firmware package"),
        ({"manifest": {"application": {}}}, "not that of a firmware package"),
        (listed(), "names no file"),
        (listed({"size": 1}), "without a file name"),
        (listed({"file": "none.bin"}), r"no none\.bin in the package"),
        (listed({"file": "a.bin", "image_index": "x"}), r"image_index of a\.bin is 'x'"),
        (listed({"file": "a.bin", "image_index": -1}), r"image_index of a\.bin is -1"),
        (listed({"file": "a.bin", "slot": True}), r"slot of a\.bin is True"),
    ],
)
def test_broken_package_is_named(tmp_path: Path, manifest: Any, words: str) -> None:
    path = package(tmp_path / "a.zip", {"a.bin": FIRST}, manifest)
    with pytest.raises(StoreError, match=words) as caught:
        read_files(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 250
    assert "Error" not in str(caught.value)


@given(st.data())
@settings(max_examples=60)
def test_damaged_package_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever byte of a package is wrong: it is read, or there is a StoreError."""
    path = package(tmp_path_factory.mktemp("zip") / "a.zip", {"a.bin": FIRST}, listed({"file": "a.bin"}))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(4, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    with suppress(StoreError):
        assert read_files(path)


def test_missing_and_several_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.bin: No such file"):
        read_files(tmp_path / "none.bin")
    two = listed({"file": "a.bin"}, {"file": "b.bin", "image_index": "1"})
    path = package(tmp_path / "a.zip", {"a.bin": FIRST, "b.bin": SECOND}, two)
    with pytest.raises(StoreError, match=r"2 images \(a\.bin, b\.bin\)"):
        read_one(path)


def test_large_members_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smp_dfu_host.store.image_files.SIZE_LIMIT", 2000)
    path = package(tmp_path / "a.zip", {"a.bin": bytes(100_000)}, listed({"file": "a.bin"}))
    with pytest.raises(StoreError, match=r"a\.bin: 100000 bytes, limit is 2000"):
        read_files(path)
    path.write_bytes(bytes(2001))
    with pytest.raises(StoreError, match="2001 bytes, limit is 2000"):
        read_files(path)


def test_write_to_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none/a\.hex: No such file"):
        write_hex(tmp_path / "none" / "a.hex", b"x", 0)


def other(image: int) -> int:
    return 2 * image + 1


def test_file_goes_to_the_free_slot_or_where_it_is_asked_to() -> None:
    file = ImageFile("a", b"x")
    assert destinations([file], None, other, 2) == [(1, file)]
    assert destinations([file], 0, other, 2) == [(0, file)]


def test_package_goes_to_the_free_slot_of_each_image() -> None:
    files = [ImageFile("a", b"x", None, 0, 1), ImageFile("b", b"y", None, 1, 1)]
    assert destinations(files, None, other, 4) == [(1, files[0]), (3, files[1])]
    assert destinations(files, 2, other, 4) == [(2, files[1])]
    with pytest.raises(StoreError, match=r"is for an image 1, the store has image 0 only \(\[bootloader\] images\)"):
        destinations(files, None, other, 2)
    with pytest.raises(StoreError, match="nothing for slot 4"):
        destinations(files, 4, other, 6)


def test_direct_xip_package_has_a_file_for_each_slot() -> None:
    files = [ImageFile("a", b"x", None, 0, 0), ImageFile("b", b"y", None, 0, 1)]
    assert destinations(files, None, other, 2) == [(1, files[1])]
    assert destinations(files, 0, other, 2) == [(0, files[0])]
    with pytest.raises(StoreError, match=r"no files for slot 1: a \(slot 0\), c \(slot 0\)"):
        destinations([files[0], ImageFile("c", b"z", None, 0, 0)], None, other, 2)


def test_package_that_is_no_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(io.BytesIO(b"PK\x03\x04rest").getvalue())
    with pytest.raises(StoreError, match="not readable as a ZIP package"):
        read_files(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_package_whose_compressed_bytes_are_damaged_is_refused(tmp_path: Path, method: int) -> None:
    # found by fuzzing: zlib.error and LZMAError went through
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("manifest.json", json.dumps(listed({"file": "a.bin"})))
    data = bytearray(made.getvalue())
    start = 30 + len("manifest.json")
    data[start : start + 12] = b"\xff" * 12
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(StoreError, match=r"a\.zip: not readable as a ZIP package"):
        read_files(tmp_path / "a.zip")


def test_package_with_a_directory_elsewhere_is_refused(tmp_path: Path) -> None:
    # found by fuzzing: ValueError "negative seek value" went through
    path = package(tmp_path / "a.zip", {"a.bin": FIRST}, listed({"file": "a.bin"}))
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = (0xFFFF).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"a\.zip: not readable as a ZIP package"):
        read_files(path)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.mcuboot.image import (
    IMAGE_MAGIC,
    ImageFlag,
    ImageHeader,
    ImageInvalid,
    ImageVersion,
    check_header,
    read_header,
)
from tests.mcuboot.images import make_area

VERSION = ImageVersion(1, 2, 3, 4)
versions = st.builds(
    ImageVersion,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
)
headers = st.builds(
    ImageHeader,
    *[st.integers(0, 2**bits - 1) for bits in (32, 32, 16, 16, 32, 32)],
    versions,
    st.integers(0, 0xFFFFFFFF),
)


def header(**changes: int) -> ImageHeader:
    values = {"magic": IMAGE_MAGIC, "load_addr": 0, "hdr_size": 32, "protect_tlv_size": 0, "img_size": 100, "flags": 0}
    return ImageHeader(**(values | changes), version=VERSION)


def test_header_is_read_from_its_bytes() -> None:
    data = bytes.fromhex("3db8f396 00000020 2000 1600 e8030000 20000000 01 02 0300 04000000 00000000")
    assert ImageHeader.parse(data) == ImageHeader(IMAGE_MAGIC, 0x20000000, 32, 22, 1000, 0x20, VERSION)


@given(headers)
def test_header_pack_then_parse_is_identity(value: ImageHeader) -> None:
    """Every header comes back from its bytes."""
    assert ImageHeader.parse(value.pack() + b"more") == value


@given(st.binary(max_size=31))
def test_short_header_is_refused(data: bytes) -> None:
    """Fewer than 32 bytes are no header."""
    with pytest.raises(ImageInvalid, match="an image header has 32"):
        ImageHeader.parse(data)


def test_header_at_the_end_of_an_area_is_refused() -> None:
    area = make_area()
    assert not read_header(area, 0x8000 - 32).present
    with pytest.raises(ImageInvalid, match="31 bytes, an image header has 32"):
        read_header(area, 0x8000 - 31)


def test_header_knows_where_things_are() -> None:
    value = header(hdr_size=0x200, protect_tlv_size=16)
    assert (value.tlv_offset, value.hashed_size) == (0x200 + 100, 0x200 + 116)
    assert value.present
    assert value.bootable
    assert not value.encrypted
    assert not header(flags=ImageFlag.NON_BOOTABLE).bootable


def test_version_text_is_zephyrs_and_imgtools() -> None:
    assert (str(VERSION), VERSION.semver) == ("1.2.3.4", "1.2.3+4")
    assert (str(ImageVersion(1, 2, 3)), ImageVersion(1, 2, 3).semver) == ("1.2.3", "1.2.3+0")


@given(versions, versions)
def test_version_order_is_that_of_its_first_three_numbers(one: ImageVersion, other: ImageVersion) -> None:
    """The build number orders only where it is asked to."""
    mine, its = one.parts, other.parts
    assert (one < other, one <= other) == (mine[:3] < its[:3], mine[:3] <= its[:3])
    assert (one > other, one >= other) == (mine[:3] > its[:3], mine[:3] >= its[:3])
    assert (one.compare(other, build=True) < 0) == (mine < its)


def test_versions_with_other_builds_are_not_equal() -> None:
    assert ImageVersion(1, 2, 3, 4) != ImageVersion(1, 2, 3, 5)
    assert ImageVersion(1, 2, 3, 4).compare(ImageVersion(1, 2, 3, 5)) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"magic": 0xFFFFFFFF}, "header magic is 0xffffffff, not 0x96f3b83d"),
        ({"magic": 0x96F3B83C}, "old format V1"),
        ({"img_size": 968}, "header says 1000 bytes, there is room for 999"),
        ({"img_size": 0xFFFFFFFF}, "there is room for 999"),
        ({"protect_tlv_size": 900}, "there is room for 999"),
        ({"flags": ImageFlag.ENCRYPTED_AES128}, "no key to decrypt"),
        ({"flags": ImageFlag.COMPRESSED_LZMA2}, "compressed images are not supported"),
    ],
)
def test_bad_header_is_refused_with_the_reason(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(ImageInvalid, match=reason):
        check_header(header(**changes), 1000)


def test_header_that_fills_all_but_one_byte_is_accepted() -> None:
    check_header(header(img_size=967), 1000)


def test_encrypted_header_wants_one_kind_of_key() -> None:
    check_header(header(flags=ImageFlag.ENCRYPTED_AES256), 1000, encryption=True)
    with pytest.raises(ImageInvalid, match="both AES-128 and AES-256"):
        check_header(header(flags=ImageFlag.ENCRYPTED), 1000, encryption=True)

import pytest
from hypothesis import given

from smp_dfu_host.errors import WireError
from smp_dfu_host.wire.header import Header, Op
from tests.strategies import headers


def test_fields_lie_where_the_protocol_says() -> None:
    header = Header.parse(bytes.fromhex("0a 80 0011 0103 ff 05"))
    assert header == Header(Op.WRITE, 1, 0x80, 0x11, 0x0103, 0xFF, 5)


@given(headers)
def test_parse_undoes_pack(header: Header) -> None:
    """Every header survives the way to bytes and back."""
    assert Header.parse(header.pack()) == header


def test_parse_begins_at_the_offset() -> None:
    data = b"xyz" + bytes.fromhex("00 00 0001 0002 03 04")
    assert Header.parse(data, 3).command == 4


@pytest.mark.parametrize("size", range(8))
def test_less_than_eight_bytes_are_no_header(size: int) -> None:
    with pytest.raises(WireError, match=f"header of {size} bytes, must be 8"):
        Header.parse(bytes(20), 20 - size)


@pytest.mark.parametrize(
    ("request_hex", "reply_hex"),
    [
        ("00 00 0000 0000 07 00", "01 00 0006 0000 07 00"),
        ("0a 00 0000 0001 07 01", "0b 00 0006 0001 07 01"),
        ("09 00 0005 0000 19 00", "0b 00 0006 0000 19 00"),  # proto_header/op_1/v1: anything but a read becomes 3
        ("07 00 0005 0000 1e 00", "03 00 0006 0000 1e 00"),  # proto_header/op_7/v0
        ("18 00 0005 0000 21 00", "09 00 0006 0000 21 00"),  # proto_header/version_3
        ("e8 ff 0005 0000 29 00", "09 00 0006 0000 29 00"),  # reserved bits and flags come back as 0
    ],
)
def test_reply_header_is_as_zephyr_makes_it(request_hex: str, reply_hex: str) -> None:
    header = Header.parse(bytes.fromhex(request_hex))
    assert header.reply(6).pack() == bytes.fromhex(reply_hex)


def test_header_says_in_a_line_what_it_is() -> None:
    assert str(Header.parse(bytes.fromhex("0a 00 0011 0001 07 05"))) == "op 2 v1 1/5 seq 7, 17 bytes"

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import FileStorage, FlashArea, FlashMeter, MemoryStorage, PowerCut
from tests.mcuboot.images import make_area


def test_write_then_read_gives_the_bytes() -> None:
    area = make_area()
    area.write(8, b"12345678")
    assert area.read(6, 12) == b"\xff\xff12345678\xff\xff"
    assert (area.meter.ops, area.meter.misaligned, area.meter.writes_to_nonerased) == (1, 0, 0)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (4096 * 8, 1), (4096 * 8 - 1, 2), (0, -1)])
def test_outside_of_the_area_is_refused(offset: int, size: int) -> None:
    with pytest.raises(StoreError, match="outside of 0x8000 bytes"):
        make_area().read(offset, size)


def test_write_and_erase_outside_are_refused_and_not_counted() -> None:
    area = make_area()
    with pytest.raises(StoreError, match="slot: write of 8 bytes at 0x7ffc"):
        area.write(0x7FFC, bytes(8))
    with pytest.raises(StoreError, match="slot: erase"):
        area.erase(0x7000, 0x2000)
    with pytest.raises(StoreError, match="slot: load"):
        area.load(0x7FFF, b"12")
    assert area.meter.ops == 0


def test_rule_violations_are_counted_and_done() -> None:
    area = make_area()
    area.write(1, b"12345678")
    area.write(0, bytes(8))
    area.erase(0, 100)
    assert (area.meter.misaligned, area.meter.writes_to_nonerased, area.meter.ops) == (2, 1, 3)
    assert area.is_erased(0, 100)


def test_size_of_the_storage_must_be_that_of_the_sectors() -> None:
    with pytest.raises(StoreError, match="100 bytes, the sectors make 128"):
        FlashArea("slot", MemoryStorage(bytes(100)), (64, 64), 8)


def test_sectors_of_different_sizes_are_found() -> None:
    area = make_area(sectors=(64, 128, 64))
    assert [area.sector_at(offset) for offset in (0, 63, 64, 191, 192, 255)] == [0, 0, 1, 1, 2, 2]
    assert [area.sector_offset(number) for number in range(4)] == [0, 64, 192, 256]
    assert repr(area) == "<FlashArea slot 256 bytes, 3 sectors>"
    with pytest.raises(StoreError):
        area.sector_at(256)
    for number in (-1, 4):
        with pytest.raises(StoreError, match="there are 3"):
            area.sector_offset(number)


@pytest.mark.parametrize(("backwards", "order"), [(False, [0, 64]), (True, [64, 0])])
def test_erase_of_sectors_goes_one_by_one(backwards: bool, order: list[int]) -> None:
    offsets: list[int] = []
    meter = FlashMeter(trace=lambda kind, name, offset, size, data: offsets.append(offset))
    area = make_area(sectors=(64, 128, 64), meter=meter)
    area.erase_sectors(10, 100, backwards=backwards)
    assert offsets == order


def test_trace_tells_what_was_done() -> None:
    seen: list[tuple[str, str, int, int, bytes]] = []
    area = make_area(meter=FlashMeter(trace=lambda *operation: seen.append(operation)))
    area.erase(4096, 4096)
    area.write(0, bytes(8))
    assert seen == [("E", "slot", 4096, 4096, b""), ("W", "slot", 0, 8, bytes(8))]


def test_power_is_cut_before_the_operation_in_all_areas_that_share_the_meter() -> None:
    meter = FlashMeter(cut_before=2)
    one, other = make_area("one", meter=meter), make_area("other", meter=meter)
    one.write(0, bytes(8))
    with pytest.raises(PowerCut, match="before flash operation 2"):
        other.write(0, bytes(8))
    with pytest.raises(PowerCut):
        one.erase(0, 4096)
    assert other.is_erased(0, 8)
    assert one.read(0, 8) == bytes(8)
    assert meter.ops == 1


def test_torn_write_and_torn_erase_do_their_first_bytes() -> None:
    area = make_area(meter=FlashMeter(cut_before=1, tear=3))
    area.load(0, b"abcdefgh")
    with pytest.raises(PowerCut, match="after 3 of its bytes"):
        area.write(8, b"12345678")
    with pytest.raises(PowerCut):
        area.erase(0, 4096)
    assert area.read(0, 16) == b"\xff\xff\xffdefgh123\xff\xff\xff\xff\xff"


def test_generation_rises_with_every_change_only() -> None:
    area = make_area()
    area.read(0, 8)
    assert area.generation == 0
    area.write(0, bytes(8))
    area.load(0, b"x")
    area.load(0, b"")
    assert area.generation == 2


@given(st.integers(0, 300), st.binary(max_size=300))
def test_memory_storage_keeps_what_fits_and_refuses_the_rest(offset: int, data: bytes) -> None:
    """Whatever is written is read back, or refused if it does not fit."""
    storage = MemoryStorage(bytes(256))
    if offset + len(data) > 256:
        with pytest.raises(StoreError):
            storage.write(offset, data)
    else:
        storage.write(offset, data)
        assert storage.read(offset, len(data)) == data


def test_file_storage_writes_through(tmp_path: Path) -> None:
    path = tmp_path / "slot0.bin"
    path.write_bytes(bytes(64))
    storage = FileStorage(path)
    storage.write(8, b"abc")
    storage.sync()
    assert path.read_bytes()[8:11] == b"abc"
    assert storage.read(7, 5) == b"\0abc\0"
    assert storage.size == 64
    storage.close()
    storage.close()
    for use in (lambda: storage.read(0, 1), lambda: storage.write(0, b"x"), storage.sync):
        with pytest.raises(StoreError, match=r"slot0\.bin"):
            use()


def test_file_storage_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        FileStorage(tmp_path / "nothing")
    path = tmp_path / "slot0.bin"
    path.write_bytes(bytes(64))
    storage = FileStorage(path)
    with pytest.raises(StoreError, match="outside of 0x40 bytes"):
        storage.read(60, 5)
    path.write_bytes(bytes(10))
    with pytest.raises(StoreError, match="was the file cut short"):
        storage.read(0, 64)
    storage.close()


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 16), st.integers(1, 8), st.integers(1, 12), st.booleans())
def test_pieces_written_at_once_are_counted_and_cut_like_single_ones(
    offset: int, size: int, piece: int, align: int, cut: int, dirty: bool
) -> None:
    """Whatever is written in pieces, the flash, the counts and the cut are as if each had been written alone."""
    outcomes = []
    for at_once in (True, False):
        meter = FlashMeter(cut)
        area = FlashArea("slot", MemoryStorage(b"\xff" * 96), (96,), align, meter=meter)
        area.load(50, b"x" if dirty else b"")
        data = bytes(range(size))
        with suppress(PowerCut):
            if at_once:
                area.write_pieces(offset, data, piece)
            else:
                for start in range(0, size, piece):
                    area.write(offset + start, data[start : start + piece])
        outcomes.append((area.read(0, 96), meter.ops, meter.misaligned, meter.writes_to_nonerased))
    assert outcomes[0] == outcomes[1]

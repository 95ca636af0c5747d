"""What is put into slots from files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.incoming import Incoming

BLANK = b"\xff" * 64


@given(st.binary(max_size=70), st.sampled_from([0, 16]))
def test_contents_are_the_slot_with_the_file_in_it(data: bytes, base: int) -> None:
    """An image starts at the base, a dump at the slot's first byte; what has no room is refused."""
    incoming = Incoming(1, data)
    start = 0 if len(data) == len(BLANK) else base
    if start + len(data) > len(BLANK):
        with pytest.raises(SlotRefusal, match=f"{len(data)} bytes, slot 1 has {len(BLANK) - start}") as refusal:
            incoming.contents(BLANK, base)
        assert refusal.value.fault is Fault.TOO_LARGE
    else:
        contents = incoming.contents(BLANK, base)
        assert len(contents) == len(BLANK)
        assert contents.strip(b"\xff") == data.strip(b"\xff")
        assert contents[start : start + len(data)] == data


@pytest.mark.parametrize(("name", "said"), [("", "why"), ("a.bin", "a.bin: why")])
def test_refusal_names_the_file_and_keeps_its_fault(name: str, said: str) -> None:
    with pytest.raises(SlotRefusal) as refusal, Incoming(1, b"", name).naming():
        raise SlotRefusal(Fault.IN_USE, "why")
    assert (str(refusal.value), refusal.value.fault) == (said, Fault.IN_USE)


@pytest.mark.parametrize(("size", "short"), [(0, True), (31, True), (32, False)])
def test_less_than_a_header_is_no_image(size: int, short: bool) -> None:
    incoming = Incoming(1, bytes(size))
    if short:
        with pytest.raises(SlotRefusal, match=f"^{size} bytes, an image has at least 32$"):
            incoming.check_size()
    else:
        incoming.check_size()

"""Hypothesis strategies for what is on the wire."""

from typing import Any

import cbor2
from hypothesis import strategies as st

from smp_dfu_host.wire.header import Header

headers = st.builds(
    Header,
    op=st.integers(0, 7),
    version=st.integers(0, 3),
    flags=st.integers(0, 255),
    length=st.integers(0, 0xFFFF),
    group=st.integers(0, 0xFFFF),
    sequence=st.integers(0, 255),
    command=st.integers(0, 255),
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | st.text(max_size=20)
    | st.just(cbor2.undefined)
)

items = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 99), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.sampled_from([6, 7, 99]), inner)
    ),
    max_leaves=12,
)
"""Anything that CBOR can say, nested."""


@st.composite
def messages(draw: st.DrawFn, max_payload: int = 300) -> bytes:
    """A whole message: any header that a server gets, and so many bytes as it says."""
    long = st.integers(0, max_payload).map(lambda size: bytes(number % 251 for number in range(size)))
    payload = draw(st.binary(max_size=max_payload) | long)
    header: Header = draw(headers)
    fields: dict[str, Any] = {name: getattr(header, name) for name in ("op", "version", "flags", "group", "sequence")}
    return Header(**fields, length=len(payload), command=header.command).pack() + payload


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]

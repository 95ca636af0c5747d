from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.errors import MgmtError, Rc
from smp_dfu_host.groups.clock_text import read_text, write_text


@given(st.datetimes(min_value=datetime(1900, 1, 1)))  # noqa: DTZ001
def test_read_returns_what_was_written(moment: datetime) -> None:
    """Every second of the calendar survives its text."""
    year, month, day, hour, minute, second, ms = read_text(write_text(moment.replace(tzinfo=UTC)))
    assert datetime(year, month, day, hour, minute, second) == moment.replace(microsecond=0)  # noqa: DTZ001
    assert ms == 0


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-02T03:04:05",
        "2024/01/02 03.04.05",
        "2024-01-02T03:04:05Z",
        "2024-01-02T03:04:05+01:00",
        "2024-01-02T03:04:05.999",
        "2024- 1-+2T03:04:05",
    ],
)
def test_separators_and_zones_do_not_matter(text: str) -> None:
    assert read_text(text) == (2024, 1, 2, 3, 4, 5, 0)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("", 0), (".", 0), (".0", 0), (".7", 7), (".042", 42), (".999Z", 999), ("Z", 0), ("+01:00", 0), (".x", 0)],
)
def test_milliseconds_are_read_where_they_are_wanted(text: str, ms: int) -> None:
    assert read_text(f"2024-01-02T03:04:05{text}", ms=True)[-1] == ms


@pytest.mark.parametrize("text", [".1000", ".-1"])
def test_milliseconds_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(MgmtError):
        read_text(f"2024-01-02T03:04:05{text}", ms=True)


def test_milliseconds_are_written_without_padding() -> None:
    assert write_text(datetime(2024, 1, 2, 3, 4, 5, 7000, tzinfo=UTC), ms=True) == "2024-01-02T03:04:05.7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-02T03:04:5",
        "2024-01-02T03:04:05+01:00x",
        "1899-01-02T03:04:05",
        "11900-01-02T03:04:05",
        "2024-13-02T03:04:05",
        "2024-00-02T03:04:05",
        "2024-01-32T03:04:05",
        "2024-01-02T24:04:05",
        "2024-01-02T03:60:05",
        "2024-01-02T03:04:60",
        "2024-01-02T-3:04:05",
        "2024-01-02T03:04:xx",
        "2024-01-02T03:04       ",
        "yyyy-mm-ddThh:mm:ss",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(MgmtError) as refusal:
        read_text(text)
    assert refusal.value.rc == Rc.EINVAL


@given(st.text(max_size=25))
def test_any_text_is_a_date_or_refused(text: str) -> None:
    """Whatever a client sends, there is a date or EINVAL."""
    try:
        year, month, day, *_ = read_text(text)
    except MgmtError as refused:
        refusal = refused
    else:
        assert (1900 <= year <= 11899, 1 <= month <= 12, 1 <= day <= 31) == (True, True, True)
        return
    assert refusal.rc == Rc.EINVAL

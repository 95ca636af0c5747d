"""Why a JSON file cannot be used, in words."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.store.reasons import LIMIT, UNUSABLE, cut, reason, shown

LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: json.loads(b"{}\xff" + LONG.encode()), "no text, from byte 2 on"),
        (lambda: json.loads(b'{\n"a": ]' + LONG.encode()), "no JSON, from line 2, column 6 on"),
        (lambda: json.loads("[" * 100_000), "nested too deeply"),
        (lambda: json.loads("{}")["files"], "'files' is missing"),
        (lambda: json.loads("[]")["files"], "a value is not of the kind that belongs there"),
        (lambda: json.loads("[]").items(), "a value is not of the kind that belongs there"),
        (lambda: int(json.loads("1e999")), "a value is not of the kind that belongs there"),
        (lambda: int(LONG), "a value is not of the kind that belongs there"),
    ],
)
def test_reason_is_short_and_in_words(use: Callable[[], object], words: str) -> None:
    with pytest.raises(UNUSABLE) as caught:
        use()
    assert reason(caught.value) == words


@given(st.binary() | st.text(max_size=200))
def test_value_is_shown_up_to_the_limit(value: object) -> None:
    """A value that is short is shown whole."""
    assert shown(value) == repr(value) or (len(shown(value)) == LIMIT and shown(value).endswith("..."))


def test_text_is_cut_to_a_limit() -> None:
    assert cut(LONG, 10) == "xxxxxxx..."
    assert cut("short", 10) == "short"

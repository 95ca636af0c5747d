"""Strips and tables, by what they mean."""

import pytest
from rich.cells import cell_len

from smp_dfu_host.cli import render_runs
from smp_dfu_host.cli.render import LOOKS, Fact
from smp_dfu_host.cli.render_runs import (
    BLANK,
    MATCHES,
    NO_BOOT,
    OTHER_END,
    SAME_END,
    CutRow,
    DiffRow,
    HistoryRow,
    Strip,
)
from smp_dfu_host.store.compare import Match
from smp_dfu_host.store.survey import Part
from tests.cli.test_render import lines


def test_looks_are_told_apart_without_colour() -> None:
    for looks in ([*MATCHES.values(), *LOOKS.values()], [SAME_END, OTHER_END, NO_BOOT]):
        assert len({look.glyph for look in looks}) == len(looks)
        assert len({look.plain for look in looks}) == len(looks)
    assert all(look.plain.isascii() for look in MATCHES.values())


@pytest.mark.parametrize("width", [80, 160])
def test_strip_is_to_scale(width: int) -> None:
    (drawn,) = lines(Strip("A", ((LOOKS[Part.IMAGE], 300), (LOOKS[Part.FREE], 100), (BLANK, 400))), width)
    assert drawn.startswith("A ")
    assert abs(drawn.count(LOOKS[Part.IMAGE].glyph) - 300 * (width - 2) / 800) <= 1
    assert abs(drawn.count(LOOKS[Part.FREE].glyph) - 100 * (width - 2) / 800) <= 1


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_diff_fits_and_names_what_lies_there(width: int, encoding: str) -> None:
    strips = [Strip("A", ((LOOKS[Part.IMAGE], 10),)), Strip("", ((MATCHES[Match.DIFFERS], 10),))]
    row = DiffRow(Match.DIFFERS, 0x1000, 4096, 17, 1, (Part.HEADER, Part.IMAGE), (Part.FREE,))
    drawn = lines(render_runs.diff("slot 0 and slot 1", [Fact("result", "x")], strips, [row]), width, encoding=encoding)
    text = "\n".join(drawn)
    assert all(cell_len(line) <= width for line in drawn)
    for words in ("0x1000", "4096 B", "17", "header, image", "free", "differs"):
        assert words in text
    if encoding == "ascii":
        assert text.isascii()


def test_diff_without_a_difference_has_no_table() -> None:
    text = "\n".join(lines(render_runs.diff("[a]", [], [Strip("A", ((LOOKS[Part.FREE], 1),))], []), 80))
    assert "sectors" not in text
    assert "[a]" in text


@pytest.mark.parametrize("width", range(16, 90))
def test_legend_breaks_between_entries_only(width: int) -> None:
    legend = render_runs.Legend((*LOOKS.values(), SAME_END, OTHER_END, NO_BOOT))
    text = [line.rstrip() for line in lines(legend, width)]
    found = [entry for line in text for entry in line.split("   ")]
    assert found == [f"{look.glyph} {look.words}" for look in legend.looks]


def test_cuts_show_the_ends_that_are_not_the_same() -> None:
    rows = [CutRow(1, 9, SAME_END, ""), CutRow(10, 10, OTHER_END, "1.0.0 runs"), CutRow(11, 12, NO_BOOT, "it hangs")]
    text = "\n".join(lines(render_runs.cuts([Fact("cuts", "12")], rows), 80))
    for words in ("10  other end  1.0.0 runs", "11-12  no boot    it hangs", "✗"):
        assert words in text
    assert "1-9" not in text


def test_history_lists_actions_and_says_when_there_is_none() -> None:
    row = HistoryRow(3, "2025-01-31T12:00:00+00:00", True, "version 1.0.0 runs", 12, ("swapping", "booting"))
    text = "\n".join(lines(render_runs.history([row]), 80))
    for words in ("3", "2025-01-31T12:00:00+00:00", "version 1.0.0 runs", "swapping", "booting"):
        assert words in text
    assert "no boot yet" in "\n".join(lines(render_runs.history([]), 80))

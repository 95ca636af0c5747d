"""Pictures, by what they mean: widths, parts that must be there, lines that must not be wider than the terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from smp_dfu_host.cli import render
from smp_dfu_host.cli.render import Check, ClientLine, Fact, Level, SlotPicture, TlvRow, cells
from smp_dfu_host.store.survey import Part, Segment

SIZE = 118 * 4096


def segments(*sizes: tuple[Part, int]) -> tuple[Segment, ...]:
    found, offset = [], 0
    for part, size in sizes:
        found.append(Segment(part, offset, size))
        offset += size
    return tuple(found)


FULL = segments(
    (Part.HEADER, 32),
    (Part.IMAGE, 200_000),
    (Part.TLVS, 150),
    (Part.DATA, 4096),
    (Part.FREE, SIZE - 200_000 - 32 - 150 - 4096 - 3120),
    (Part.STATUS, 3072),
    (Part.TRAILER, 48),
)
PICTURE = SlotPicture(
    "image 0, slot 0", "472.0 KiB at 0xc000", FULL, (Fact("hash", "ab" * 32), Fact("version", "1.2.3"))
)


def lines(drawn: RenderableType, width: int, *, encoding: str = "utf-8", color: bool = False) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    system = "truecolor" if color else None
    console = Console(width=width, file=file, force_terminal=color, color_system=system, legacy_windows=False)  # type: ignore[arg-type]
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().splitlines()


def bar(drawn: list[str]) -> str:
    image = render.LOOKS[Part.IMAGE]
    return max(drawn, key=lambda line: line.count(image.glyph) + line.count(image.plain)).strip("│| ")


@given(st.lists(st.integers(1, 1 << 20), min_size=1, max_size=20), st.integers(1, 200))
def test_cells_fill_the_width_and_leave_nobody_out(sizes: list[int], width: int) -> None:
    """The columns sum up to the width, and whoever has a byte gets one while there are enough."""
    shares = cells(sizes, width)
    assert sum(shares) == width
    assert min(shares) >= (1 if width >= len(sizes) else 0)


@given(st.lists(st.integers(1, 1 << 20), min_size=1, max_size=9), st.integers(20, 200))
def test_cells_are_in_proportion(sizes: list[int], width: int) -> None:
    """Nobody gets more than his share rounded up, or the one column that everybody gets."""
    for size, share in zip(sizes, cells(sizes, width), strict=True):
        assert share <= max(1, size * width / sum(sizes) + 1)


def test_cells_of_nothing_are_none() -> None:
    assert cells([], 10) == []
    assert cells([0, 0], 10) == [0, 0]
    assert cells([0, 5], 10) == [0, 10]


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("color", [False, True])
def test_slot_fits_the_terminal(width: int, color: bool) -> None:
    plain = lines(render.slots([PICTURE], [Fact("next boot", "nothing changes")]), width, color=False)
    assert all(cell_len(line) <= width for line in plain)
    drawn = "\n".join(lines(render.slot(PICTURE), width, color=color))
    assert ("\x1b[" in drawn) is color


@pytest.mark.parametrize("width", [80, 160])
def test_every_segment_is_visible(width: int) -> None:
    drawn = bar(lines(render.slot(PICTURE), width))
    assert len(drawn) == width - 4
    for segment in FULL:
        assert render.LOOKS[segment.part].glyph in drawn
    assert drawn.count(render.LOOKS[Part.TRAILER].glyph) == 1
    assert abs(drawn.count(render.LOOKS[Part.IMAGE].glyph) - 200_000 * (width - 4) / SIZE) <= 4


def test_parts_are_told_apart_without_colour() -> None:
    assert len({look.glyph for look in render.LOOKS.values()}) == len(Part)
    assert len({look.plain for look in render.LOOKS.values()}) == len(Part)


def test_ascii_terminal_gets_ascii() -> None:
    drawn = lines(render.slots([PICTURE], []), 80, encoding="ascii")
    assert all(line.isascii() for line in drawn)
    assert "#" in bar(drawn)


@pytest.mark.parametrize("width", [80, 160])
def test_legend_names_every_segment_and_the_whole_hash(width: int) -> None:
    text = "\n".join(lines(render.slot(PICTURE), width))
    for words in ("header", "image", "TLVs", "old data", "free", "swap status", "trailer", "ab" * 32, "0x75fd0"):
        assert words in text


def test_markup_in_values_is_shown_as_it_is() -> None:
    picture = SlotPicture("[red]", "[blue]", FULL, (Fact("version", "[bold]1"),))
    text = "\n".join(lines(render.slot(picture), 80))
    assert "[red]" in text
    assert "[bold]1" in text


def test_sizes_keep_their_width() -> None:
    assert render.size_text(0) == "0 B"
    assert render.size_text(10239) == "10239 B"
    assert render.size_text(10240) == "10.0 KiB"


def test_flags_are_named_or_none() -> None:
    assert render.flags([]).text == "none"
    assert render.flags(["active", "confirmed"]).text == "active, confirmed"


def test_checks_show_a_mark_and_what_to_do() -> None:
    rows = [Check("store", Level.GOOD, "is writable"), Check("UDP", Level.BAD, "port 1337 is taken", "choose another")]
    text = "\n".join(lines(render.checks(rows), 80))
    assert "✓" in text
    assert "✗" in text
    assert "→ choose another" in text


def test_checks_in_ascii() -> None:
    rows = [Check("a", level, "b") for level in Level]
    assert all(line.isascii() for line in lines(render.checks(rows), 80, encoding="ascii"))


def test_image_shows_its_tlvs() -> None:
    drawn = lines(
        render.image("a.bin", [Fact("version", "1.0.0")], FULL[:3], [TlvRow("0x10 SHA256", 32, False, "cd" * 32)]), 80
    )
    text = "\n".join(drawn)
    assert "0x10 SHA256" in text
    assert all(cell_len(line) <= 80 for line in drawn)
    assert "unprotected" in text


def test_image_without_segments_and_tlvs_is_drawn_too() -> None:
    assert "not valid" in "\n".join(lines(render.image("a.bin", [Fact("verdict", "not valid")], (), []), 80))


@pytest.mark.parametrize("width", [80, 160])
def test_client_line_shows_progress_speed_and_time_left(width: int) -> None:
    line = ClientLine("ble AA:BB:CC:DD:EE:FF", "to slot 1", 50_000, 200_000, 15_000.0)
    drawn = lines(render.live("target", [line]), width)
    text = "\n".join(drawn)
    assert all(cell_len(each) <= width for each in drawn)
    for words in ("AA:BB:CC:DD:EE:FF", "25 %", "15.0 kB/s", "10 s left", "━"):
        assert words in text


def test_client_line_without_an_upload_has_no_bar() -> None:
    text = "\n".join(lines(render.live("target", [ClientLine("udp 127.0.0.1:5", "echo")]), 80))
    assert "━" not in text
    assert "echo" in text


def test_live_display_without_clients_says_so() -> None:
    assert "no client yet" in "\n".join(lines(render.live("target", []), 80))


def test_stalled_upload_waits() -> None:
    assert "waiting" in ClientLine("a", "b", 1, 10).numbers


def test_ready_line_in_words() -> None:
    ready = {"ready": True, "name": "N", "transports": [{"transport": "udp", "host": "127.0.0.1", "port": 1337}]}
    assert render.ready_text(ready) == "N on udp 127.0.0.1 1337"
    assert "no image" in render.ready_text({"ready": False, "reason": "no image in slot 0"})

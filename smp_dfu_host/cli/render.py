"""All drawing: pure functions from values to rich's renderables.

Nothing here reads a file, a clock or the terminal. Widths come from rich when it renders, so that the same value fits
80 columns and 160; glyphs differ as well as colours, so that a picture without colour says the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.segment import Segment as Run
from rich.table import Table
from rich.text import Text

from smp_dfu_host.store.survey import Part, Segment


@dataclass(frozen=True, slots=True)
class Look:
    """How a part of a slot is drawn."""

    glyph: str
    plain: str
    """Where the terminal has only ASCII."""
    style: str
    words: str


LOOKS = {
    Part.HEADER: Look("▌", "H", "bright_blue", "header"),
    Part.IMAGE: Look("█", "#", "green", "image"),
    Part.TLVS: Look("▚", "%", "bright_magenta", "TLVs"),
    Part.FREE: Look("·", ".", "bright_black", "free"),
    Part.DATA: Look("░", "~", "yellow", "old data"),
    Part.STATUS: Look("≡", "=", "cyan", "swap status"),
    Part.TRAILER: Look("▐", "T", "bright_red", "trailer"),
}
"""One look a part; no two share a glyph."""

_FLAG_STYLES = {"active": "bold green", "confirmed": "green", "pending": "bold yellow", "permanent": "yellow"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a picture: what is said, and about what."""

    label: str
    text: str
    style: str = ""
    """Of the text, in rich's words."""


@dataclass(frozen=True, slots=True)
class SlotPicture:
    """What is drawn of one slot."""

    title: str
    place: str
    """Size and address, in words."""
    segments: tuple[Segment, ...]
    facts: tuple[Fact, ...]


def size_text(size: int) -> str:
    """Say a number of bytes in at most nine characters."""
    return f"{size} B" if size < 10 * 1024 else f"{size / 1024:.1f} KiB"


def cells(sizes: Sequence[int], width: int) -> list[int]:
    """Share `width` columns out in proportion to the sizes; whoever has a byte gets a column.

    With fewer columns than sizes the largest get one each.
    """
    total = sum(sizes)
    if len(sizes) > width or not total:
        largest = sorted(range(len(sizes)), key=lambda i: -sizes[i])[:width] if total else []
        return [int(i in largest) for i in range(len(sizes))]
    exact = [size * width / total for size in sizes]
    shares = [max(1 if size else 0, int(share)) for size, share in zip(sizes, exact, strict=True)]
    while sum(shares) > width:
        shares[max(range(len(shares)), key=lambda i: shares[i] - exact[i] if shares[i] > 1 else -inf)] -= 1
    while sum(shares) < width:
        shares[max(range(len(shares)), key=lambda i: exact[i] - shares[i])] += 1
    return shares


@dataclass(frozen=True, slots=True)
class Bar:
    """Segments of a slot as one line, to scale, as wide as there is room."""

    segments: tuple[Segment, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment, width in zip(
            self.segments, cells([each.size for each in self.segments], options.max_width), strict=True
        ):
            look = LOOKS[segment.part]
            yield Run((look.plain if options.ascii_only else look.glyph) * width, console.get_style(look.style))
        yield Run.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self.segments), options.max_width), options.max_width)


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the legend: glyph, name, place and size of a segment."""

    segment: Segment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        look = LOOKS[self.segment.part]
        glyph = look.plain if options.ascii_only else look.glyph
        text = f" {look.words:<11} {self.segment.offset:>#8x} {size_text(self.segment.size):>9}"
        yield Text.assemble((glyph, look.style), text, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(32, 32)


def facts(rows: Iterable[Fact]) -> Table:
    """Draw labelled lines."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for row in rows:
        table.add_row(row.label, Text(row.text, row.style))
    return table


def slot(picture: SlotPicture) -> Panel:
    """Draw one slot: what it holds, and the flash to scale."""
    legend = Columns([Key(segment) for segment in picture.segments], padding=(0, 3))
    body = Group(facts(picture.facts), Padding(Bar(picture.segments), (1, 0)), legend)
    return Panel(
        body,
        title=f"[bold]{escape(picture.title)}[/]",
        subtitle=picture.place,
        title_align="left",
        subtitle_align="right",
    )


def slots(pictures: Iterable[SlotPicture], outlook: Iterable[Fact]) -> Group:
    """Draw all slots and what the next boot will make of them."""
    return Group(*(slot(picture) for picture in pictures), Padding(facts(outlook), (0, 2)))


def flags(names: Iterable[str]) -> Fact:
    """Say the flags of a slot, coloured by the strongest."""
    names = tuple(names)
    style = next((style for flag, style in _FLAG_STYLES.items() if flag in names), "")
    return Fact("flags", ", ".join(names) or "none", style)


@dataclass(frozen=True, slots=True)
class TlvRow:
    """One TLV of an image, in words."""

    kind: str
    """Number and name."""
    size: int
    """Of the data, in bytes."""
    protected: bool
    meaning: str
    """Decoded where the type is known, else the first bytes in hex."""


def image(title: str, rows: Iterable[Fact], segments: tuple[Segment, ...], tlvs: Iterable[TlvRow]) -> Panel:
    """Draw an image file: header, layout to scale, TLVs."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", pad_edge=False)
    table.add_column("TLV", no_wrap=True)
    table.add_column("bytes", justify="right")
    table.add_column("area", no_wrap=True)
    table.add_column("meaning", overflow="fold")
    for row in tlvs:
        table.add_row(row.kind, str(row.size), "protected" if row.protected else "unprotected", Text(row.meaning))
    parts: list[RenderableType] = [facts(rows)]
    if segments:
        parts += [Padding(Bar(segments), (1, 0)), Columns([Key(segment) for segment in segments], padding=(0, 3))]
    if table.row_count:
        parts.append(Padding(table, (1, 0, 0, 0)))
    return Panel(Group(*parts), title=f"[bold]{escape(title)}[/]", title_align="left")


class Level(Enum):
    """How a check ended; the value is its name in JSON."""

    GOOD = "good"
    ADVICE = "advice"
    """Works, but better with what `todo` says."""
    BAD = "bad"
    """The target, or a part of it, cannot run."""
    SKIPPED = "skipped"


_MARKS = {
    Level.GOOD: ("✓", "ok", "bold green"),
    Level.ADVICE: ("!", "!!", "bold yellow"),
    Level.BAD: ("✗", "NO", "bold red"),
    Level.SKIPPED: ("-", "--", "bright_black"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the target needs."""

    name: str
    level: Level
    found: str
    """What was seen."""
    todo: str = ""
    """The one thing to do; empty when there is nothing to do."""
    bluetooth: bool = False
    """True: only the BLE transport needs it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A tick, or what stands in its place."""

    level: Level

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyph, plain, style = _MARKS[self.level]
        yield Text(plain if options.ascii_only else glyph, style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(2, 2)


@dataclass(frozen=True, slots=True)
class Hint:
    """What to do."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"{'->' if options.ascii_only else '→'} {self.text}", "bold")


def checks(rows: Iterable[Check]) -> Table:
    """Draw what `doctor` found: a mark each, and what to do where something is wrong."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=2)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for row in rows:
        table.add_row(Mark(row.level), row.name, Text(row.found))
        if row.todo:
            table.add_row("", "", Hint(row.todo))
    return table


@dataclass(frozen=True, slots=True)
class ClientLine:
    """What the live display says of one client; a bar while it uploads."""

    who: str
    what: str
    """The last command in words, or where the upload goes."""
    done: int = 0
    """Bytes of an upload that have arrived."""
    total: int = 0
    """Bytes that will; 0 when nothing is being uploaded."""
    rate: float = 0.0
    """Bytes per second."""

    @property
    def numbers(self) -> str:
        """Progress in figures, speed and the time that is left."""
        speed = f"{self.rate / 1000:.1f} kB/s"
        eta = f"{(self.total - self.done) / self.rate:.0f} s left" if self.rate else "waiting"
        return f"{100 * self.done // self.total:>3} % {speed:>11} {eta:>9}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= 100
        table = Table.grid(padding=(0, 2, 0, 0), expand=True, pad_edge=False)
        table.add_column(no_wrap=True, width=36 if wide else 22, style="bold")
        if not self.total:
            table.add_column(no_wrap=True, ratio=1)
            table.add_row(Text(self.who), Text(self.what))
        else:
            table.add_column(no_wrap=True, width=20 if wide else 9)
            table.add_column(ratio=1)
            table.add_column(no_wrap=True, width=27, justify="right")
            table.add_row(Text(self.who), Text(self.what), ProgressBar(self.total, self.done), self.numbers)
        yield table


def ready_text(line: Mapping[str, Any]) -> str:
    """Say a ready line in words."""
    if not line.get("ready"):
        return f"off the air: {line.get('reason', 'no image boots')}"
    places = (" ".join(str(part) for part in each.values()) for each in line.get("transports", ()))
    return f"{line.get('name', '')} on {', '.join(places)}"


def live(title: str, lines: Sequence[ClientLine]) -> Panel:
    """Draw the live display."""
    body = Group(*lines) if lines else Text("no client yet", "bright_black")
    return Panel(body, title=escape(title), title_align="left", border_style="bright_black")

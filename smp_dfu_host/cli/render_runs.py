"""Drawing of what is compared: two slots, the cuts of a boot, boot after boot; pure functions as in `render`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment as Run
from rich.table import Table
from rich.text import Text

from smp_dfu_host.cli.render import LOOKS, Fact, Look, cells, facts, size_text
from smp_dfu_host.store.compare import Match
from smp_dfu_host.store.survey import Part

MATCHES = {
    Match.SAME: Look("│", "|", "bright_black", "same"),
    Match.DIFFERS: Look("≠", "x", "bold yellow", "differs"),
    Match.ONLY_A: Look("◂", "<", "cyan", "only in A"),
    Match.ONLY_B: Look("▸", ">", "cyan", "only in B"),
}
"""One look a match; no two share a glyph, nor one with a part of a slot, since both are in one legend."""
SAME_END = Look("·", ".", "green", "same end")
OTHER_END = Look("≠", "x", "bold yellow", "other end")
NO_BOOT = Look("✗", "!", "bold red", "no boot")
BLANK = Look(" ", " ", "", "")


@dataclass(frozen=True, slots=True)
class Strip:
    """Stretches as one line, to scale, as wide as there is room."""

    label: str
    runs: tuple[tuple[Look, int], ...]
    """Look and size of each stretch."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = f"{self.label:<2}"
        yield Run(label, console.get_style("bright_black"))
        widths = cells([size for _, size in self.runs], options.max_width - len(label))
        for (look, _), width in zip(self.runs, widths, strict=True):
            yield Run(
                (look.plain if options.ascii_only else look.glyph) * width, console.get_style(look.style or "none")
            )
        yield Run.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(20, options.max_width), options.max_width)


@dataclass(frozen=True, slots=True)
class Legend:
    """What the glyphs of a strip mean."""

    looks: tuple[Look, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        entries = [
            Text.assemble((look.plain if options.ascii_only else look.glyph, look.style), f" {look.words}")
            for look in self.looks
        ]
        rows: list[Text] = []
        for entry in entries:  # a line break may stand between entries only: a glyph without its words says nothing
            if rows and len(rows[-1]) + 3 + len(entry) <= options.max_width:
                rows[-1] = Text.assemble(rows[-1], "   ", entry)
            else:
                rows.append(entry)
        yield Text("\n").join(rows)


@dataclass(frozen=True, slots=True)
class DiffRow:
    """A stretch that differs."""

    match: Match
    offset: int
    size: int
    bytes: int
    """How many of them differ."""
    sectors: int
    a: tuple[Part, ...]
    """What lies there in A."""
    b: tuple[Part, ...]


def diff(title: str, rows: Iterable[Fact], strips: Sequence[Strip], differing: Sequence[DiffRow]) -> Panel:
    """Draw two slots under each other with what differs between them, and list it."""
    matches = {row.match for row in differing}
    looks = [*(look for part, look in LOOKS.items() if _drawn(look, strips)),
             *(look for match, look in MATCHES.items() if match in matches or match is Match.SAME)]  # fmt: skip
    parts: list[RenderableType] = [facts(rows), Padding(Group(*strips), (1, 0)), Legend(tuple(looks))]
    if differing:
        table = _table(("where", "right"), ("size", "right"), ("sectors", "right"), ("bytes", "right"), ("", "left"))
        table.add_column("A", overflow="fold")
        table.add_column("B", overflow="fold")
        for row in differing:
            what = MATCHES[row.match].words
            a, b = (", ".join(LOOKS[part].words for part in side) for side in (row.a, row.b))
            table.add_row(f"{row.offset:#x}", size_text(row.size), str(row.sectors), str(row.bytes), what, a, b)
        parts.append(Padding(table, (1, 0, 0, 0)))
    return Panel(Group(*parts), title=f"[bold]{escape(title)}[/]", title_align="left")


def _drawn(look: Look, strips: Sequence[Strip]) -> bool:
    return any(look is other for strip in strips for other, _ in strip.runs)


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", pad_edge=False)
    for header, justify in columns:
        table.add_column(header, no_wrap=True, justify="right" if justify == "right" else "left")
    return table


@dataclass(frozen=True, slots=True)
class CutRow:
    """Cuts, one after the other, that ended alike."""

    first: int
    """Flash operation, counted from 1."""
    last: int
    look: Look
    what: str
    """How the boot after the cut ended."""


def cuts(rows: Iterable[Fact], ends: Sequence[CutRow]) -> Panel:
    """Draw how each cut of a boot ended, and list the ends that are not that of the boot without a cut."""
    parts: list[RenderableType] = [facts(rows)]
    if ends:
        strip = Strip("", tuple((row.look, row.last - row.first + 1) for row in ends))
        parts += [Padding(strip, (1, 0)), Legend((SAME_END, OTHER_END, NO_BOOT))]
    if others := [row for row in ends if row.look is not SAME_END]:
        table = _table(("operation", "right"), ("", "left"))
        table.add_column("the boot after the cut", overflow="fold")
        for row in others:
            span = str(row.first) if row.first == row.last else f"{row.first}-{row.last}"
            table.add_row(span, Text(row.look.words, row.look.style), Text(row.what))
        parts.append(Padding(table, (1, 0, 0, 0)))
    return Panel(Group(*parts), title="[bold]power cuts[/]", title_align="left")


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One boot."""

    number: int
    time: str
    ok: bool
    runs: str
    """What ran, in words."""
    operations: int
    actions: tuple[str, ...]


def history(rows: Iterable[HistoryRow]) -> RenderableType:
    """List what the boot loader did, boot by boot."""
    table = _table(("boot", "right"), ("time", "left"), ("flash", "right"))
    table.add_column("what it did", overflow="fold", ratio=1)
    for row in rows:
        said = Text(row.runs, "green" if row.ok else "bold red")
        for action in row.actions:
            said.append(f"\n{action}", "default not bold")
        table.add_row(str(row.number), row.time, str(row.operations), said)
    return table if table.row_count else Text("no boot yet", "bright_black")

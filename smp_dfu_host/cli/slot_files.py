"""`slots diff`, `export`, `import`, `history`: whole slots as files, side by side, and one boot after the other."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from smp_dfu_host.cli import render_runs
from smp_dfu_host.cli.boot_result import say_running
from smp_dfu_host.cli.changing import SlotNumber, changing, check_slot, say_next
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.render import LOOKS, Fact, size_text
from smp_dfu_host.cli.render_runs import BLANK, MATCHES, DiffRow, HistoryRow, Strip
from smp_dfu_host.config import Config
from smp_dfu_host.mcuboot.flash import FlashArea, MemoryStorage
from smp_dfu_host.mcuboot.options import Mode
from smp_dfu_host.mcuboot.trailer import Trailer
from smp_dfu_host.store.build import boot_options
from smp_dfu_host.store.compare import Match, Run, compare, parts_in
from smp_dfu_host.store.fitness import image_start
from smp_dfu_host.store.history import BootEntry
from smp_dfu_host.store.image_files import read_dump, read_one, write_hex
from smp_dfu_host.store.occupancy import unoccupied
from smp_dfu_host.store.output import write_output
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.survey import Segment, slot_segments, survey

HEX_SUFFIXES = (".hex", ".ihex", ".ihx")
"""Names that ask for Intel HEX."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two slots that are compared."""

    name: str
    data: bytes
    sectors: tuple[int, ...]
    segments: tuple[Segment, ...]


@click.command()
@click.argument("a")
@click.argument("b")
@json_option
@shared_options
def diff(a: str, b: str, as_json: bool) -> int:
    """Compare slots or files sector by sector.

    A and B are each the number of a slot or a FILE. Exit status 1 if they differ.
    """
    config = the_config()
    sides = (_side(config, a), _side(config, b))
    runs = compare(sides[0].data, sides[1].data, max(sides, key=lambda side: len(side.data)).sectors)
    differing = [_row(run, sides) for run in runs if run.match is not Match.SAME]
    if as_json:
        show_json(_diff_json(sides, runs))
    else:
        title = f"{sides[0].name} and {sides[1].name}"
        show(render_runs.diff(title, _diff_facts(sides, differing), _strips(sides, runs), differing))
    return 1 if differing else 0


def _side(config: Config, text: str) -> Side:
    if text.isdecimal():
        store = SlotStore(config)
        check_slot(store, int(text))
        with store.reading() as areas:
            area = areas[int(text)]
            return Side(f"slot {int(text)}", area.read(0, area.size), area.sectors, _segments(config, area))
    data = read_one(Path(text), erased=config.flash.erased).data
    slots = config.flash.slot_sectors(config.bootloader.images)
    whole = next((sectors for sectors in slots if sum(sectors) == len(data)), None)
    sectors = whole or tuple(_uniform(len(data), config.flash.sector_size))
    area = FlashArea(text, MemoryStorage(data), sectors, config.flash.align, config.flash.erased)
    return Side(text, data, sectors, _segments(config, area) if whole else survey(area, area.size, area.size))


def _uniform(size: int, sector: int) -> list[int]:
    return [sector] * (size // sector) + ([size % sector] if size % sector else [])


def _segments(config: Config, area: FlashArea) -> tuple[Segment, ...]:
    options = boot_options(config)
    start = image_start(area, area.sectors[0]) if options.mode is Mode.SWAP_USING_OFFSET else 0
    return slot_segments(Trailer(area, options.rules), swaps=options.mode.swaps, base=start)


def _row(run: Run, sides: tuple[Side, Side]) -> DiffRow:
    a, b = (parts_in(side.segments, run.offset, run.size) for side in sides)
    return DiffRow(run.match, run.offset, run.size, run.bytes, run.sectors, a, b)


def _strips(sides: tuple[Side, Side], runs: tuple[Run, ...]) -> list[Strip]:
    total = max(len(side.data) for side in sides)
    drawn = []
    for label, side in zip("AB", sides, strict=True):
        parts = [(LOOKS[each.part], each.size) for each in side.segments]
        missing = total - len(side.data)
        drawn.append(Strip(label, tuple([*parts, (BLANK, missing)] if missing else parts)))
    between = Strip("", tuple((MATCHES[run.match], run.size) for run in runs))
    return [drawn[0], between, drawn[1]]


def _diff_facts(sides: tuple[Side, Side], differing: list[DiffRow]) -> list[Fact]:
    named = [
        Fact(label, f"{side.name}, {len(side.data)} bytes ({size_text(len(side.data))})")
        for label, side in zip("AB", sides, strict=True)
    ]
    if not differing:
        return [*named, Fact("result", "the same, to the byte", "green")]
    said = [_count(differing, Match.DIFFERS, "differ"), _count(differing, Match.ONLY_A, "only in A")]
    said.append(_count(differing, Match.ONLY_B, "only in B"))
    return [*named, Fact("result", "; ".join(filter(None, said)), "bold yellow")]


def _count(rows: list[DiffRow], match: Match, words: str) -> str:
    """Count what is of one kind of difference; empty: nothing."""
    found = [row for row in rows if row.match is match]
    count, sectors = sum(row.bytes for row in found), sum(row.sectors for row in found)
    return f"{count} bytes {words}, in {sectors} sectors" if found else ""


def _diff_json(sides: tuple[Side, Side], runs: tuple[Run, ...]) -> dict[str, object]:
    return {
        "a": {"name": sides[0].name, "size": len(sides[0].data)},
        "b": {"name": sides[1].name, "size": len(sides[1].data)},
        "same": all(run.match is Match.SAME for run in runs),
        "bytes": sum(run.bytes for run in runs),
        "runs": [
            {
                "match": run.match.value,
                "offset": run.offset,
                "size": run.size,
                "sectors": run.sectors,
                "bytes": run.bytes,
                "a": [part.value for part in parts_in(sides[0].segments, run.offset, run.size)],
                "b": [part.value for part in parts_in(sides[1].segments, run.offset, run.size)],
            }
            for run in runs
        ],
    }


@click.command()
@click.argument("slot", type=SlotNumber())
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@shared_options
def export(slot: int, file: Path) -> None:
    """Write SLOT to FILE, all of it. Raw bytes, or Intel HEX at its flash address if the name ends in .hex.

    A FILE that is there is replaced once all is written. None may lie in the store's folder.
    """
    store = SlotStore(the_config())
    check_slot(store, slot)
    _check_outside(file, store.layout.folder)
    with store.reading() as areas:
        data, address = areas[slot].read(0, areas[slot].size), areas[slot].address
    if file.suffix.lower() in HEX_SUFFIXES:
        write_hex(file, data, address)
        click.echo(f"slot {slot} is in {file}: {len(data)} bytes at {address:#x}")
    else:
        write_output(file, data)
        click.echo(f"slot {slot} is in {file}: {len(data)} bytes")


def _check_outside(file: Path, folder: Path) -> None:
    """Refuse a file among the store's own."""
    if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
        raise click.BadParameter(f"{file} lies in the store's folder, {folder}: choose another", param_hint="FILE")


@click.command("import")
@click.argument("slot", type=SlotNumber())
@click.argument("file", type=click.Path(path_type=Path))
@shared_options
def import_(slot: int, file: Path) -> None:
    """Put a dump of a device's flash into SLOT, the running one too.

    Nothing is checked, no server may run. FILE is exactly the slot, as raw bytes, or Intel HEX: of that the slot's
    addresses are taken, and gaps are erased.
    """
    config = the_config()
    with unoccupied(config.store), changing(config) as store:
        check_slot(store, slot)
        with store.reading() as areas:
            address, size = areas[slot].address, areas[slot].size
        store.restore(slot, read_dump(file, address, size, erased=config.flash.erased))
        click.echo(f"slot {slot} is as in {file} now")
        say_next(store)


@click.command()
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N boots.")
@json_option
@shared_options
def history(last: int | None, as_json: bool) -> None:
    """Say what the boot loader did at each boot, with times. The oldest first."""
    entries = SlotStore(the_config()).history()
    shown = entries[-last:] if last else entries
    if as_json:
        show_json({"boots": [_entry_json(entry) for entry in shown]})
    else:
        show(render_runs.history([_history_row(entry) for entry in shown]))


def _history_row(entry: BootEntry) -> HistoryRow:
    what = say_running(entry.slots, entry.version) if entry.ok else "nothing runs"
    return HistoryRow(entry.number, entry.time, entry.ok, what, entry.operations, entry.actions)


def _entry_json(entry: BootEntry) -> dict[str, object]:
    return {
        "number": entry.number,
        "time": entry.time,
        "ok": entry.ok,
        "asked": list(entry.asked),
        "done": list(entry.done),
        "slots": list(entry.slots),
        "version": entry.version or None,
        "operations": entry.operations,
        "actions": list(entry.actions),
    }

"""`boot`: run the boot loader once on the store, as a reset would; say why it will do what; cut its power."""

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

import click
from rich.console import Console
from rich.progress import Progress

from smp_dfu_host.cli import render, render_runs
from smp_dfu_host.cli.boot_result import boot_facts, boot_json
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.explain import explanation, explanation_json, verdicts
from smp_dfu_host.cli.render import Fact
from smp_dfu_host.cli.render_runs import NO_BOOT, OTHER_END, SAME_END, CutRow
from smp_dfu_host.config import Config
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.options import Mode
from smp_dfu_host.store.cuts import CutOutcome, CutTrial
from smp_dfu_host.store.explain import explain as explain_store
from smp_dfu_host.store.occupancy import unoccupied
from smp_dfu_host.store.slots import SlotStore


@click.command()
@click.option("--explain", is_flag=True, help="Boot nothing; say what the next boot will do, and which rule decides.")
@click.option("--cut", type=click.IntRange(min=1), metavar="N",
              help="Cut the power before flash operation N, and keep the interrupted flash.")  # fmt: skip
@click.option("--cut-all", is_flag=True,
              help="Try all cuts on a copy, boot again after each, and report; the store stays.")  # fmt: skip
@click.option("--tear", type=click.IntRange(min=1), metavar="K",
              help="With --cut or --cut-all: the first K bytes of the operation are still done.")  # fmt: skip
@click.option("--loader", is_flag=True,
              help="Mode firmware-loader: ask for the loader in slot 1, as a pin or the boot mode does.")  # fmt: skip
@json_option
@shared_options
def boot(explain: bool, cut: int | None, cut_all: bool, tear: int | None, loader: bool, as_json: bool) -> int:
    """Run the boot loader once and say what it did.

    Not while a server runs on the store. Exit status 1 if no image boots; with --cut-all, if one does not after a
    cut though it does without.
    """
    if sum((explain, cut is not None, cut_all, loader)) > 1:
        raise click.UsageError("--explain, --cut, --cut-all and --loader exclude each other")
    if tear is not None and cut is None and not cut_all:
        raise click.UsageError("--tear goes with --cut or --cut-all")
    config = the_config()
    if loader and config.bootloader.mode != Mode.FIRMWARE_LOADER.value:
        raise click.UsageError(f"--loader goes with mode firmware-loader, this is {config.bootloader.mode}")
    if explain:
        return _explain(config, as_json)
    if cut_all:
        return _cut_all(SlotStore(config), tear or 0, as_json)
    with unoccupied(config.store):
        store = SlotStore(config)
        return _boot(store, loader, as_json) if cut is None else _cut(store, cut, tear or 0, as_json)


def _explain(config: Config, as_json: bool) -> int:
    found = explain_store(config)
    if as_json:
        show_json(explanation_json(found))
    else:
        show(render.facts([*verdicts(found), *explanation(found, config)]))
    return 0 if found.next_boot.ok else 1


def _boot(store: SlotStore, loader: bool, as_json: bool) -> int:
    result = store.boot(loader=loader)
    if as_json:
        show_json(boot_json(result))
    else:
        show(render.facts(boot_facts(result)))
    return 0 if result.ok else 1


def _cut(store: SlotStore, number: int, tear: int, as_json: bool) -> int:
    operations = store.preview_boot().ops
    if number > operations:
        raise click.BadParameter(f"{number}: the next boot has {operations} flash operations", param_hint="--cut")
    if tear > (size := store.operation_size(number)):
        raise click.BadParameter(f"{tear}: operation {number} has {size} bytes", param_hint="--tear")
    try:
        store.boot(number, tear)
    except PowerCut as exc:
        said = str(exc)
    preview = store.preview_boot()
    if as_json:
        show_json({"cut": number, "tear": tear, "operations": operations, "next_boot": boot_json(preview)})
        return 0
    lines = [Fact("cut", f"{said}, of {operations}; the slots are as it left them", "bold yellow")]
    lines += [Fact("" if place else "next boot", action) for place, action in enumerate(preview.actions)]
    show(render.facts(lines))
    return 0


def _cut_all(store: SlotStore, tear: int, as_json: bool) -> int:
    trial = CutTrial.of(store, tear)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        outcomes = list(progress.track(trial.run(), total=trial.operations, description="cuts"))
    if as_json:
        show_json(_cuts_json(trial, outcomes))
    else:
        show(render_runs.cuts(_cut_facts(trial, outcomes), list(_cut_rows(trial, outcomes))))
    return 1 if trial.end.ok and not all(each.result.ok for each in outcomes) else 0


def _cut_facts(trial: CutTrial, outcomes: list[CutOutcome]) -> Iterator[Fact]:
    yield Fact("without", _end(trial.end.ok, trial.end.stopped, str(trial.end.header and trial.end.header.version)))
    yield Fact("cuts", f"{trial.operations}, one before each flash operation; a boot after each")
    if not outcomes:
        yield Fact("result", "the next boot changes nothing, so there is nothing to cut")
        return
    if trial.tear:
        whole = sum(each.size <= trial.tear for each in outcomes)
        torn = f"at most {trial.tear} {'byte' if trial.tear == 1 else 'bytes'} of each operation are still done"
        yield Fact("torn", f"{torn}; {whole or 'none'} of them {'is' if whole == 1 else 'are'} done whole")
    same = sum(not each.differs for each in outcomes)
    yield Fact("same end", f"{same}, to the byte", "green")
    if other := len(outcomes) - same:
        images = sum(bool(each.differs) and each.same_image for each in outcomes)
        kept = "all" if images == other else f"{images} of them"
        yield Fact("other end", f"{other}, {kept} with the same image running", "yellow")
    dead = [each.number for each in outcomes if not each.result.ok]
    yield Fact("no boot", f"{len(dead)}" if dead else "none", "bold red" if dead and trial.end.ok else "")


def _cut_rows(trial: CutTrial, outcomes: Iterable[CutOutcome]) -> Iterator[CutRow]:
    for (look, what), group in groupby(outcomes, lambda each: _outcome(trial, each)):
        numbers = [each.number for each in group]
        yield CutRow(numbers[0], numbers[-1], look, what)


def _outcome(trial: CutTrial, each: CutOutcome) -> tuple[render.Look, str]:
    if not each.result.ok:
        return NO_BOOT, _end(ok=False, stopped=each.result.stopped, version="")
    if not each.differs:
        return SAME_END, ""
    image = "the same image runs" if each.same_image else f"{each.result.header and each.result.header.version} runs"
    differ = "differs" if len(each.differs) == 1 else "differ"
    return OTHER_END, f"{image}; {', '.join(each.differs)} {differ} in {each.bytes} bytes"


def _end(ok: bool, stopped: str | None, version: str) -> str:
    return f"version {version} runs" if ok else stopped or "no image boots"


def _cuts_json(trial: CutTrial, outcomes: list[CutOutcome]) -> dict[str, object]:
    return {
        "operations": trial.operations,
        "tear": trial.tear,
        "without": boot_json(trial.end),
        "differs": [each.number for each in outcomes if each.differs],
        "unbootable": [each.number for each in outcomes if not each.result.ok],
        "cuts": [
            {
                "operation": each.number,
                "size": each.size,
                "same": not each.differs,
                "same_image": each.same_image,
                "areas": list(each.differs),
                "bytes": each.bytes,
                "boot": boot_json(each.result),
            }
            for each in outcomes
        ],
    }

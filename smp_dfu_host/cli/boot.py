"""`boot`: run the boot loader once on the store, as a reset would."""

import click

from smp_dfu_host.cli import render
from smp_dfu_host.cli.config import json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.render import Fact
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.store.occupancy import unoccupied
from smp_dfu_host.store.slots import SlotStore


@click.command()
@json_option
@shared_options
def boot(as_json: bool) -> int:
    """Run the boot loader once and say what it did; not while a server runs on the store.

    Exit status 1 if no image boots.
    """
    config = the_config()
    with unoccupied(config.store):
        result = SlotStore(config).boot()
    if as_json:
        show_json(boot_json(result))
    else:
        show(render.facts(boot_facts(result)))
    return 0 if result.ok else 1


def boot_facts(result: BootResult) -> list[Fact]:
    """Say what a boot did."""
    done = [Fact("" if number else "did", action) for number, action in enumerate(result.actions)]
    flash = Fact("flash", f"{result.ops} operations")
    if not result.ok:
        mend = "load one that does: smp-dfu-host slots load FILE --slot 0"
        return [*done, flash, Fact("result", f"no image boots; {mend}", "bold red")]
    slots = ", ".join(f"slot {slot}" for slot in result.active_slots)
    return [
        *done,
        flash,
        Fact("result", f"{slots} runs, version {result.header and result.header.version}", "bold green"),
    ]


def boot_json(result: BootResult) -> dict[str, object]:
    """Return what a boot did, for JSON."""
    return {
        "ok": result.ok,
        "stopped": result.stopped,
        "asked": [each.name.lower() for each in result.pre_swap_type],
        "done": [each.name.lower() for each in result.swap_type_done],
        "slots": list(result.active_slots),
        "version": str(result.header.version) if result.header else None,
        "operations": result.ops,
        "actions": list(result.actions),
    }

"""`doctor`: whether this host has what the target needs, and the one thing to do where it has not."""

import asyncio

import click

from smp_dfu_host.cli import render
from smp_dfu_host.cli.checks import host_checks, running_server, slots_readable
from smp_dfu_host.cli.config import config_file, json_option, shared_options, show, show_json, the_config
from smp_dfu_host.cli.render import Check, Level
from smp_dfu_host.config import BleConfig


@click.command()
@click.option("--ble/--no-ble", default=None, help="What Bluetooth lacks is a failure; --no-ble does not look at it.")
@json_option
@shared_options
def doctor(ble: bool | None, as_json: bool) -> int:
    """Check what the target needs of this host. Exit status 1 if it could not run."""
    config = the_config()
    found = [*host_checks(config, config_file()), *slots_readable(config)]
    if ble is not False:
        found += asyncio.run(bluetooth_checks(config.transport.ble, ours=running_server(config.store) is not None))
    if as_json:
        show_json([_as_json(check) for check in found])
    else:
        show(render.checks(found))
    needs_ble = config.transport.ble.enabled if ble is None else ble
    return int(any(check.level is Level.BAD and (needs_ble or not check.bluetooth) for check in found))


async def bluetooth_checks(config: BleConfig, *, ours: bool) -> list[Check]:
    """Run every check of Bluetooth; what needs something that is missing is left out."""
    from smp_dfu_host.cli import bluetooth  # slow to import, and needed by nothing else

    return [check async for check in bluetooth.all_checks(config, ours=ours)]


def _as_json(check: Check) -> dict[str, object]:
    return {
        "check": check.name,
        "level": check.level.value,
        "found": check.found,
        "todo": check.todo,
        "bluetooth": check.bluetooth,
    }

"""`config`: every option with its value and where that comes from; the example file."""

import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click

from smp_dfu_host.cli.config import config_file, json_option, shared_options, shared_overrides, show_json, the_config
from smp_dfu_host.cli.serve import overrides, target_options
from smp_dfu_host.config import Config, read_file
from smp_dfu_host.config_text import example, toml, values
from smp_dfu_host.geometry import PRESETS
from smp_dfu_host.hook_events import BY_LABEL
from smp_dfu_host.toml_lines import names

COLUMN = 50
"""Where the origins begin, as far as the values let them."""


_EVENTS = textwrap.fill(f"Events of [[hook]]: {', '.join(BY_LABEL)}.", 76, break_on_hyphens=False)


@click.group(invoke_without_command=True, epilog=f"\b\n{_EVENTS}")
@target_options
@json_option
@shared_options
@click.pass_context
def config(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Print every option with its value, and where that comes from.

    What is printed can be read as a configuration file.
    """
    if context.invoked_subcommand is not None:
        return
    replaced = dict(overrides(options))
    made = the_config(replaced.items())
    file = config_file()
    told = list(origins(made, file, {*replaced, *dict(shared_overrides())}))
    if as_json:
        show_json({name: {"value": _json(value), "from": origin} for name, value, origin in told})
        return
    click.echo(f"# configuration file: {file or 'none'}")
    for name, value, origin in told:
        setting = f"{name} = {toml(value)}" if value is not None else f"# {name} is not set"
        click.echo(f"{setting:{COLUMN}}  # {origin}")


@config.command("example")
def show_example() -> None:
    """Print a file with every option, what it means, and its default."""
    click.echo(example(), nl=False)


def origins(config: Config, file: Path | None, replaced: Collection[str]) -> Iterator[tuple[str, object, str]]:
    """Return each option with its value and where that comes from.

    Args:
        config: What is in effect.
        file: The file that it was read from, if there is one.
        replaced: The options that the command line has replaced.
    """
    said = set(names(read_file(file)[1])) if file else set()
    preset = {f"flash.{name}" for name in PRESETS.get(config.flash.preset, ())}
    for name, value in values(config):
        if name in replaced:
            yield name, value, "command line"
        elif name in said:
            yield name, value, str(file)
        elif name in preset:
            yield name, value, f"flash.preset {config.flash.preset}"
        else:
            yield name, value, "default"


def _json(value: object) -> object:
    """Return an option's value as JSON has it."""
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value) if isinstance(value, Path) else {name: _json(item) for name, item in values(value)}

"""What all commands share: the configuration file, the store, and JSON or a picture on stdout.

The file is, first match wins: `--config FILE`, `$SMP_DFU_HOST_CONFIG`, `$XDG_CONFIG_HOME/smp-dfu-host/config.toml` if
it exists (`~/.config` unless set), or none at all: then every option has its default. An option on the command line
wins over the file.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console, RenderableType

from smp_dfu_host.config import Config, load, override

ENVIRONMENT = "SMP_DFU_HOST_CONFIG"
"""Names the configuration file when `--config` does not."""

_META = "smp_dfu_host.cli.options"

Command = TypeVar("Command", bound=Callable[..., object])


def _remember(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    # Groups and their commands take the same options; `meta` is theirs in common, and the innermost value stays.
    if value is not None:
        context.meta.setdefault(_META, {})[parameter.name] = value


def shared_options(command: Command) -> Command:
    """Add `--config` and `--store` to a command; `the_config` reads them."""
    path = click.Path(path_type=Path)
    store = click.option("--store", type=path, metavar="DIR", expose_value=False, callback=_remember,
                         help="The folder of the slots; overrides the configuration.")  # fmt: skip
    config = click.option("--config", type=path, metavar="FILE", expose_value=False, callback=_remember,
                          help=f"Configuration (TOML); without it ${ENVIRONMENT}, then the user's own.")  # fmt: skip
    return config(store(command))


def json_option(command: Command) -> Command:
    """Add `--json`, passed on as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")(command)


def default_file() -> Path | None:
    """Return the configuration file that is used without `--config`, or None."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(base).expanduser() / "smp-dfu-host" / "config.toml"
    return path if path.is_file() else None


def config_file() -> Path | None:
    """Return the configuration file of this command, or None when there is none."""
    given: Mapping[str, Path] = click.get_current_context().meta.get(_META, {})
    return given.get("config") or default_file()


def the_config(overrides: Iterable[tuple[str, object]] = ()) -> Config:
    """Return the configuration of the current command, `overrides` (dotted option and value) applied last.

    Raises:
        ConfigError: If the file or an option cannot be used.
    """
    config = load(config_file())
    for dotted, value in (*shared_overrides(), *overrides):
        config = override(config, dotted, value)
    return config


def shared_overrides() -> list[tuple[str, object]]:
    """Return the options (dotted, with their values) that the shared command line options replace."""
    given: Mapping[str, Path] = click.get_current_context().meta.get(_META, {})
    return [("store", given["store"])] if given.get("store") else []


def show(picture: RenderableType) -> None:
    """Draw on stdout; colours only on a terminal and without NO_COLOR, as rich decides."""
    Console(highlight=False).print(picture)


def show_json(value: object) -> None:
    """Write one JSON document to stdout."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")

"""The command line: `smp-dfu-host COMMAND`.

Exit status: 0 done; 1 refused or failed; 2 usage or configuration. Whatever goes wrong comes out as one line on stderr:
errors of this package and of click meet in `CommandLine.main`, and nowhere else. Commands collect values and hand them
to `render`, which draws; what the values mean is for the layers below.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from smp_dfu_host import __version__
from smp_dfu_host.cli.ble import ble
from smp_dfu_host.cli.boot import boot
from smp_dfu_host.cli.configuration import config
from smp_dfu_host.cli.doctor import doctor
from smp_dfu_host.cli.image import image
from smp_dfu_host.cli.serve import serve
from smp_dfu_host.cli.slots import slots
from smp_dfu_host.errors import ConfigError, PluginError, SmpHostError

FAILED = 1
"""Exit status: refused or failed."""

USAGE = 2
"""Exit status: usage or configuration."""


class CommandLine(click.Group):
    """The group of all commands; the one place where an error becomes a line and an exit status."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]  # always ends the process
        """Run the command line and end the process with its exit status."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name or a path may not fit the terminal's encoding
                stream.reconfigure(errors="backslashreplace")
        try:
            status = super().main(args, prog_name, **{**extra, "standalone_mode": False})
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as exc:
            exc.show()
            sys.exit(USAGE)
        except click.ClickException as exc:
            _fail(exc.format_message(), exc.exit_code)
        except (ConfigError, PluginError) as exc:
            _fail(str(exc), USAGE)
        except SmpHostError as exc:
            _fail(str(exc), FAILED)
        except click.Abort:
            _fail("interrupted", FAILED)
        except OSError as exc:
            _os_error(exc)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"smp-dfu-host: {' '.join(message.split())}", err=True)
    sys.exit(status)


def _os_error(exc: OSError) -> NoReturn:
    if exc.errno == errno.EPIPE:  # the reader of our stdout (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    where = f"{exc.filename}: " if exc.filename else ""
    _fail(f"{where}{exc.strerror or exc}", FAILED)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="smp-dfu-host")
def main() -> None:
    """Be a firmware-update target: an SMP/MCUmgr server with MCUboot's slots as files."""


for _command in (serve, slots, image, boot, ble, config, doctor):
    main.add_command(_command)

__all__ = ["main"]

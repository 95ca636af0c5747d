"""`serve`: be the target until told to end."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.constrain import Constrain
from rich.live import Live
from rich.logging import RichHandler

from smp_dfu_host.cli import render
from smp_dfu_host.cli.config import Command, shared_options, the_config
from smp_dfu_host.cli.desk import Terminal
from smp_dfu_host.cli.live import Board
from smp_dfu_host.config import PAIRING_POLICIES, SECURITY_LEVELS, Config
from smp_dfu_host.errors import ConfigError

REFRESH_HZ = 5
"""How often the live display is drawn in a second."""


class Endpoint(click.ParamType[tuple[str, int]]):
    """`HOST:PORT`, an IPv6 address in brackets."""

    name = "endpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return host and port."""
        host, colon, port = str(value).rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit():
            self.fail(f"{value!r} is not HOST:PORT, such as 127.0.0.1:1337", param, ctx)
        if int(port) > 0xFFFF:
            self.fail(f"port {port} of {value!r} is over the limit of 65535", param, ctx)
        return host.removeprefix("[").removesuffix("]"), int(port)


TARGET_OPTIONS = (
    click.option("--name", help="The device's name, as it is advertised."),
    click.option("--udp", type=Endpoint(), metavar="HOST:PORT", help="Serve UDP there; port 0 picks a free one."),
    click.option("--serial", metavar="DEV", help="Serve a tty, such as /dev/ttyACM0."),
    click.option("--pty", metavar="PATH", help="Make a pseudo terminal, linked to PATH, and serve it."),
    click.option("--ble/--no-ble", default=None, help="Serve Bluetooth LE."),
    click.option("--adapter", metavar="HCI", help="The Bluetooth adapter: hci1, its address, or the first that can."),
    click.option("--ble-security", type=click.Choice(SECURITY_LEVELS), help="What a Bluetooth link must offer."),
    click.option("--ble-pairing", type=click.Choice(("auto", *PAIRING_POLICIES)), help="How new centrals pair."),
)
"""What replaces options of the file; `overrides` reads them."""


def target_options(command: Command) -> Command:
    """Add the options that replace those of the file."""
    for add in reversed(TARGET_OPTIONS):
        command = add(command)
    return command


@click.command()
@target_options
@click.option("--ready-fd", type=click.IntRange(min=0), metavar="N", help="Write the ready line there, not to stdout.")
@click.option("-v", "--verbose", is_flag=True, help="Log packets, too.")
@shared_options
def serve(ready_fd: int | None, verbose: bool, **options: Any) -> int:
    """Be a firmware-update target until interrupted.

    When the target can be reached, one line of JSON says where. Ctrl-C ends it.
    """
    config = the_config(overrides(options))
    announce = settled(ready_writer(ready_fd))
    console = Console(stderr=True, highlight=False)
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        set_up_logging(RichHandler(console=console, show_path=False, log_time_format="%X"), "%(message)s", verbose)
        display = Display(console, board := Board())
        try:
            return lived(config, partial(run, config, partial(display.announce, announce), board))
        finally:
            display.stop()
    set_up_logging(logging.StreamHandler(), "%(asctime)s %(levelname)-7s %(message)s", verbose)
    return lived(config, partial(run, config, announce))


def lived(config: Config, life: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run the server on the event loop that the configuration wants; return the exit status."""
    with asyncio.Runner(loop_factory=new_uvloop if config.smp.uvloop else None) as runner:
        runner.get_loop()  # before there is anything to run, as there may be no such loop
        return runner.run(life())


def new_uvloop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop's.

    Raises:
        ConfigError: If uvloop is not installed.
    """
    try:
        import uvloop  # an extra, and only where it is asked for
    except ImportError as exc:
        raise ConfigError(
            "smp.uvloop = true: uvloop is not installed; pip install 'smp-dfu-host[uvloop]'", "smp.uvloop"
        ) from exc
    return uvloop.new_event_loop()


def overrides(options: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Turn the command's options into options of the configuration."""
    plain = {
        "name": "name",
        "serial": "transport.serial.device",
        "pty": "transport.serial.pty",
        "ble": "transport.ble.enabled",
        "adapter": "transport.ble.adapter",
        "ble_security": "transport.ble.security",
        "ble_pairing": "transport.ble.pairing",
    }
    if options["udp"] is not None:
        host, port = options["udp"]
        yield from (("transport.udp.enabled", True), ("transport.udp.host", host), ("transport.udp.port", port))
    if options.get("ble_pairing") is not None:
        yield "transport.ble.pairing", "auto"  # so that the file's policy does not forbid the new level on the way
    yield from ((dotted, options[name]) for name, dotted in plain.items() if options[name] is not None)


def ready_writer(fd: int | None) -> "Announce":
    """Return what writes the ready line, to a file descriptor or to stdout.

    Raises:
        click.BadParameter: If the descriptor is not open.
    """
    if fd is None:
        return lambda line: print(json.dumps(line), flush=True)
    try:
        os.fstat(fd)
    except OSError as exc:
        raise click.BadParameter(f"{fd} is not an open file descriptor", param_hint="--ready-fd") from exc
    return lambda line: _write_all(fd, json.dumps(line).encode() + b"\n")


def settled(announce: "Announce") -> "Announce":
    """Return what announces, too, and has the garbage collector leave alone what is there by then.

    That stays until the end, and to look through it would stop all peers now and then, for 50 ms (measured).
    """

    def tell(line: Mapping[str, Any]) -> None:
        gc.freeze()
        announce(line)

    return tell


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def set_up_logging(handler: logging.Handler, form: str, verbose: bool) -> None:
    """Log this package's news, and of others only what is wrong."""
    handler.setFormatter(logging.Formatter(form))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("smp_dfu_host").setLevel(logging.DEBUG if verbose else logging.INFO)


Announce = Callable[[Mapping[str, Any]], None]
"""Takes a ready line."""


class Display:
    """The board, drawn at the foot of the terminal; the log scrolls above it."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board
        self._title = "starting"
        self._live: Live | None = None

    def announce(self, announce: Announce, line: Mapping[str, Any]) -> None:
        """Have a ready line written while the display steps aside, and say it in the title."""
        self._title = render.ready_text(line)
        self.stop()
        announce(line)
        self.start()

    def start(self) -> None:
        """Draw from now on, in a thread; always a new Live, as a stopped one would draw over what came after it."""
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=REFRESH_HZ,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def stop(self) -> None:
        """Wipe the display away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _picture(self) -> Constrain:
        # The terminal echoes ^C behind the last column drawn; there it must not begin a new line.
        return Constrain(render.live(self._title, self._board.lines()), max(self._console.width - len("^C") - 1, 20))


async def run(config: Config, announce: Announce, board: Board | None = None) -> int:
    """Run the server until it ends by itself, or SIGINT or SIGTERM ends it; return the exit status."""
    from smp_dfu_host.server import Server  # loads all transports; other commands need none

    server = Server(config, on_ready=announce, desk=Terminal(board))
    if board is not None:
        board.watch(server.events, server.hooks)
    task = asyncio.ensure_future(server.run())
    loop = asyncio.get_running_loop()
    told = False

    def end(number: signal.Signals) -> None:
        nonlocal told
        told = True
        loop.remove_signal_handler(number)  # the second one ends us at once
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
        return 0

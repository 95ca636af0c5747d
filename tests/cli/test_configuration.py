"""What is in effect, and where that comes from."""

import tomllib
from pathlib import Path

from smp_dfu_host.config import Config, load, parse
from smp_dfu_host.config_text import example, values
from smp_dfu_host.hook_events import Event
from tests.cli.conftest import Cli


def test_every_option_says_where_its_value_comes_from(cli: Cli) -> None:
    cli.configure('[flash]\npreset = "nrf5340"\nalign = 8\n[smp]\nbuf_size = 512\n')
    told = cli.json("config", "--udp", "127.0.0.1:5", "--ble", "--store", "elsewhere")
    assert told.keys() == {name for name, _ in values(Config())}
    assert told["smp.buf_size"] == {"value": 512, "from": str(cli.config)}
    assert told["smp.buf_count"] == {"value": 4, "from": "default"}
    assert told["transport.udp.port"] == {"value": 5, "from": "command line"}
    assert told["transport.ble.enabled"] == {"value": True, "from": "command line"}
    assert told["store"] == {"value": str(Path.cwd() / "elsewhere"), "from": "command line"}
    assert told["flash.sectors"] == {"value": 112, "from": "flash.preset nrf5340"}
    assert told["flash.align"] == {"value": 8, "from": str(cli.config)}
    assert told["bootloader.encryption_key"] == {"value": None, "from": "default"}


def test_the_effective_configuration_is_a_configuration_file(cli: Cli) -> None:
    cli.configure('name = "Ünit"\n[fs]\nfolder = "f"\n[[hook]]\non = "reset"\nrun = ["a b", "\'\\""]\n')
    printed = cli("config").stdout
    assert f"# configuration file: {cli.config}\n" in printed
    assert parse(tomllib.loads(printed), Path("/")) == load(cli.config)
    assert cli.json("config")["hook"]["value"] == [{"on": "reset", "run": ["a b", "'\""], "timeout_ms": 2000}]


def test_without_a_file_there_are_defaults(cli: Cli) -> None:
    assert cli("config", SMP_DFU_HOST_CONFIG="").stdout.startswith("# configuration file: none\n")


def test_example_is_printed(cli: Cli) -> None:
    assert cli("config", "example").stdout == example()


def test_help_lists_the_events(cli: Cli) -> None:
    words = cli("config", "--help").stdout.split()
    assert {event.label for event in Event} <= {word.rstrip(",.") for word in words}


def test_what_is_wrong_is_told_with_its_line(cli: Cli) -> None:
    cli.configure("[smp]\nbuf_size = 512\nbuf_siz = 5\n")
    result = cli("config")
    assert result.exit_code == 2
    assert f"{cli.config}:4: smp.buf_siz: unknown option; [smp] has module" in " ".join(result.stderr.split())

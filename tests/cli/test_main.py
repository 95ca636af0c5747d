"""What all commands share: exit status, one line on stderr, where the configuration comes from."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import smp_dfu_host
from tests.cli.conftest import SMALL, Cli


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


def test_version_is_that_of_the_package(cli: Cli) -> None:
    project = tomllib.loads((Path(smp_dfu_host.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert smp_dfu_host.__version__ == project["version"]
    assert smp_dfu_host.__version__ in cli("--version").stdout


def test_no_command_shows_the_help_and_is_a_usage_error(cli: Cli) -> None:
    result = cli()
    assert result.exit_code == 2
    assert "doctor" in result.output


@pytest.mark.parametrize("command", ["serve", "slots", "boot", "doctor", "image"])
def test_each_command_has_help(cli: Cli, command: str) -> None:
    assert cli(command, "--help").exit_code == 0
    assert command in cli("--help").stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nonsense"], "nonsense"),
        (["slots", "--nonsense"], "--nonsense"),
        (["slots", "erase", "x"], "x"),
        (["slots", "test", "7"], "slots 0 to 1"),
        (["image", "info"], "FILE"),
        (["serve", "--udp", "1337"], "'1337' is not HOST:PORT"),
        (["serve", "--udp", "127.0.0.1:70000"], "65535"),
        (["serve", "--udp", "127.0.0.1:-1"], "-1"),
        (["serve", "--ready-fd", "987"], "987 is not an open file descriptor"),
        (["serve", "--ble-security", "some"], "some"),
        (["serve", "--name", "x" * 30], "29"),
        (["slots", "--config", "/nowhere/config.toml"], "/nowhere/config.toml"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(cli: Cli, args: list[str], words: str) -> None:
    result = cli(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert one_line(result.stderr)
    assert result.stdout == ""


def test_bad_configuration_names_option_value_and_limit(cli: Cli) -> None:
    cli.configure("[flash]\nsectors = 1\n")
    result = cli("slots")
    assert result.exit_code == 2
    assert one_line(result.stderr)
    assert "flash.sectors = 1: must be between 2 and 1024" in result.stderr


def test_refusal_is_one_line_and_status_1(cli: Cli) -> None:
    result = cli("slots", "test")
    assert result.exit_code == 1
    assert one_line(result.stderr)
    assert "slot 1 holds no image" in result.stderr


def test_store_option_wins_over_the_file_wherever_it_stands(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert cli("slots", "--store", other, "erase").exit_code == 0
    assert (other / "slot0.bin").exists()
    again = tmp_path / "again"
    assert cli("slots", "erase", "--store", again).exit_code == 0
    assert (again / "slot0.bin").exists()
    assert not cli.store.exists()


def test_config_option_wins_over_the_environment(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "second.toml"
    path.write_text(f'store = "second"\nname = "Second"\n{SMALL}')
    assert cli.json("slots", "--config", path)["name"] == "Second"
    assert (tmp_path / "second" / "slot0.bin").exists()


def test_user_configuration_is_the_default(cli: Cli, tmp_path: Path) -> None:
    home = tmp_path / "xdg"
    (home / "smp-dfu-host").mkdir(parents=True)
    (home / "smp-dfu-host" / "config.toml").write_text(f'store = "{tmp_path}/mine"\n{SMALL}')
    assert cli("slots", "erase", SMP_DFU_HOST_CONFIG="", XDG_CONFIG_HOME=str(home)).exit_code == 0
    assert (tmp_path / "mine" / "slot0.bin").exists()


def test_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smp_dfu_host", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("smp-dfu-host")


def test_closed_pipe_is_no_traceback(cli: Cli) -> None:
    cli("slots")
    command = f"{sys.executable} -m smp_dfu_host slots --config {cli.config} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_terminal_without_unicode_gets_no_traceback(cli: Cli) -> None:
    cli.configure(f'name = "Café"\n{SMALL}')
    for command in (["slots"], ["doctor", "--no-ble"], ["boot"], ["slots", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "smp_dfu_host", *command, "--config", str(cli.config)],
            env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"},
            capture_output=True,
            check=False,
        )
        assert done.stdout.isascii()
        assert b"Traceback" not in done.stderr
        assert done.stdout


@pytest.mark.parametrize("group", ["", "slots", "ble", "config", "image"])
def test_no_command_in_a_list_is_described_by_half_a_sentence(cli: Cli, group: str) -> None:
    """click cuts a first sentence that is too long for a line of 80 columns."""
    commands = cli(*group.split(), "--help").stdout.split("Commands:")[1]
    assert [line for line in commands.splitlines() if line.endswith("...")] == []

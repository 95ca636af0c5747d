"""One run of the boot loader."""

from smp_dfu_host.store.occupancy import occupied
from tests.cli.conftest import Cli


def test_boot_says_what_it_did(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    result = cli("boot")
    assert result.exit_code == 0
    for words in ("swapping", "operations", "slot 0 runs, version 2.0.0"):
        assert words in result.stdout


def test_boot_of_a_quiet_store_changes_nothing(cli: Cli) -> None:
    said = cli.json("boot")
    assert said == {**said, "ok": True, "asked": ["none"], "done": ["none"], "operations": 0, "version": "0.0.0"}


def test_boot_is_refused_while_a_server_runs(cli: Cli) -> None:
    with occupied(cli.store):
        result = cli("boot")
    assert result.exit_code == 1
    assert "a server runs on this store" in result.stderr
    assert result.stderr.count("\n") == 1

"""One run of the boot loader."""

import pytest
from rich.cells import cell_len

from smp_dfu_host.cli.boot_result import boot_facts
from smp_dfu_host.mcuboot.options import BootResult
from smp_dfu_host.store.occupancy import occupied
from tests.cli.conftest import SMALL, Cli


def test_boot_says_what_it_did(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    result = cli("boot")
    assert result.exit_code == 0
    for words in ("swapping", "operations", "version 2.0.0 runs from slot 0"):
        assert words in result.stdout


@pytest.mark.parametrize(("ops", "said"), [(0, "0 operations"), (1, "1 operation"), (2, "2 operations")])
def test_flash_operations_are_counted_in_words(ops: int, said: str) -> None:
    result = BootResult(
        ok=False, stopped=None, pre_swap_type=(), swap_type_done=(), active_slots=(None,), image_off=None, header=None,
        nv=(), ops=ops, actions=(),
    )  # fmt: skip
    assert said in [fact.text for fact in boot_facts(result)]


def test_slots_of_all_images_are_counted_through(cli: Cli) -> None:
    """Image 1 has slots 2 and 3, whoever speaks of them."""
    cli.configure(SMALL + "[bootloader]\nimages = 2\n")
    cli("slots", "load", cli.image("2.0.0"), "--slot", "3")
    cli("slots", "test", "3")
    explained = " ".join(cli("boot", "--explain").stdout.split())
    assert "rule, image 1 swap type table row 1: slot 3 magic good, image_ok unset -> test" in explained
    done = " ".join(cli("boot").stdout.split())
    assert "image 1: slot 3 is marked for a test" in done
    assert "image 1: swapping 2 sectors of slot 2 and slot 3" in done
    assert "version 0.0.0 runs from slot 0, beside it slot 2" in done
    assert cli.json("slots", "history")["boots"][-1]["slots"] == [0, 2]
    assert cli.json("boot")["slots"] == [0, 2]


def test_boot_of_a_quiet_store_changes_nothing(cli: Cli) -> None:
    said = cli.json("boot")
    assert said == {**said, "ok": True, "asked": ["none"], "done": ["none"], "operations": 0, "version": "0.0.0"}


def test_boot_asks_for_the_firmware_loader(cli: Cli) -> None:
    cli.configure(SMALL + '[bootloader]\nmode = "firmware-loader"\n')
    cli("slots", "load", cli.image("2.0.0"), "--slot", "1")
    assert cli.json("boot")["slots"] == [0]
    result = cli("boot", "--loader")
    assert (result.exit_code, "version 2.0.0 runs from slot 1" in result.stdout) == (0, True)
    assert cli.json("boot")["slots"] == [0]


@pytest.mark.parametrize(
    ("options", "words"),
    [([], "--loader goes with mode firmware-loader, this is swap-using-move"), (["--explain"], "exclude each other")],
)
def test_firmware_loader_is_for_its_mode_and_alone(cli: Cli, options: list[str], words: str) -> None:
    result = cli("boot", "--loader", *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_boot_is_refused_while_a_server_runs(cli: Cli) -> None:
    with occupied(cli.store):
        result = cli("boot")
    assert result.exit_code == 1
    assert "a server runs on this store" in result.stderr
    assert result.stderr.count("\n") == 1


def test_cut_leaves_the_interrupted_flash(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    result = cli("boot", "--cut", "12", "--tear", "3")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "power cut before flash operation 12, after 3 of its bytes" in text
    assert "next boot finishing a swap (test) that was cut at step" in text
    shown = " ".join(cli("slots").stdout.split())
    assert "running nothing: the power failed during a swap" in shown
    assert "active" not in shown
    assert cli.json("slots")["slots"][0]["swap"]["interrupted"] is True
    assert cli.json("boot")["version"] == "2.0.0"


@pytest.mark.parametrize("command", [["test"], ["test", "1"], ["confirm"], ["erase"], ["load", "image.bin"]])
def test_nothing_is_changed_after_a_cut_until_the_next_boot(cli: Cli, command: list[str]) -> None:
    cli("slots", "load", image := cli.image("2.0.0"))
    cli("slots", "test")
    cli("boot", "--cut", "12")
    result = cli("slots", *[image if word == image.name else word for word in command])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "an interrupted swap: run `smp-dfu-host boot` first" in result.stderr
    assert "run `smp-dfu-host boot` first" in " ".join(cli("slots").stdout.split())


def test_cut_as_json(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    said = cli.json("boot", "--cut", "1")
    assert (said["cut"], said["tear"], said["next_boot"]["version"]) == (1, 0, "2.0.0")
    assert said["operations"] == cli.json("boot", "--cut-all")["operations"]


def test_cut_beyond_the_last_operation_is_refused_and_boots_nothing(cli: Cli) -> None:
    result = cli("boot", "--cut", "1")
    assert result.exit_code == 2
    assert "the next boot has 0 flash operations" in result.stderr
    assert result.stderr.count("\n") == 1
    assert cli.json("slots", "history") == {"boots": []}


def test_tear_beyond_the_operation_is_refused_and_boots_nothing(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    sizes = {each["operation"]: each["size"] for each in cli.json("boot", "--cut-all")["cuts"]}
    sector = next(number for number, size in sizes.items() if size == 4096)
    before = {path.name: path.read_bytes() for path in cli.store.iterdir()}
    for number, tear, size in ((sector, 99999, 4096), (sector, 4097, 4096), (1, 9999, sizes[1])):
        result = cli("boot", "--cut", str(number), "--tear", str(tear))
        assert result.exit_code == 2
        assert f"{tear}: operation {number} has {size} bytes" in " ".join(result.stderr.split())
    assert {path.name: path.read_bytes() for path in cli.store.iterdir()} == before
    assert cli("boot", "--cut", str(sector), "--tear", "4096").exit_code == 0


def test_operations_that_a_tear_leaves_whole_are_counted(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    cuts = cli.json("boot", "--cut-all", "--tear", "1024")["cuts"]
    whole = sum(each["size"] <= 1024 for each in cuts)
    assert 1 < whole < len(cuts)
    text = " ".join(cli("boot", "--cut-all", "--tear", "1024", columns=160).stdout.split())
    assert f"at most 1024 bytes of each operation are still done; {whole} of them are done whole" in text


@pytest.mark.parametrize(
    "args", [["--cut", "0"], ["--tear", "1"], ["--cut", "1", "--cut-all"], ["--explain", "--cut-all"], ["--cut", "x"]]
)
def test_options_that_make_no_sense_are_one_line(cli: Cli, args: list[str]) -> None:
    result = cli("boot", *args)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [80, 160])
def test_all_cuts_are_tried_on_a_copy(cli: Cli, columns: int) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    before = cli.json("slots")
    result = cli("boot", "--cut-all", columns=columns)
    assert result.exit_code == 0
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    assert "no boot   none" in result.stdout
    assert "to the byte" in result.stdout
    assert cli.json("slots") == before


def test_cuts_that_end_otherwise_are_listed(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    text = cli("boot", "--cut-all", "--tear", "1", columns=160).stdout
    assert "other end  1, 0 of them with the same image running" in text
    assert "0.0.0 runs; slot 0, slot 1 differ in" in text
    said = cli.json("boot", "--cut-all", "--tear", "1")
    assert said["differs"] == [said["operations"]]
    assert said["unbootable"] == []
    assert [each["operation"] for each in said["cuts"]] == list(range(1, said["operations"] + 1))
    assert said["cuts"][-1]["areas"] == ["slot 0", "slot 1"]


def test_cuts_of_a_boot_that_changes_nothing(cli: Cli) -> None:
    result = cli("boot", "--cut-all")
    assert result.exit_code == 0
    assert "nothing to cut" in " ".join(result.stdout.split())


def test_cuts_of_a_boot_that_fails_anyway_are_no_failure(cli: Cli) -> None:
    cli("slots")
    (cli.store / "slot0.bin").write_bytes(b"\xff" * 32768)
    cli("slots", "load", cli.image("2.0.0"), "--slot", "1")
    cli("slots", "erase", "1")
    assert cli("boot", "--cut-all").exit_code == 0

"""Whole slots as files, side by side, and what happened at each boot."""

import pytest
from rich.cells import cell_len

from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
from smp_dfu_host.store.image_files import write_hex
from smp_dfu_host.store.occupancy import occupied
from tests.cli.conftest import SMALL, Cli


def contents(cli: Cli, slot: int) -> bytes:
    return (cli.store / f"slot{slot}.bin").read_bytes()


@pytest.mark.parametrize("columns", [80, 160])
def test_diff_draws_both_slots_and_lists_what_differs(cli: Cli, columns: int) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    result = cli("slots", "diff", "0", "1", columns=columns)
    assert result.exit_code == 1
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    assert "bytes differ, in 3 sectors" in result.stdout
    for words in ("slot 0 and slot 1", "≠", "trailer", "0x7000"):
        assert words in result.stdout


def test_diff_without_a_difference_is_exit_status_0(cli: Cli) -> None:
    result = cli("slots", "diff", "0", "0")
    assert result.exit_code == 0
    assert "the same, to the byte" in result.stdout


def test_diff_of_files_needs_no_store(cli: Cli) -> None:
    first, second = cli.image("1.0.0", name="a.bin"), cli.image("1.0.0", 9000, name="b.bin")
    said = cli.json("slots", "diff", first, second)
    assert not cli.store.exists()
    assert said["same"] is False
    assert said["runs"][-1]["match"] == "only b"
    assert said["b"]["size"] == second.stat().st_size
    assert sum(run["size"] for run in said["runs"]) == second.stat().st_size
    assert sum(run["bytes"] for run in said["runs"]) == said["bytes"]


def test_diff_names_the_parts_that_differ(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "export", "1", cli.folder / "before.bin")
    cli("slots", "test")
    said = cli.json("slots", "diff", cli.folder / "before.bin", "1")
    (run,) = [run for run in said["runs"] if run["match"] == "differs"]
    assert run["offset"] == 0x7000
    assert run["sectors"] == 1
    assert run["bytes"] == 17
    assert "trailer" in run["a"]


@pytest.mark.parametrize(("side", "words"), [("7", "slots 0 to 1"), ("none.bin", "No such file")])
def test_diff_with_what_is_not_there_is_one_line(cli: Cli, side: str, words: str) -> None:
    result = cli("slots", "diff", "0", side)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["dump.bin", "dump.HEX"])
def test_export_and_import_are_to_the_byte(cli: Cli, name: str) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    dump, before = cli.folder / name, contents(cli, 1)
    assert cli("slots", "export", "1", dump).exit_code == 0
    assert dump.read_bytes().startswith(b":") is (name != "dump.bin")
    cli("slots", "erase")
    result = cli("slots", "import", "1", dump)
    assert result.exit_code == 0
    assert "booting version 2.0.0" in result.stdout
    assert contents(cli, 1) == before


def test_import_goes_into_the_running_slot_too(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    dump = cli.folder / "dump.bin"
    cli("slots", "export", "1", dump)
    assert cli("slots", "import", "0", dump).exit_code == 0
    assert cli.json("boot")["version"] == "2.0.0"


def test_import_takes_the_slot_out_of_the_dump_of_a_device(cli: Cli) -> None:
    cli("slots")
    whole = b"\x11" * 0xC000 + contents(cli, 0) + b"\x22" * 0x8000
    dump = cli.folder / "device.hex"
    write_hex(dump, whole, 0)
    assert cli("slots", "import", "1", dump).exit_code == 0
    assert contents(cli, 1) == b"\x22" * 0x8000


def test_import_of_a_wrong_size_or_address_is_refused(cli: Cli) -> None:
    image = cli.image("2.0.0")
    refused = cli("slots", "import", "1", image)
    assert refused.exit_code == 1
    assert "a dump of the slot has 32768" in refused.stderr
    write_hex(cli.folder / "a.hex", image.read_bytes(), 0x100000)
    elsewhere = cli("slots", "import", "1", cli.folder / "a.hex")
    assert elsewhere.exit_code == 1
    assert "the slot has 0x14000 to 0x1c000" in elsewhere.stderr
    assert cli("slots", "import", "9", image).exit_code == 2


def test_import_is_refused_while_a_server_runs_or_another_holds_the_lock(cli: Cli) -> None:
    dump = cli.folder / "dump.bin"
    cli("slots", "export", "0", dump)
    with occupied(cli.store):
        result = cli("slots", "import", "0", dump)
    assert result.exit_code == 1
    assert "a server runs on this store" in result.stderr
    lock = DfuLock(cli.store / "dfu.lock")
    lock.claim(LockOwner("udp:192.0.2.7"))
    result = cli("slots", "import", "0", dump)
    assert result.exit_code == 1
    assert "udp:192.0.2.7" in result.stderr


@pytest.mark.parametrize("args", [["export", "9", "x.bin"], ["export", "0", "."], ["export", "0", "none/x.bin"]])
def test_export_to_nowhere_is_one_line(cli: Cli, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cli.folder)
    result = cli("slots", *args)
    assert result.exit_code in (1, 2)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["slot0.bin", "state.json", "new.hex", "../store/dfu.lock"])
def test_export_into_the_store_is_refused(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("boot")
    (cli.folder / "link").symlink_to("store")
    monkeypatch.chdir(cli.folder)
    before = {each.name: each.read_bytes() for each in cli.store.iterdir()}
    for folder in ("store", "link", cli.store):
        result = cli("slots", "export", "1", f"{folder}/{name}")
        assert result.exit_code == 2
        assert "lies in the store's folder" in result.stderr
        assert result.stderr.count("\n") == 1
    assert {each.name: each.read_bytes() for each in cli.store.iterdir()} == before


def test_export_replaces_an_older_one(cli: Cli) -> None:
    dump = cli.folder / "dump.bin"
    for slot in ("0", "1"):
        assert cli("slots", "export", slot, dump).exit_code == 0
        assert dump.read_bytes() == contents(cli, int(slot))


@pytest.mark.parametrize("columns", [80, 160])
def test_history_tells_each_boot(cli: Cli, columns: int) -> None:
    assert "no boot yet" in cli("slots", "history").stdout
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    cli("boot", "--cut", "5")
    cli("boot")
    cli("boot")
    result = cli("slots", "history", columns=columns)
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    for words in ("power cut before flash operation 5", "version 2.0.0 runs from slot 0", "version 0.0.0 runs"):
        assert words in result.stdout
    boots = cli.json("slots", "history")["boots"]
    assert [boot["number"] for boot in boots] == [1, 2, 3]
    assert [boot["version"] for boot in boots] == [None, "2.0.0", "0.0.0"]
    assert [boot["number"] for boot in cli.json("slots", "history", "-n", "1")["boots"]] == [3]


def test_damaged_history_is_one_line(cli: Cli) -> None:
    cli("boot")
    (cli.store / "history.jsonl").write_text("nonsense\n")
    result = cli("slots", "history")
    assert result.exit_code == 1
    assert "history.jsonl: line 1" in result.stderr
    assert cli("boot").exit_code == 0


def test_load_takes_intel_hex(cli: Cli) -> None:
    path = cli.folder / "image.hex"
    write_hex(path, cli.image("2.0.0").read_bytes(), 0xC000)
    assert cli("slots", "load", path).exit_code == 0
    assert cli.json("slots")["slots"][1]["version"] == "2.0.0"


@pytest.mark.parametrize("mode", ["direct-xip", "direct-xip-with-revert"])
def test_hex_for_another_slot_is_refused_where_images_run_in_place(cli: Cli, mode: str) -> None:
    cli.configure(f'{SMALL}address = 0x10000\n[bootloader]\nmode = "{mode}"\n')
    path = cli.folder / "image.hex"
    for address, status in ((0x10000, 1), (0x17000, 1), (0x18000, 0), (0xFFF0, 0), (0x80000, 0)):
        write_hex(path, cli.image("2.0.0").read_bytes(), address)
        result = cli("slots", "load", path)
        assert result.exit_code == status
        if status:
            words = f"image.hex: address {address:#x} is in slot 0, slot 1 is at 0x18000, and images run where they lie"
            assert words in result.stderr
            assert cli("slots", "load", "--no-check", path).exit_code == 0


@pytest.mark.parametrize("mode", ["swap-using-move", "swap-using-scratch", "swap-using-offset", "overwrite-only"])
def test_hex_for_slot_0_goes_into_slot_1_where_it_is_moved(cli: Cli, mode: str) -> None:
    cli.configure(f'{SMALL}address = 0x10000\n[bootloader]\nmode = "{mode}"\n')
    path = cli.folder / "image.hex"
    write_hex(path, cli.image("2.0.0").read_bytes(), 0x10000)
    assert cli("slots", "load", path).exit_code == 0


def test_load_takes_the_package_of_the_phone_apps(cli: Cli) -> None:
    result = cli("slots", "load", cli.package({"app.bin": {"image_index": "0", "slot": "3"}}))
    assert result.exit_code == 0
    assert "slot 1 holds" in result.stdout
    assert cli.json("slots")["slots"][1]["version"] == "2.0.0"


def test_load_of_a_package_for_other_images_is_refused(cli: Cli) -> None:
    result = cli("slots", "load", cli.package({"app.bin": {}, "net.bin": {"image_index": "1"}}))
    assert result.exit_code == 1
    assert "is for an image 1, the store has image 0 only" in result.stderr
    assert cli.json("slots")["slots"][1]["version"] is None


def test_load_picks_the_file_for_the_slot_in_direct_xip(cli: Cli) -> None:
    cli.configure(f'{SMALL}[bootloader]\nmode = "direct-xip"\n')
    path = cli.package({"a.bin": {"slot": "0"}, "b.bin": {"slot": "1"}})
    result = cli("slots", "load", path)
    assert result.exit_code == 0
    assert "slot 1 holds b.bin of" in result.stdout

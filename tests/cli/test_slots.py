"""The picture of the slots, and what may be done to them."""

import errno
import os
import re
import zipfile
from itertools import cycle
from pathlib import Path

import pytest
from rich.cells import cell_len

from smp_dfu_host.cli import render
from smp_dfu_host.config import load
from smp_dfu_host.dispatch.lock import DfuLock, LockOwner
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.survey import Part
from tests.cli.conftest import SMALL, Cli


def store_of(cli: Cli) -> SlotStore:
    return SlotStore(load(cli.config))


def cut_swap(cli: Cli, operation: int) -> None:
    """Leave the flash as it is when the power fails in the middle of a swap."""
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    with pytest.raises(PowerCut):
        store_of(cli).boot(cut_before=operation)


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("color", [{"FORCE_COLOR": "1"}, {"NO_COLOR": "1"}, {}])
def test_picture_fits_the_terminal(cli: Cli, columns: int, color: dict[str, str]) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    result = cli("slots", columns=columns, **color)
    assert result.exit_code == 0
    if not color.get("FORCE_COLOR"):
        assert "\x1b[" not in result.stdout
        assert max(map(cell_len, result.stdout.splitlines())) <= columns
    for words in ("slot 0", "slot 1", "0.0.0", "2.0.0", "active", "confirmed", "next boot", "valid by hash"):
        assert words in result.stdout


def test_picture_of_an_erased_slot(cli: Cli) -> None:
    text = cli("slots").stdout
    assert "none" in text
    assert render.LOOKS[Part.FREE].glyph in text


def test_json_says_what_is_where(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0", 5000))
    said = cli.json("slots")
    assert [slot["version"] for slot in said["slots"]] == ["0.0.0", "2.0.0"]
    assert said["slots"][0]["flags"] == ["active", "confirmed", "bootable"]
    assert said["slots"][1]["segments"][1] == {"part": "image", "offset": 32, "size": 5000}
    assert said["swap_type"] == "none"
    assert said["next_boot"]["ok"] is True
    assert said["mode"] == "swap-using-move"


def test_test_is_seen_in_the_preview_and_swaps_at_the_boot(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    result = cli("slots", "test")
    assert result.exit_code == 0
    assert "slot 1 is to be tested" in result.stdout
    assert "version 2.0.0" in result.stdout
    assert cli.json("slots")["slots"][1]["flags"] == ["pending", "bootable"]
    assert cli.json("boot")["version"] == "2.0.0"
    assert cli.json("slots")["slots"][0]["flags"] == ["active", "bootable"]
    assert cli.json("boot")["done"] == ["revert"]


def test_confirm_keeps_the_tested_image(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    cli("slots", "test")
    cli("boot")
    assert cli("slots", "confirm").exit_code == 0
    assert cli.json("slots")["slots"][0]["flags"] == ["active", "confirmed", "bootable"]
    assert cli.json("boot")["version"] == "2.0.0"


def test_confirm_twice_says_that_it_was_already(cli: Cli) -> None:
    cli("slots", "confirm")
    result = cli("slots", "confirm")
    assert result.exit_code == 0
    assert "slot 0 is confirmed" in result.stdout


def test_confirm_of_the_other_slot_is_for_good(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    assert "slot 1 is confirmed" in cli("slots", "confirm", "1").stdout
    assert cli.json("slots")["slots"][1]["flags"] == ["pending", "permanent", "bootable"]


def test_erase_empties_the_other_slot(cli: Cli) -> None:
    cli("slots", "load", cli.image("2.0.0"))
    assert cli("slots", "erase").exit_code == 0
    assert cli.json("slots")["slots"][1]["version"] is None


def test_erase_of_the_running_slot_is_refused(cli: Cli) -> None:
    result = cli("slots", "erase", "0")
    assert result.exit_code == 1
    assert "slot 0 is running" in result.stderr


def test_load_of_what_does_not_boot_is_refused_unless_asked_for(cli: Cli) -> None:
    path = cli.image("2.0.0")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    refused = cli("slots", "load", path)
    assert refused.exit_code == 1
    assert "hash" in refused.stderr
    assert cli("slots", "load", "--no-check", path).exit_code == 0
    assert cli.json("slots")["slots"][1]["valid"] is False


def test_load_of_too_much_names_size_and_limit(cli: Cli) -> None:
    result = cli("slots", "load", cli.image(size=40_000))
    assert result.exit_code == 1
    assert "32768" in result.stderr


def test_load_of_an_empty_file_says_so(cli: Cli) -> None:
    (cli.folder / "empty.bin").touch()
    result = cli("slots", "load", cli.folder / "empty.bin")
    assert result.exit_code == 1
    assert result.stderr.endswith("empty.bin: 0 bytes, an image has at least 32\n")
    assert cli("slots", "load", "--no-check", cli.folder / "empty.bin").exit_code == 0


def test_refusals_of_load_name_the_file(cli: Cli) -> None:
    (cli.folder / "text.bin").write_text("no image, but long enough for the header of one")
    for args, words in (
        (["text.bin"], "text.bin: header magic is 0x"),
        ([cli.image(size=40_000, name="large.bin").name], "large.bin: 40"),
        ([cli.image(name="good.bin").name, "--slot", "0"], "good.bin: slot 0 is running"),
    ):
        result = cli("slots", "load", cli.folder / args[0], *args[1:])
        assert result.exit_code == 1
        assert f"{cli.folder}/{words}" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["load", "--slot", "9", "image.bin"], ["erase", "9"], ["test", "9"]])
def test_slot_that_is_not_there_is_a_usage_error(cli: Cli, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cli.image()
    monkeypatch.chdir(cli.folder)
    result = cli("slots", *command)
    assert result.exit_code == 2
    assert "9: there are slots 0 to 1" in result.stderr


def test_load_of_no_file_is_one_line(cli: Cli, tmp_path: Path) -> None:
    result = cli("slots", "load", tmp_path / "none.bin")
    assert result.exit_code == 1
    assert "none.bin: No such file" in result.stderr


@pytest.mark.parametrize("command", [["test"], ["confirm"], ["erase"], ["load"]])
def test_lock_of_another_owner_is_respected_and_named(cli: Cli, command: list[str]) -> None:
    path = cli.image("2.0.0")
    cli("slots", "load", path)
    owner = LockOwner("udp:192.0.2.7")
    lock = DfuLock(store_of(cli).layout.lock)
    lock.claim(owner)
    result = cli("slots", *command, *([path] if command == ["load"] else []))
    assert result.exit_code == 1
    assert "udp:192.0.2.7" in result.stderr
    assert cli("slots").exit_code == 0
    lock.release(owner)
    assert cli("slots", "erase").exit_code == 0
    assert f"local:{os.getpid()}" in store_of(cli).layout.lock.read_text()


def test_lock_can_be_configured_off(cli: Cli) -> None:
    cli.configure("[dfu]\nlock = false\n[flash]\nsectors = 8\nmax_sectors = 16\n")
    lock = DfuLock(store_of(cli).layout.lock)
    lock.claim(LockOwner("udp:192.0.2.7"))
    assert cli("slots", "erase").exit_code == 0


@pytest.mark.parametrize("columns", [80, 160])
def test_interrupted_swap_is_drawn_and_named(cli: Cli, columns: int) -> None:
    cut_swap(cli, 12)
    result = cli("slots", columns=columns)
    assert result.exit_code == 0
    assert "interrupted (test)" in result.stdout
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    assert cli.json("slots")["slots"][0]["swap"]["interrupted"] is True


def test_every_point_of_a_swap_can_be_drawn(cli: Cli) -> None:
    operations = 0
    while True:
        operations += 3
        try:
            cut_swap(cli, operations)
        except pytest.fail.Exception:
            break  # the swap has fewer operations
        said = cli.json("slots")
        assert all(sum(part["size"] for part in slot["segments"]) == 32768 for slot in said["slots"])
        assert said["next_boot"]["version"] == "2.0.0"
        assert cli("slots").exit_code == 0
        assert cli.json("boot")["version"] == "2.0.0"
        cli("boot")
    assert operations > 15


def test_direct_xip_shows_no_swap_status(cli: Cli) -> None:
    cli.configure('[bootloader]\nmode = "direct-xip"\n[flash]\nsectors = 8\nmax_sectors = 16\n')
    cli("slots", "load", cli.image("2.0.0"))
    said = cli.json("slots")
    assert all(part["part"] != "status" for slot in said["slots"] for part in slot["segments"])
    assert said["next_boot"]["slots"] == [1]
    assert cli("slots", "test").exit_code == 1


def test_slot_file_of_a_wrong_size_is_named(cli: Cli) -> None:
    cli("slots")
    (cli.store / "slot1.bin").write_bytes(b"short")
    result = cli("slots")
    assert result.exit_code == 1
    assert "slot1.bin: 5 bytes" in result.stderr


def test_store_without_an_image_that_boots_says_how_to_mend_it(cli: Cli) -> None:
    cli("slots")
    (cli.store / "slot0.bin").write_bytes(b"\xff" * 32768)
    booted = cli("boot")
    assert booted.exit_code == 1
    assert "slots load FILE --slot 0" in " ".join(booted.stdout.split())
    assert "no image booted" in cli("slots").stdout
    assert cli("slots", "load", cli.image("3.0.0")).exit_code == 0
    assert cli.json("boot")["version"] == "3.0.0"


MODES = ("swap-using-scratch", "overwrite-only", "swap-using-move", "swap-using-offset", "direct-xip-with-revert",
         "direct-xip", "single-slot", "firmware-loader", "ram-load", "ram-load-with-revert",
         "single-slot-ram-load")  # fmt: skip
CORPUS = sorted((Path(__file__).parents[1] / "vectors" / "images" / "images").glob("*.bin"))
"""Images that imgtool made, good and bad ones."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_every_image_is_drawn_in_every_mode(cli: Cli, mode: str) -> None:
    assert len(CORPUS) > 50
    cli.configure(f'{SMALL}[bootloader]\nmode = "{mode}"\n')
    size = cli.json("slots")["slots"][-1]["size"]
    slot = "0" if mode.startswith("single-slot") else "1"
    dump = cli.folder / "dump.bin"
    for path, columns, color in zip(CORPUS, cycle((80, 160)), cycle(({}, {}, {"FORCE_COLOR": "1"})), strict=False):
        dump.write_bytes(path.read_bytes().ljust(size, b"\xff")[:size])
        assert cli("slots", "import", slot, dump).exit_code == 0
        result = cli("slots", columns=columns, **color)
        assert result.exit_code == 0, path.name
        lines = re.sub("\x1b\\[[0-9;]*m", "", result.stdout).splitlines()
        assert max(map(cell_len, lines)) <= columns, path.name
        assert f"slot {slot}" in result.stdout, path.name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("columns", [80, 160])
def test_every_mode_is_drawn(cli: Cli, mode: str, columns: int) -> None:
    cli.configure(f'{SMALL}[bootloader]\nmode = "{mode}"\n')
    cli("slots", "load", cli.image("2.0.0"))
    result = cli("slots", columns=columns)
    assert result.exit_code == 0
    assert max(map(cell_len, result.stdout.splitlines())) <= columns
    assert ("─ scratch ─" in result.stdout) is (mode == "swap-using-scratch")
    said = cli.json("slots")
    assert said["mode"] == mode
    assert all(sum(part["size"] for part in slot["segments"]) == 32768 for slot in said["slots"])
    assert (said["scratch"] is not None) is (mode == "swap-using-scratch")
    assert cli("boot", "--explain").exit_code == 0


@pytest.mark.parametrize("mode", ["swap-using-scratch", "swap-using-offset"])
@pytest.mark.parametrize("operation", [9, 20, 30])
def test_interrupted_swap_of_the_other_modes_is_drawn_too(cli: Cli, mode: str, operation: int) -> None:
    cli.configure(f'{SMALL}[bootloader]\nmode = "{mode}"\n')
    cut_swap(cli, operation)
    assert "interrupted (test)" in cli("slots").stdout
    said = cli.json("slots")
    assert said["slots"][0]["swap"]["interrupted"] is True
    assert said["explanation"]["images"][0]["asked"] == "test"
    assert cli.json("boot")["version"] == "2.0.0"


def test_two_images_are_drawn_and_packages_fill_both(cli: Cli) -> None:
    cli.configure(f"{SMALL}[bootloader]\nimages = 2\n")
    result = cli("slots", "load", cli.package({"app.bin": {}, "net.bin": {"image_index": "1"}}))
    assert result.exit_code == 0
    assert "slot 1 holds app.bin of" in result.stdout
    assert "slot 3 holds net.bin of" in result.stdout
    assert cli("slots", "test", "3").exit_code == 0
    text = " ".join(cli("slots", columns=160).stdout.split())
    for words in ("image 1, slot 3", "running slot 0, slot 2", "rule, image 1", "reset, image 1"):
        assert words in text
    said = cli.json("slots", "diff", "1", "3")
    assert [run["match"] for run in said["runs"]] == ["same", "differs"]


def test_package_with_a_member_that_is_refused_changes_nothing(cli: Cli) -> None:
    cli.configure(f"{SMALL}[bootloader]\nimages = 2\n")
    cli("slots", "load", cli.package({"app.bin": {}, "net.bin": {"image_index": "1"}}, "1.0.0"))
    cli("slots", "test", "1")
    path = cli.package({"app.bin": {}, "net.bin": {"image_index": "1"}}, "3.0.0")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, broken, words in (
        ("net.bin", members["net.bin"][:-1] + b"\x00", "hash"),
        ("net.bin", bytes(40_000), "slot 3 has 32768"),
        ("app.bin", b"", "0 bytes, an image has at least 32"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in {**members, name: broken}.items():
                archive.writestr(each, data)
        before = {each.name: each.read_bytes() for each in cli.store.iterdir()}
        result = cli("slots", "load", path)
        assert result.exit_code == 1
        assert f"package.zip: {name} for slot {1 if name == 'app.bin' else 3}: " in result.stderr
        assert words in result.stderr
        assert result.stdout == ""
        assert {each.name: each.read_bytes() for each in cli.store.iterdir()} == before


@pytest.mark.parametrize("command", [("test",), ("confirm",), ("erase",), ("export", "x.bin"), ("import", "x.bin")])
def test_slot_that_is_no_number_is_called_so(cli: Cli, command: tuple[str, ...]) -> None:
    name, *file = command
    result = cli("slots", name, "first", *file)
    assert result.exit_code == 2
    assert "'first' is not a valid slot number" in result.stderr


def test_somebody_elses_store_can_be_looked_at(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the server runs as root and the one who asks does not."""
    cli("slots", "load", cli.image("2.0.0"))
    before = {path.name: path.read_bytes() for path in cli.store.iterdir()}
    opened = os.open

    def without_write_permission(path: str | Path, flags: int, *rest: int, **more: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY) and Path(path).parent == cli.store:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", without_write_permission)
    assert "2.0.0" in cli("slots").stdout
    assert cli("boot", "--explain").exit_code == 0
    refused = cli("slots", "erase", "1")
    assert refused.exit_code == 1
    assert "Permission denied" in refused.stderr
    assert {path.name: path.read_bytes() for path in cli.store.iterdir()} == before

"""The configuration file: every value is checked, and what is wrong is named with its limit."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smp_dfu_host.config import MODES, Config, load, override, parse
from smp_dfu_host.errors import ConfigError


def test_no_file_gives_the_defaults() -> None:
    assert load(None) == Config()


def test_defaults_are_safe() -> None:
    config = Config()
    assert config.transport.udp.host == "127.0.0.1"
    assert config.transport.ble.security == "encrypt"
    assert config.dfu.lock
    assert not config.transport.udp.enabled
    assert not config.transport.ble.enabled


def test_file_is_read_with_its_folder_as_the_base_of_paths(tmp_path: Path) -> None:
    file = tmp_path / "target.toml"
    file.write_text('store = "here"\n[bootloader]\nkeys = ["a.pem", "/b.pem"]\n[transport.udp]\nport = 0\n')
    config = load(file)
    assert config.store == tmp_path / "here"
    assert config.bootloader.keys == (tmp_path / "a.pem", Path("/b.pem"))
    assert config.transport.udp.port == 0


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse({"store": "~/slots"}, Path("/etc")).store == Path("/home/somebody/slots")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stor": "x"}, "stor: unknown option; the top level has name, store"),
        ({"dfu": {"lok": True}}, r"dfu.lok: unknown option; \[dfu\] has enabled, lock"),
        ({"dfu": True}, r"dfu = True: must be a section, \[dfu\]"),
        ({"dfu": {"lock": 1}}, "dfu.lock = 1: must be true or false"),
        ({"dfu": {"timeout_ms": True}}, "dfu.timeout_ms = True: must be a whole number"),
        ({"dfu": {"timeout_ms": 99}}, "dfu.timeout_ms = 99: must be between 100 and 3600000"),
        ({"smp": {"module": "both"}}, "smp.module = 'both': must be one of dfu, plain"),
        ({"smp": {"buf_size": 2501}}, "smp.buf_size = 2501: must be between 96 and 2500"),
        ({"store": 5}, r"store = 5: must be a path \(text\)"),
        (
            {"transport": {"ble": {"security": "secure", "pairing": "just-works"}}},
            "transport.ble.pairing = 'just-works': cannot reach transport.ble.security = 'secure'; use passkey",
        ),
        (
            {"transport": {"ble": {"pairing_window": True, "pairing": "reject"}}},
            "transport.ble.pairing_window = true: with transport.ble.pairing = 'reject' nobody may ever bond",
        ),
        (
            {"transport": {"ble": {"pairing_window": True, "security": "none"}}},
            "transport.ble.pairing_window = true: with transport.ble.security = 'none' nobody needs to",
        ),
        (
            {"transport": {"ble": {"secure_within_s": 0}}},
            "transport.ble.secure_within_s = 0: must be between 1 and 3600",
        ),
        ({"name": ""}, "name = '': must be 1 to 29 printable bytes"),
        ({"name": "x" * 30}, "must be 1 to 29 printable bytes"),
        ({"name": "tab\t"}, "must be 1 to 29 printable bytes"),
        ({"bootloader": {"keys": "a.pem"}}, "bootloader.keys = 'a.pem': must be a list"),
        ({"hook": {"on": "image-pending"}}, r"hook = .*: must be a list of sections, \[\[hook\]\]$"),
        ({"bootloader": {"keys": [1]}}, r"bootloader.keys\[0\] = 1: must be a path"),
        ({"flash": {"align": 3}}, "flash.align = 3: must be one of 1, 2, 4, 8, 16, 32"),
        ({"flash": {"max_align": 24}}, "flash.max_align = 24: must be one of 8, 16, 32"),
        ({"flash": {"align": 16}}, "flash.align = 16: must not exceed flash.max_align = 8"),
        ({"flash": {"erased": 1}}, "flash.erased = 1: must be one of 0, 255"),
        ({"flash": {"preset": "nrf51"}}, "flash.preset = 'nrf51': must be one of nrf52840"),
        ({"flash": {"preset": 5}}, "flash.preset = 5: must be a text"),
        ({"flash": {"slots": ["4Kx8"] * 3}}, "3 entries, must be 1 or 2"),
        ({"flash": {"slots": ["4Kx8"] * 3}, "bootloader": {"images": 2}}, "3 entries, must be 1, 2 or 4"),
        ({"flash": {"slots": ["4Kx8", "4Kx"]}}, r"flash.slots\[1\] = '4Kx': sectors are written as"),
        ({"flash": {"slots": ["4Kx8", "4Kx129"]}}, "flash.slots: slot 1 has 129 sectors: must not exceed flash.max_s"),
        ({"flash": {"slots": ["1000x8"], "max_align": 16}}, "slot 0 has a sector of 1000 bytes: must be a multiple"),
        (
            {"flash": {"scratch": "4Kx200"}, "bootloader": {"mode": "swap-using-scratch"}},
            "flash.scratch has 200 sectors: must not exceed",
        ),
        (
            {"flash": {"address": 0xFFFFFFF0}},
            "flash.address = 0xfffffff0: the slots end at 0x1000ebff0, beyond 32 bits",
        ),
        ({"bootloader": {"mode": "swap"}}, "bootloader.mode = 'swap': must be one of single-slot, swap-using-scratch"),
        ({"bootloader": {"images": 4}}, "bootloader.images = 4: must be between 1 and 3"),
        ({"bootloader": {"mode": "single-slot", "images": 2}}, "images = 2: bootloader.mode = 'single-slot' has one"),
        ({"bootloader": {"mode": "direct-xip", "bootstrap": True}}, "bootstrap = true: .* never fills a slot"),
        ({"bootloader": {"mode": "ram-load", "downgrade": "by-version"}}, "downgrade = 'by-version': .* replaces no"),
        ({"bootloader": {"validate_once": True}}, "validate_once = true: .* 'swap-using-move' checks at every boot"),
        (
            {"bootloader": {"mode": "direct-xip", "encryption_key": "k.pem"}},
            "encryption_key = '/k.pem': .* runs what is in flash",
        ),
        (
            {"bootloader": {"overwrite_fast": False}},
            "overwrite_fast = false: bootloader.mode = 'swap-using-move' overwrites nothing",
        ),
        (
            {"bootloader": {"encryption_save_tlv": True}},
            "bootloader.encryption_save_tlv = true: there is no bootloader.encryption_key",
        ),
        (
            {"bootloader": {"encryption_sha512": True}},
            "bootloader.encryption_sha512 = true: there is no bootloader.encryption_key",
        ),
        ({"bootloader": {"encryption_bits": 192}}, "bootloader.encryption_bits = 192: must be one of 128, 256"),
        ({"flash": {"sectors": 129}}, "flash.sectors = 129: must not exceed flash.max_sectors = 128"),
        ({"flash": {"sector_size": 1001}}, "flash.sector_size = 1001: must be a multiple of flash.max_align"),
        ({"transport": {"udp": {"port": 65536}}}, "transport.udp.port = 65536: must be between 0 and 65535"),
    ],
)
def test_what_is_wrong_is_named_with_its_limit(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(table, Path("/"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[dfu]\n\nlok = true", 3, "dfu.lok: unknown option"),
        ("[dfu]\nlock = 1", 2, "dfu.lock = 1: must be true or false"),
        ('"a b" = 1', 1, "a b: unknown option"),
        ('[flash]\n# none\nslots = [\n"4Kx8",\n"4Kx"]', 3, r"flash.slots\[1\] = '4Kx': sectors are"),
        ("[flash]\nmax_sectors = 90", 1, "flash.sectors = 118: must not exceed flash.max_sectors = 90"),
        ('[bootloader]\nimages = 2\nmode = "single-slot"', 2, "bootloader.images = 2: bootloader.mode"),
        ('[transport.ble]\nenabled = true\n\nsecurity = "none"\npairing_window = true', 1, "pairing_window = true"),
        ('[[shell.command]]\nname = "a"\nrun = ["a"]\n[[shell.command]]\nname = "b"', 4, "shell.command.run of 'b'"),
        ('[[hook]]\non = "reset"\nrun = ["a"]\n[[hook]]\non = "rest"', 5, r"hook\[1\].on = 'rest': must be one of"),
        ('[[hook]]\nrun = ["a"]', 1, "hook.on is missing: the event"),
        ('[[hook]]\non = "reset"', 1, "hook.run of 'reset' is missing"),
        ('[[hook]]\non = "reset"\nrun = ["a", "b\\u0000"]', 1, "must hold no NUL"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    file = tmp_path / "target.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))}:{line}: .*{message}"):
        load(file)


def test_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "target.toml"
    file.write_text("name = \n")
    with pytest.raises(ConfigError, match=rf"{file}: .*line 1"):
        load(file)


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "target.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=str(file)):
        load(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_override_changes_one_option_and_checks_it() -> None:
    config = override(Config(), "transport.udp.port", 5)
    assert config.transport.udp.port == 5
    assert config.transport.udp.host == Config().transport.udp.host
    with pytest.raises(ConfigError, match="port = 70000"):
        override(Config(), "transport.udp.port", 70000)
    with pytest.raises(ConfigError, match="must be a whole number"):
        override(Config(), "transport.udp.port", "5")


def test_override_takes_paths_relative_to_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert override(Config(), "store", Path("slots")).store == tmp_path / "slots"


def test_override_of_a_preset_takes_all_of_it() -> None:
    config = override(Config(), "flash.preset", "stm32h743")
    assert (config.flash.sector_size, config.flash.max_align) == (128 * 1024, 32)
    assert override(config, "flash.preset", "").flash.sectors == 2


def test_slots_may_be_given_once_in_pairs_or_one_by_one() -> None:
    flash = parse({"flash": {"slots": ["4Kx8", "4Kx9"]}, "bootloader": {"images": 2}}, Path("/")).flash
    assert [len(sectors) for sectors in flash.slot_sectors(2)] == [8, 9, 8, 9]
    four = ["4Kx8", "4Kx9", "2Kx4", "2Kx5"]
    flash = parse({"flash": {"slots": four}, "bootloader": {"images": 2}}, Path("/")).flash
    assert [len(sectors) for sectors in flash.slot_sectors(2)] == [8, 9, 4, 5]
    assert flash.scratch_sectors() == (4096,)


@pytest.mark.parametrize("mode", MODES)
def test_options_at_their_defaults_suit_every_mode(mode: str) -> None:
    defaults = {"overwrite_fast": True, "encryption_save_tlv": False, "encryption_sha512": False}
    assert parse({"bootloader": {"mode": mode, **defaults}}, Path("/")).bootloader.mode == mode


def test_scratch_is_one_sector_unless_given() -> None:
    assert Config().flash.scratch_sectors() == (4096,)
    assert parse({"flash": {"scratch": "4Kx2"}}, Path("/")).flash.scratch_sectors() == (4096, 4096)


def test_store_follows_the_xdg_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert Config().store == Path("/state/smp-dfu-host")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(Config.__slots__)), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Config.__slots__, "other"]), values))
def test_any_table_makes_a_config_or_a_config_error(table: dict[str, Any]) -> None:
    """Whatever the file says, there is a configuration or one clear error."""
    with suppress(ConfigError):
        assert isinstance(parse(table, Path("/")), Config)


@pytest.mark.parametrize(
    ("security", "pairing", "policy"),
    [
        ("none", "auto", ""),
        ("encrypt", "auto", "just-works"),
        ("authenticate", "auto", "passkey"),
        ("secure", "auto", "passkey"),
        ("none", "confirm", "confirm"),
        ("secure", "reject", "reject"),
    ],
)
def test_the_pairing_policy_follows_the_security_level_unless_said(security: str, pairing: str, policy: str) -> None:
    config = parse({"transport": {"ble": {"security": security, "pairing": pairing}}}, Path("/"))
    assert config.transport.ble.policy == policy


@pytest.mark.parametrize("mount", ["lfs1", "/", "/.", "/..", "/a/b", "/a\n", "", "/lfs1/"])
def test_a_mount_name_is_one_component(tmp_path: Path, mount: str) -> None:
    with pytest.raises(ConfigError, match=r"fs\.mount = .*: must be a slash and one name, such as /lfs1"):
        parse({"fs": {"mount": mount}}, tmp_path)
    assert parse({"fs": {"mount": "/SD:"}}, tmp_path).fs.mount == "/SD:"

from pathlib import Path

import pytest

from smp_dfu_host.transport.ble.rfkill import blocked


@pytest.mark.parametrize(("soft", "hard", "expected"), [("0", "0", False), ("1", "0", True), ("0", "1", True)])
def test_a_switch_of_the_adapter_decides(tmp_path: Path, soft: str, hard: str, expected: bool) -> None:
    for number, name in enumerate(("phy0", "hci1")):
        switch = tmp_path / f"rfkill{number}"
        switch.mkdir()
        (switch / "name").write_text(f"{name}\n")
        (switch / "soft").write_text(f"{soft}\n")
        (switch / "hard").write_text(f"{hard}\n")
    assert blocked("hci1", tmp_path) is expected
    assert not blocked("hci0", tmp_path)


def test_without_switches_nothing_is_blocked(tmp_path: Path) -> None:
    assert not blocked("hci0", tmp_path / "none")
    (tmp_path / "rfkill0").mkdir()  # unplugged while it was read
    assert not blocked("hci0", tmp_path)

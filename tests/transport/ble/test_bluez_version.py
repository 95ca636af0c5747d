import pytest

from smp_dfu_host.transport.ble.bluez_version import parse


@pytest.mark.parametrize(
    ("output", "version"),
    [("5.66\n", (5, 66)), ("bluetoothctl: 5.82\n", (5, 82)), ("5.9", (5, 9)), ("", None), ("no idea", None)],
)
def test_the_version_is_found_in_what_the_programs_print(output: str, version: tuple[int, int] | None) -> None:
    assert parse(output) == version

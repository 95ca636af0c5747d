from pathlib import Path

import pytest

from smp_dfu_host.transport.ble.main_conf import channels, main_conf


@pytest.mark.parametrize(
    ("text", "version", "count"),
    [
        ("", (5, 66), 3),
        ("", None, 3),
        ("", (5, 67), 1),
        ("#[GATT]\n#Channels = 3\n", (5, 82), 1),
        ("[GATT]\nChannels = 1\n", (5, 66), 1),
        ("[GATT]\nChannels=5\n", (5, 82), 5),
        ("[GATT]\nchannels = 5\n", (5, 82), 1),  # keys are case-sensitive
        ("[GATT]\nChannels = many\n", (5, 82), 1),
        ("[GATT]\nChannels\n", (5, 66), 3),
        ("no section", (5, 66), 3),
        ("[GATT\nChannels = 1\n", (5, 66), 3),
    ],
)
def test_channels_are_what_the_file_says_or_the_version_has(
    tmp_path: Path, text: str, version: tuple[int, int] | None, count: int
) -> None:
    path = tmp_path / "main.conf"
    path.write_text(text)
    assert channels(main_conf(path), version) == count


def test_a_file_that_is_not_there_or_not_text_says_nothing(tmp_path: Path) -> None:
    assert main_conf(tmp_path / "none") == {}
    (tmp_path / "main.conf").write_bytes(b"\xff\xfe[GATT]")
    assert main_conf(tmp_path / "main.conf") == {}

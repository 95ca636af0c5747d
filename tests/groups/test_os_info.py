from pathlib import Path

import pytest

import smp_dfu_host
from smp_dfu_host.groups.os_info import LETTERS, board, build_date, text_of


def test_every_letter_has_a_text() -> None:
    assert all(text_of(letter, "node") for letter in LETTERS)


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("s", "SMP-DFU-Host"),
        ("n", "node"),
        ("r", smp_dfu_host.__version__),
        ("v", smp_dfu_host.__version__),
        ("o", "Linux"),
    ],
)
def test_texts(letter: str, text: str) -> None:
    assert text_of(letter, "node") == text


def test_the_build_date_has_cs_form() -> None:
    assert len(build_date()) == len("Wed Jun  3 22:19:37 2026")


def test_the_board_is_one_word_from_the_first_file_that_has_one(tmp_path: Path) -> None:
    for name, data in (("empty", b"\0"), ("model", b"Raspberry Pi 4 Model B Rev 1.4\0"), ("other", b"other")):
        (tmp_path / name).write_bytes(data)
    paths = tuple(tmp_path / name for name in ("missing", "empty", "model", "other"))
    assert board(paths) == "Raspberry_Pi_4_Model_B_Rev_1.4"
    assert board(paths[:2]) == "unknown"

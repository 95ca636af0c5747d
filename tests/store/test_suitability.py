"""Flash that does not suit the mode, and odd flash that does."""

from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.errors import ConfigError
from tests.store.builders import image, store

TORN = "and the largest images do not survive an update"


@pytest.mark.parametrize(
    ("mode", "flash", "reason"),
    [
        ("swap-using-move", ["1024x4,512x8"], f"its sectors have 512, 1024 bytes, {TORN}"),
        ("swap-using-offset", ["512x8,256x8"], f"its sectors have 256, 512 bytes, {TORN}"),
        ("swap-using-move", ["512x16", "512x14"], "slot 0 has 16 sectors, slot 1 has 14"),
        ("swap-using-offset", ["512x17", "512x16"], "slot 0 has 17 sectors, slot 1 has 16"),
        ("swap-using-scratch", ["512x16", "768x11"], "slot 0 has 8192 bytes, slot 1 has 8448"),
        ("overwrite-only", ["512x16", "512x15"], "slot 0 has 8192 bytes, slot 1 has 7680"),
        ("swap-using-move", ["512x2"], "a slot of 1024 bytes has no room for an image beside its trailer"),
    ],
)
def test_flash_that_does_not_suit_the_mode_is_refused(tmp_path: Path, mode: str, flash: list[str], reason: str) -> None:
    sections = {"flash": {"slots": flash, "max_sectors": 32}, "bootloader": {"mode": mode}}
    with pytest.raises(ConfigError, match=rf"\[flash\] does not suit bootloader\.mode = '{mode}': {reason}"):
        store(tmp_path, **sections)


@pytest.mark.parametrize(
    ("flash", "suited"),
    [
        ({"preset": "stm32h743"}, "; this flash suits swap-using-scratch, overwrite-only"),
        ({"slots": ["512x16", "512x17"], "max_sectors": 32}, "; this flash suits swap-using-offset"),
        ({"slots": ["512x16", "768x3"], "max_sectors": 32}, "slot 1 has 3"),
    ],
)
def test_modes_that_the_flash_suits_are_named(tmp_path: Path, flash: dict[str, Any], suited: str) -> None:
    with pytest.raises(ConfigError, match=rf"bootloader\.mode = 'swap-using-move': .*{suited}$"):
        store(tmp_path, flash=flash)
    for mode in suited.removeprefix("; this flash suits ").split(", ") if suited.startswith(";") else ():
        assert store(tmp_path / mode, flash=flash, bootloader={"mode": mode}).boot().ok


@pytest.mark.parametrize(
    ("mode", "flash"),
    [
        ("swap-using-scratch", ["512x4,1024x6", "1024x8"]),
        ("swap-using-move", ["512x17", "512x16"]),
        ("swap-using-offset", ["512x16", "512x17"]),
        ("swap-using-move", ["512x12,1024x2"]),
        ("swap-using-offset", ["512x12,1024x2"]),
        ("overwrite-only", ["512x4,1024x6", "512x16"]),
        ("direct-xip", ["512x16", "1024x20"]),
        ("single-slot", ["512x3", "512x2"]),
    ],
)
@pytest.mark.parametrize("erased", [0xFF, 0])
@pytest.mark.parametrize("align", [1, 16, 32])
def test_odd_flash_boots_where_the_mode_takes_it(
    tmp_path: Path, mode: str, flash: list[str], erased: int, align: int
) -> None:
    table = {"slots": flash, "max_sectors": 20, "erased": erased, "align": align, "max_align": max(align, 8)}
    slots = store(tmp_path, flash=table, bootloader={"mode": mode})
    assert slots.boot().ok
    assert slots.max_image_size() > 0


@pytest.mark.parametrize("mode", ["swap-using-move", "swap-using-offset"])
@pytest.mark.parametrize("flash", ["4096x4,8192x2", "512x12,1024x2", "512x12,2048x2"])
def test_slots_of_mixed_sectors_take_images_as_far_as_they_survive(tmp_path: Path, mode: str, flash: str) -> None:
    """The first one is recorded (geometry.json, move-nonuniform): MCUboot takes it, and so does the configuration."""
    slots = store(tmp_path, flash={"slots": [flash], "max_sectors": 16}, bootloader={"mode": mode})
    update = image((2, 0, 0), bytes(range(256)) * (slots.max_image_size() // 256 - 1))
    slots.load(1, update)
    slots.set_state(slots.listed(1).hash, confirm=False)  # type: ignore[union-attr]
    assert str(slots.boot().header.version) == "2.0.0"  # type: ignore[union-attr]
    assert str(slots.boot().header.version) == "0.0.0"  # type: ignore[union-attr]


def test_the_image_with_unsuitable_slots_is_named(tmp_path: Path) -> None:
    flash = {"slots": ["512x16", "512x16", "512x16", "512x14"], "max_sectors": 16}
    with pytest.raises(ConfigError, match="image 1: slot 0 has 16 sectors, slot 1 has 14"):
        store(tmp_path, flash=flash, bootloader={"images": 2})

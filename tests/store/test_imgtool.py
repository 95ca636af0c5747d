"""imgtool reads the store's files as slots of a device: header, TLVs, trailer, signature."""

import json
from pathlib import Path
from typing import Any

import pytest

from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.mcuboot.options import Mode
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.store.admission import Chunk
from smp_dfu_host.store.slots import SlotStore
from smp_dfu_host.store.upload import Uploads
from tests import imgtool
from tests.store.builders import hash_of, store

OK = "Image was correctly validated"
SECTOR, SECTORS = 4096, 8


class Slots:
    """A store whose images imgtool signs.

    Args:
        folder: Where it is made.
        mode: Of the boot loader.
        max_align: Of the trailers.
    """

    def __init__(self, folder: Path, mode: str, max_align: int = 8) -> None:
        self.folder = folder
        self.key = folder / "key.pem"
        self.max_align = max_align
        self.loads = Mode(mode).loads
        (folder / "public.pem").write_bytes(imgtool.make_key(self.key, "ecdsa-p256"))
        self.old, self.new = self.sign("1.0.0"), self.sign("2.0.0")
        (folder / "factory.bin").write_bytes(self.old)
        self.store: SlotStore = store(
            folder,
            bootloader={"mode": mode, "keys": ["public.pem"]},
            flash={"sector_size": SECTOR, "sectors": SECTORS, "max_sectors": 16, "max_align": max_align},
            image={"factory": "factory.bin"},
        )
        assert self.store.boot().ok

    def sign(self, version: str) -> bytes:
        align = ("--max-align", self.max_align) if self.max_align > 8 else ()
        load = ("--load-addr", RAM) if self.loads else ()
        return imgtool.sign(self.folder, "-k", self.key, "-v", version, "-s", "auto", *align, *load)

    def upload(self) -> None:
        uploads = Uploads(self.store)
        for off in range(0, len(self.new), 500):
            data = self.new[off : off + 500]
            step = uploads.inspect(Chunk(off, data, len(self.new) if not off else None), 0)
            if step.first:
                uploads.begin(step, "owner", 0)
            uploads.write(data)
        uploads.finish()

    def verify(self, slot: int) -> str:
        return imgtool.verify(self.file(slot), self.key)

    def info(self, slot: int) -> dict[str, Any]:
        """Return what `imgtool dumpinfo` finds in a slot's file."""
        out = self.folder / "info.json"
        status, text = imgtool.run("dumpinfo", "-f", "json", "-o", out, "-s", self.file(slot))
        assert status == 0, text
        return dict(json.loads(out.read_text(encoding="utf-8")))

    def file(self, slot: int) -> Path:
        return self.folder / "store" / f"slot{slot}.bin"

    def versions(self) -> list[str]:
        return [self.info(slot)["header"]["version"] for slot in (0, 1)]


@pytest.mark.parametrize("max_align", [8, 16, 32])
@pytest.mark.parametrize("mode", ["swap-using-move", "swap-using-scratch"])
def test_imgtool_reads_slots_after_upload_swap_and_revert(tmp_path: Path, mode: str, max_align: int) -> None:
    slots = Slots(tmp_path, mode, max_align)
    slots.upload()
    assert (slots.versions(), [slots.verify(slot) for slot in (0, 1)]) == (["1.0.0+0", "2.0.0+0"], [OK, OK])
    assert slots.info(1)["header"]["img_size"] == ImageHeader.parse(slots.new).img_size
    slots.store.set_state(hash_of(slots.new), confirm=False)
    for versions in (["2.0.0+0", "1.0.0+0"], ["1.0.0+0", "2.0.0+0"]):
        assert slots.store.boot().ok
        assert (slots.versions(), [slots.verify(slot) for slot in (0, 1)]) == (versions, [OK, OK])


RAM = 0x2000_0000
OTHER_MODES = sorted({mode.value for mode in Mode} - {"swap-using-move", "swap-using-scratch", "swap-using-offset"})


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_imgtool_reads_the_slots_of_every_other_mode(tmp_path: Path, mode: str) -> None:
    """Both slots, before an update was asked for and after the boot that it was asked of."""
    slots = Slots(tmp_path, mode)
    slots.store.load(1, slots.new)
    assert (slots.versions(), [slots.verify(slot) for slot in (0, 1)]) == (["1.0.0+0", "2.0.0+0"], [OK, OK])
    if slots.store.options.mode.updates or slots.store.options.mode.forgets:
        slots.store.set_state(hash_of(slots.new), confirm=False)
    assert slots.store.boot().ok
    replaced = mode == "overwrite-only"
    assert (slots.info(0)["header"]["version"], slots.verify(0)) == ("2.0.0+0" if replaced else "1.0.0+0", OK)
    assert (slots.verify(1) == OK) is not replaced


def test_imgtool_reads_an_update_of_swap_using_offset_behind_its_free_sector(tmp_path: Path) -> None:
    """It lies one sector into slot 1; the image that was swapped out lies at the start, where imgtool looks."""
    slots = Slots(tmp_path, "swap-using-offset")
    slots.upload()
    update = tmp_path / "update.bin"
    update.write_bytes(slots.file(1).read_bytes()[SECTOR:])
    assert imgtool.verify(update, slots.key) == OK
    slots.store.set_state(hash_of(slots.new), confirm=False)
    assert slots.store.boot().ok
    assert (slots.versions(), [slots.verify(slot) for slot in (0, 1)]) == (["2.0.0+0", "1.0.0+0"], [OK, OK])


def test_imgtool_sees_what_the_trailer_says(tmp_path: Path) -> None:
    slots = Slots(tmp_path, "swap-using-move")
    slots.upload()
    slots.store.set_state(hash_of(slots.new), confirm=False)
    magic, unset = "77c295f360d2ef7f3552500f2cb67980", 0xFFFFFFFF
    marked = {"magic": magic, "image_ok": 0xFF, "copy_done": 0xFF, "swap_info": SwapType.TEST, "swap_size": unset}
    assert slots.info(1)["trailer"] == marked
    assert slots.store.boot().ok
    assert slots.info(0)["trailer"] == {**marked, "copy_done": 1, "swap_size": max(len(slots.old), len(slots.new))}
    slots.store.confirm_running()
    assert slots.info(0)["trailer"]["image_ok"] == 1


def test_imgtool_finds_the_damage_that_the_store_finds(tmp_path: Path) -> None:
    slots = Slots(tmp_path, "swap-using-move")
    broken = slots.new[:100] + b"?" + slots.new[101:]
    slots.store.load(1, broken, check=False)
    assert slots.verify(1) == "Image has an invalid hash"

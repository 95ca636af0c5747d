"""Encrypted updates; the swaps themselves are compared with recordings in tests/conformance."""

import json
from pathlib import Path

import pytest

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.encryption import load_decryption_key
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.options import RamRegion, SlotPair
from smp_dfu_host.mcuboot.swap_type import SwapType
from tests.mcuboot.images import contents, make_pair

VECTORS = Path(__file__).parents[1] / "vectors"
KEYS = json.loads((VECTORS / "images" / "testkeys.json").read_text(encoding="utf-8"))
KEY = load_decryption_key(bytes.fromhex(KEYS["TESTKEY-enc-ecdsa-p256"]["test_private_pkcs8_der_hex"]))


def image(name: str) -> bytes:
    return (VECTORS / "mcuboot" / "images" / f"{name}.bin").read_bytes()


def loader(pair: SlotPair, mode: Mode = Mode.SWAP_USING_MOVE, *, save: bool = True) -> Bootloader:
    options = BootOptions(mode, max_sectors=16, decryption=KEY, save_tlv=save, ram=RamRegion(0, 0))
    return Bootloader(options, [pair])


@pytest.mark.parametrize("save", [True, False])
def test_round_trip_restores_the_encrypted_bytes(save: bool) -> None:
    pair = make_pair(image("v1"), image("e2"))
    boot = loader(pair, save=save)
    boot.set_pending(0, permanent=False)
    assert boot.boot().swap_type_done == (SwapType.TEST,)
    assert image("e2")[32:200] not in contents(pair)[0]
    assert boot.boot().swap_type_done == (SwapType.REVERT,)
    assert contents(pair)[1].startswith(image("e2"))


def test_key_in_the_trailer_that_cannot_be_opened_stops_the_boot_loader() -> None:
    pair = make_pair(image("v1"), image("e2"))
    boot, meter = loader(pair), pair.primary.meter
    boot.set_pending(0, permanent=False)
    meter.ops, meter.cut_before = 0, 30
    with pytest.raises(PowerCut):
        boot.boot()
    meter.cut_before = None
    pair.primary.load(boot.trailer(0, 0).layout.keys[1], bytes(100))
    stopped = boot.boot().stopped
    assert stopped is not None
    assert "the key in the trailer of the swap cannot be read" in stopped


def test_encrypted_image_in_slot_0_without_a_key_stops_a_swap() -> None:
    """The flag stays when an image is decrypted into slot 0; without the TLV it cannot go back encrypted."""
    pair = make_pair(image("v2enc-noTLV"), image("v2"))
    boot = loader(pair)
    boot.set_pending(0, permanent=True)
    stopped = boot.boot().stopped
    assert stopped is not None
    assert "slot 0 has no key" in stopped


def test_encrypted_update_without_a_key_tlv_is_erased() -> None:
    pair = make_pair(image("v1"), image("v2enc-noTLV"))
    boot = loader(pair)
    boot.set_pending(0, permanent=True)
    assert any("no ENC_EC256 TLV" in action for action in boot.boot().actions)


def test_overwrite_decrypts_on_the_way() -> None:
    pair = make_pair(image("v1"), image("e2"))
    boot = loader(pair, Mode.OVERWRITE_ONLY)
    boot.set_pending(0, permanent=True)
    assert boot.boot().ok
    assert image("e2")[32:200] not in contents(pair)[0]

"""Several images that want things of each other."""

from collections.abc import Sequence

import pytest

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Mode
from smp_dfu_host.mcuboot.flash import PowerCut
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.mcuboot.swap_type import SwapType
from smp_dfu_host.mcuboot.tlv import TlvType
from tests.mcuboot.images import make_image, make_pair

TEST, NONE, REVERT = SwapType.TEST, SwapType.NONE, SwapType.REVERT


def wants(image: int, *version: int) -> list[tuple[int, bytes]]:
    return [(TlvType.DEPENDENCY, bytes([image, 0, 0, 0]) + ImageVersion(*version).pack())]


def loader(*images: tuple[bytes, bytes], mode: Mode = Mode.SWAP_USING_MOVE, build: bool = False) -> Bootloader:
    return Bootloader(BootOptions(mode, max_sectors=16, compare_build=build), [make_pair(*pair) for pair in images])


def marked(boot: Bootloader, images: Sequence[int] = (0, 1)) -> Bootloader:
    for image in images:
        boot.set_pending(image, permanent=False)
    return boot


A1, B1, B2 = make_image((1, 0, 0, 0)), make_image((1, 0, 0, 0), b"b"), make_image((2, 0, 0, 0), b"b")
A2 = make_image((2, 0, 0, 0), protected=wants(1, 2, 0, 0))


def test_both_updates_are_taken_when_what_they_want_comes_along() -> None:
    boot = marked(loader((A1, A2), (B1, B2)))
    assert boot.boot().swap_type_done == (TEST, TEST)
    assert boot.boot().swap_type_done == (REVERT, REVERT)


def test_no_update_is_taken_without_what_it_wants_and_the_marks_stay() -> None:
    boot = marked(loader((A1, A2), (B1, B2)), [0])
    for _ in range(2):
        result = boot.boot()
        assert (result.ok, result.swap_type_done, result.ops) == (True, (NONE, NONE), 0)
        assert (
            "image 0: no image is changed: it wants image 1 in version 2.0.0 or later, there is 1.0.0" in result.actions
        )
    assert boot.swap_type(0) is TEST


def test_image_that_stays_may_be_hurt_by_one_that_goes() -> None:
    """Image 0 runs and wants image 1 in version 2; image 1 is to go back to version 1: nothing changes."""
    boot = marked(loader((make_image((1, 0, 0, 0), protected=wants(1, 2, 0, 0)), b""), (B2, B1)), [1])
    assert boot.boot().swap_type_done == (NONE, NONE)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ((TlvType.DEPENDENCY, bytes(11)), "a dependency of 11 bytes, not 12"),
        ((TlvType.DEPENDENCY, b"\x02" + bytes(11)), "it wants an image 2, there are 2"),
    ],
)
def test_dependency_that_makes_no_sense_is_unmet(entry: tuple[int, bytes], reason: str) -> None:
    boot = marked(loader((A1, make_image((2, 0, 0, 0), protected=[entry])), (B1, B2)))
    assert any(reason in action for action in boot.boot().actions)


def test_build_number_counts_where_it_was_asked_for() -> None:
    update = make_image((2, 0, 0, 0), protected=wants(1, 2, 0, 0, 9))
    assert marked(loader((A1, update), (B1, B2))).boot().swap_type_done == (TEST, TEST)
    assert marked(loader((A1, update), (B1, B2), build=True)).boot().swap_type_done == (NONE, NONE)


def test_broken_tlvs_of_a_running_image_are_unmet() -> None:
    boot = marked(loader((make_image((1, 0, 0, 0))[:40], b""), (B1, B2)), [1])
    assert any("no image is changed: no TLV area" in action for action in boot.boot().actions)


def test_images_swapped_before_a_power_cut_do_not_go_back() -> None:
    boot = marked(loader((A1, A2), (B1, B2)))
    pairs = boot._pairs
    cut = pairs[1].primary.meter
    cut.cut_before = 20
    with pytest.raises(PowerCut):
        boot.boot()
    cut.cut_before = None
    assert boot.swap_type(0) is REVERT
    result = boot.boot()
    assert "image 0: it does not go back: its update was part of one that was cut" in result.actions
    assert result.swap_type_done == (NONE, NONE)
    assert boot.swap_type(0) is boot.swap_type(1) is REVERT


def test_direct_xip_takes_another_slot_when_a_dependency_is_unmet() -> None:
    boot = loader((A1, A2), (B1, b""), mode=Mode.DIRECT_XIP)
    result = boot.boot()
    assert result.active_slots == (0, 0)
    assert any("slot 1 is passed over: it wants image 1 in version 2.0.0" in action for action in result.actions)
    assert loader((A1, A2), (B1, B2), mode=Mode.DIRECT_XIP).boot().active_slots == (1, 1)
    assert loader((b"", A2), (B1, b""), mode=Mode.DIRECT_XIP).boot().ok is False

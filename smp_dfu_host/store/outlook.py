"""What the next boot runs, mode by mode, as far as marks and versions tell; no image is checked for it.

    swap, overwrite             what the trailers ask for
    direct-xip, ram-load        the higher version, the running slot on ties
    the same with revert        the running one, if it is confirmed or nothing marked is higher; else see below
    single-slot and the like    the running one

With revert, of the running slot A and the other one B:

    A ran before, unconfirmed   revert, to B
    B has no mark               A; as a test while A is marked for one
    B is higher and confirmed   B
    B is higher and marked      test of B

Source: zephyr subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c, img_mgmt_get_next_boot_slot.
"""

from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.options import BootOptions
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, TrailerState
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import BootType, Listed, NextBoot, next_boot


def outlook(
    options: BootOptions, loader: Bootloader, running: int, mine: Listed | None, its: Listed | None
) -> NextBoot:
    """Return what the next boot runs.

    Args:
        options: The boot loader's build.
        loader: The boot loader, on the slots as they are.
        running: The slot that runs, counted through all images.
        mine: The image in it, None if it does not read as one.
        its: The same for the other slot of that image.
    """
    other, (image, slot) = running ^ 1, divmod(running, SLOTS_OF_IMAGE)
    if options.mode.updates:
        return next_boot(loader.swap_type(image), running, other)
    if not options.mode.picks_slot or mine is None or its is None:
        return NextBoot(BootType.NORMAL, running)
    higher = its.header.version.compare(mine.header.version, build=options.compare_build) > 0
    if not options.mode.forgets:
        return NextBoot(BootType.NORMAL, other if higher else running)
    marks = (loader.trailer(image, slot).state(), loader.trailer(image, slot ^ 1).state())
    return _with_revert(marks, running, higher=higher)


def _with_revert(marks: tuple[TrailerState, TrailerState], running: int, *, higher: bool) -> NextBoot:
    mine, its = marks
    other = running ^ 1
    if mine.magic is Magic.GOOD and mine.copy_done is Flag.SET and mine.image_ok is not Flag.SET:
        return NextBoot(BootType.REVERT, other)
    if its.magic is not Magic.GOOD:
        tested = mine.magic is Magic.GOOD and mine.image_ok is not Flag.SET
        return NextBoot(BootType.TEST if tested else BootType.NORMAL, running)
    if not higher or (its.copy_done is Flag.SET and its.image_ok is not Flag.SET):
        return NextBoot(BootType.NORMAL, running)
    return NextBoot(BootType.NORMAL if its.image_ok is Flag.SET else BootType.TEST, other)

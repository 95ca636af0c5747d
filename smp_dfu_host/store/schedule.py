"""State writes: which slot a hash means, and what may be asked of it now.

    T, N                 test A   test B       confirm A         confirm B
    normal, N = A        refused  schedule     as asked already  schedule for good
    normal, N = B        refused  busy         busy              as asked already
    test, N = B          refused  as asked     busy              busy
    revert, N = B        refused  busy         confirm           as asked already

A is the running slot, B the other one, T and N are how and what the next boot runs (zephyr
subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c, img_mgmt_set_next_boot_slot and img_mgmt_state_write).
"""

from collections.abc import Sequence

from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE
from smp_dfu_host.store.listing import BootType, Listed, NextBoot


def find_slot(
    listed: Sequence[Listed | None],
    digest: bytes | None,
    active: int,
    *,
    confirm: bool,
    hash_size: int = 32,
    wanted: int | None = None,
) -> int:
    """Return the slot that a request means: the first one with an image of that hash.

    Args:
        listed: The images, slot by slot.
        digest: The hash that was asked for.
        active: The running slot, which is meant if there is no hash.
        confirm: Whether the image is to be confirmed.
        hash_size: Bytes of the boot loader's hash.
        wanted: The slot that is meant if several hold that image; SMP cannot say it.

    Raises:
        SlotRefusal: If there is none, or no image can have such a hash.
    """
    if not digest and confirm:
        return active
    if not digest or len(digest) != hash_size:
        raise SlotRefusal(Fault.INVALID_HASH, f"hash of {len(digest or b'')} bytes, must be {hash_size}")
    holding = [slot for slot, image in enumerate(listed) if image and image.hash == digest]
    if holding:
        return wanted if wanted in holding else holding[0]
    raise SlotRefusal(Fault.HASH_NOT_FOUND, f"no slot holds an image with hash {digest.hex()}")


def check_other(slot: int, active: int, allowed: str) -> None:
    """Refuse to confirm what is not image 0's, unless that is configured.

    An application can only vouch for itself (img_mgmt_state.c, ..._ALLOW_CONFIRM_NON_ACTIVE_IMAGE_*).

    Args:
        slot: The one to be confirmed.
        active: The one of the same image that runs.
        allowed: `[image] confirm_others`.

    Raises:
        SlotRefusal: If that is not allowed.
    """
    if slot < SLOTS_OF_IMAGE or allowed == "any" or (allowed == "secondary" and slot != active):
        return
    raise SlotRefusal(Fault.OTHER_IMAGE, f"slot {slot} is of image {slot // SLOTS_OF_IMAGE}, image 0 cannot confirm it")


def must_write(slot: int, active: int, plan: NextBoot, *, confirm: bool, free: bool = False) -> bool:
    """Decide a state write; False: it is as asked already.

    Args:
        slot: The slot that is meant.
        active: The one of the same image that runs.
        plan: What the next boot runs now.
        confirm: For good, or for one boot.
        free: Whether marks may be made in any order, as in direct-xip with revert; the table does not count then.

    Raises:
        SlotRefusal: If it is not allowed now.
    """
    if not confirm and slot == active:
        raise SlotRefusal(Fault.TEST_OF_RUNNING, f"slot {slot} is running and cannot be tested")
    if free:
        return True
    planned = slot == plan.slot
    match plan.type:
        case BootType.TEST:
            allowed, write = not confirm and planned, False
        case BootType.REVERT:
            allowed, write = confirm, not planned
        case BootType.NORMAL:
            allowed, write = plan.slot == active or (confirm and planned), not (confirm and planned)
    if not allowed:
        raise SlotRefusal(Fault.ALREADY_PENDING, f"the next boot runs slot {plan.slot} ({plan.type.value}) already")
    return write

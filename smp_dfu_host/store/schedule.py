"""State writes: which slot a hash means, and what may be asked of it now.

    T, N                 test A   test B       confirm A         confirm B
    normal, N = A        refused  schedule     as asked already  schedule for good
    normal, N = B        refused  busy         busy              as asked already
    test, N = B          refused  as asked     busy              busy
    revert, N = B        refused  busy         confirm           as asked already

A is the running slot, B the other one, T and N are how and what the next boot runs (zephyr
subsys/mgmt/mcumgr/grp/img_mgmt/src/img_mgmt_state.c, img_mgmt_set_next_boot_slot and img_mgmt_state_write).
"""

from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.listing import HASH_SIZE, BootType, NextBoot, read_listed


def find_slot(areas: tuple[FlashArea, ...], digest: bytes | None, active: int, *, confirm: bool) -> int:
    """Return the slot that a request means: the first one with an image of that hash.

    Raises:
        SlotRefusal: If there is none, or no image can have such a hash.
    """
    if not digest and confirm:
        return active
    if not digest or len(digest) != HASH_SIZE:
        raise SlotRefusal(Fault.INVALID_HASH, f"hash of {len(digest or b'')} bytes, must be {HASH_SIZE}")
    for slot, area in enumerate(areas):
        listed = read_listed(area)
        if listed and listed.hash == digest:
            return slot
    raise SlotRefusal(Fault.HASH_NOT_FOUND, f"no slot holds an image with hash {digest.hex()}")


def must_write(slot: int, active: int, plan: NextBoot, *, confirm: bool) -> bool:
    """Decide a state write; False: it is as asked already.

    Raises:
        SlotRefusal: If it is not allowed now.
    """
    if not confirm and slot == active:
        raise SlotRefusal(Fault.TEST_OF_RUNNING, f"slot {slot} is running and cannot be tested")
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

"""What an application writes into trailers: "test that image", "keep this one".

Source: mcuboot boot/bootutil/src/bootutil_public.c, boot_set_next. The order of writes matters when the power fails:
magic first (a test), then image_ok (for good), then swap_info (which no boot loader reads there).
"""

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.swap_type import Flag, Magic, SwapType
from smp_dfu_host.mcuboot.trailer import Trailer

EBADIMAGE = 3
EBADVECT = 4


class SetNextError(StoreError):
    """A slot cannot be marked; its trailer holds garbage."""

    def __init__(self, rc: int, reason: str) -> None:
        super().__init__(reason)
        self.rc = rc
        """MCUboot's code: 3 (BOOT_EBADIMAGE) or 4 (BOOT_EBADVECT)."""


def set_next(trailer: Trailer, image: int, *, active: bool, confirm: bool) -> None:
    """Mark a slot in a build that swaps or overwrites.

    Args:
        trailer: Of the slot.
        image: Number of its image pair.
        active: Whether the slot is the one that runs; it is then confirmed, and nothing is scheduled.
        confirm: Whether the image stays for good.

    Raises:
        SetNextError: If the magic is bad; nothing is written.
    """
    state = trailer.state()
    if state.magic is Magic.BAD:
        raise SetNextError(EBADVECT if active else EBADIMAGE, f"{trailer.area.name}: the trailer's magic is bad")
    if active:
        # Confirmed whatever copy_done says, so that an image from a programmer can be confirmed too.
        if state.magic is Magic.GOOD and state.image_ok is Flag.UNSET:
            trailer.write_image_ok()
    elif state.magic is Magic.UNSET:
        trailer.write_magic()
        if confirm:
            trailer.write_image_ok()
        trailer.write_swap_info(SwapType.PERM if confirm else SwapType.TEST, image)


def set_next_direct(trailer: Trailer, *, active: bool, confirm: bool) -> None:
    """Mark a slot in a build that picks a slot (MCUBOOT_BOOTUTIL_LIB_FOR_DIRECT_XIP).

    Args:
        trailer: Of the slot.
        active: Whether the slot is the one that runs; it is then confirmed.
        confirm: Whether the image stays for good.

    Raises:
        SetNextError: If the magic is bad; nothing is written.
    """
    state = trailer.state()
    if state.magic is Magic.BAD:
        raise SetNextError(EBADIMAGE, f"{trailer.area.name}: the trailer's magic is bad")
    if state.magic is Magic.UNSET:
        trailer.write_magic()
    if active or confirm:
        if state.copy_done is Flag.UNSET:
            trailer.write_copy_done()
        if state.image_ok is Flag.UNSET:
            trailer.write_image_ok()

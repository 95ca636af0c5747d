"""How swaps keep account of themselves in a trailer.

Source: mcuboot boot/bootutil/src/swap_misc.c, swap_status_init; loader.c, boot_write_status.
"""

from smp_dfu_host.mcuboot.context import BootContext, BootStatus, ImageState
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.swap_type import Flag, SwapType


class StatusWriter:
    """Writes the account of one image's swap."""

    def __init__(self, context: BootContext, image: ImageState) -> None:
        self._context = context
        self._image = image

    def begin(self, area: FlashArea, status: BootStatus) -> None:
        """Write what a resumed swap must know to an erased trailer; the magic last, as it makes the rest count."""
        trailer = self._context.trailer(area)
        secondary = self._context.trailer(self._image.pair.secondary).state()
        if status.swap_type != SwapType.NONE:
            trailer.write_swap_info(status.swap_type, self._image.index)
        if secondary.image_ok is Flag.SET:
            trailer.write_image_ok()
        trailer.write_swap_size(status.swap_size)
        trailer.write_magic()

    def step(self, number: int, value: int) -> None:
        """Write that a step is done, in slot 0; steps are counted from 0."""
        self._context.trailer(self._image.pair.primary).write_status(
            number, self._context.write_size(self._image), value
        )

"""How the swap modes keep account of a swap in a trailer.

Source: mcuboot boot/bootutil/src/swap_misc.c, swap_status_init; loader.c, boot_write_status.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, BootStatus, BootStopped, ImageState
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import ImageInvalid
from smp_dfu_host.mcuboot.swap_type import Flag, SwapType
from smp_dfu_host.mcuboot.trailer import Trailer


def begin(context: BootContext, image: ImageState, area: FlashArea, status: BootStatus) -> None:
    """Write what a resumed swap must know to an erased trailer; the magic last, as it makes the rest count."""
    trailer = context.trailer(area)
    secondary = context.trailer(image.pair.secondary).state()
    if status.swap_type != SwapType.NONE:
        trailer.write_swap_info(status.swap_type, image.index)
    if secondary.image_ok is Flag.SET:
        trailer.write_image_ok()
    trailer.write_swap_size(status.swap_size)
    if trailer.rules.tlv_sizes:
        trailer.write_tlv_sizes(*status.tlv_sizes)
    if image.keys:
        image.keys.write(trailer)
    trailer.write_magic()


def load_keys(image: ImageState, slots: tuple[int, ...] = (PRIMARY, SECONDARY)) -> None:
    """Take the keys of images from their TLVs, before they are moved.

    Raises:
        BootStopped: If an encrypted image has none that can be opened: MCUboot asserts.
    """
    if image.keys is None:
        return
    for slot in slots:
        if image.headers[slot].encrypted:
            try:
                image.keys.load(slot, image.slot(slot), image.headers[slot], image.base_of(slot))
            except ImageInvalid as exc:
                raise BootStopped(f"slot {slot} has no key: {exc}") from exc


def resume(image: ImageState, status: BootStatus, trailer: Trailer) -> None:
    """Take from a trailer what an interrupted swap is of.

    Raises:
        BootStopped: If it makes no sense, or a key cannot be opened: MCUboot asserts.
    """
    status.swap_size = trailer.swap_size()
    if status.swap_size > image.pair.primary.size:
        raise BootStopped(f"a swap of {status.swap_size} bytes, slot 0 has {image.pair.primary.size}")
    if trailer.rules.tlv_sizes:
        status.tlv_sizes = trailer.tlv_sizes()
    if image.keys is not None:
        try:
            image.keys.read(trailer)
        except ImageInvalid as exc:
            raise BootStopped(f"the key in the trailer of the swap cannot be read: {exc}") from exc


def done(context: BootContext, image: ImageState, area: FlashArea, number: int, value: int) -> None:
    """Write that a step is done; steps are counted from 0, the value is the state's number."""
    context.trailer(area).write_status(number, context.write_size(image), value)

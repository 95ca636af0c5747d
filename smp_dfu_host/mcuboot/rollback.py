"""Keeping older images out: security counters and downgrade prevention.

Sources: mcuboot boot/bootutil/src/bootutil_img_security_cnt.c and loader.c (boot_update_security_counter,
check_downgrade_prevention). The stored counters are the caller's, one an image; they only ever rise.
"""

from smp_dfu_host.mcuboot.context import PRIMARY, SECONDARY, BootContext, ImageState
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.options import Downgrade
from smp_dfu_host.mcuboot.tlv import TlvType, read_tlvs

_SIZE = 4
"""Bytes of a security counter."""


def security_counter(image: ImageState, slot: int, header: ImageHeader) -> int | None:
    """Return the counter in the protected TLVs of a slot's image; None if there is none, or none that makes sense."""
    try:
        tlvs = read_tlvs(image.slot(slot), header, image.base_of(slot), protected_only=True)
    except ImageInvalid:
        return None
    found = tlvs.find(TlvType.SEC_CNT)
    if not found or len(found[0].data) != _SIZE:
        return None
    return int.from_bytes(found[0].data, "little")


def raise_counter(context: BootContext, image: ImageState, slot: int, header: ImageHeader) -> bool:
    """Raise the stored counter to that of a slot's image; return False if the image has none."""
    counter = security_counter(image, slot, header)
    if counter is None:
        return False
    if counter > context.counters[image.index]:
        context.say(image, f"the stored security counter rises from {context.counters[image.index]} to {counter}")
        context.counters[image.index] = counter
    return True


def downgrade(context: BootContext, image: ImageState) -> str:
    """Return why the image of slot 1 may not replace that of slot 0; empty: it may."""
    match context.options.downgrade:
        case Downgrade.ALLOWED:
            return ""
        case Downgrade.BY_VERSION:
            return lower_version(context, image)
        case Downgrade.BY_COUNTER:
            return _lower_counter(image)


def lower_version(context: BootContext, image: ImageState) -> str:
    """Return why the version in slot 1 is too low; empty: it is not."""
    running, offered = (image.headers[slot].version for slot in (PRIMARY, SECONDARY))
    if offered.compare(running, build=context.options.compare_build) < 0:
        return f"version {offered} is below {running}"
    return ""


def _lower_counter(image: ImageState) -> str:
    running, offered = (security_counter(image, slot, image.headers[slot]) for slot in (PRIMARY, SECONDARY))
    if running is None:
        return ""
    if offered is None:
        return f"it has no security counter, slot 0 has {running}"
    return f"security counter {offered} is below {running}" if offered < running else ""

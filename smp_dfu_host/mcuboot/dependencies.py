"""What an image wants of the others: "image 1 must be 2.0.0 or later".

     byte  0       1..3   4..11
          [image | pad  | lowest version]      a DEPENDENCY TLV, in the protected area only

Source: mcuboot boot/bootutil/src/loader.c, boot_verify_slot_dependencies.
"""

from collections.abc import Callable

from smp_dfu_host.mcuboot.context import BootContext, ImageState
from smp_dfu_host.mcuboot.image import ImageInvalid, ImageVersion
from smp_dfu_host.mcuboot.tlv import Tlv, TlvType, read_tlvs

_SIZE = 12
"""Bytes of the TLV's data."""


def unmet(context: BootContext, image: ImageState, slot: int, slot_of: Callable[[ImageState], int]) -> str:
    """Return why what an image wants is not there; empty: it is.

    Args:
        context: The boot.
        image: Whose wants are looked at.
        slot: The slot of the image that is to run.
        slot_of: The same for the other images.
    """
    try:
        tlvs = read_tlvs(image.slot(slot), image.headers[slot], image.base_of(slot), protected_only=True)
    except ImageInvalid as exc:
        return str(exc)
    reasons = (_unmet(context, entry, slot_of) for entry in tlvs.find(TlvType.DEPENDENCY))
    return next((reason for reason in reasons if reason), "")


def _unmet(context: BootContext, entry: Tlv, slot_of: Callable[[ImageState], int]) -> str:
    if len(entry.data) != _SIZE:
        return f"a dependency of {len(entry.data)} bytes, not {_SIZE}"
    if (number := entry.data[0]) >= len(context.images):
        return f"it wants an image {number}, there are {len(context.images)}"
    wanted = ImageVersion(*ImageVersion.STRUCT.unpack(entry.data[4:]))
    other = context.images[number]
    offered = other.headers[slot_of(other)].version
    if offered.compare(wanted, build=context.options.compare_build) < 0:
        return f"it wants image {number} in version {wanted} or later, there is {offered}"
    return ""

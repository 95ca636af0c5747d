"""Where in RAM an image is loaded to. Source: mcuboot boot/bootutil/src/ram_load.c."""

from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.image import ImageFlag, ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.options import RamRegion
from smp_dfu_host.mcuboot.tlv import tlv_bounds


def ram_place(area: FlashArea, header: ImageHeader, region: RamRegion | None) -> tuple[int, int]:
    """Return the first address of an image in RAM, and the one behind its last TLV.

    Raises:
        ImageInvalid: If it is not made for RAM, or does not fit what there is.
    """
    if not header.flags & ImageFlag.RAM_LOAD or region is None:
        raise ImageInvalid("its image is not made to be loaded to RAM")
    start, end = header.load_addr, header.load_addr + tlv_bounds(area, header).end
    if start < region.start or end > region.start + region.size:
        raise ImageInvalid(
            f"it wants RAM 0x{start:x} to 0x{end:x}, there is 0x{region.start:x} and 0x{region.size:x} more"
        )
    return start, end

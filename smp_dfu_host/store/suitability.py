"""Whether flash suits the boot loader's mode: an update must be possible, and an image of the largest size survive it.

MCUboot itself looks only at whether the slots go with each other (boot_slots_compatible). With swap-using-move and
-offset it then counts in sectors of the size of the first one (swap_move.c, swap_offset.c), so that an image that
reaches a sector of another size may be torn to pieces, as long as it is. Which of such flash is good is found out by
doing it: the largest images change places in memory, and go back.
"""

import hashlib
from dataclasses import replace

from smp_dfu_host.errors import ConfigError, StoreError
from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.mcuboot.options import BootOptions, Downgrade, Mode, SlotPair
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.factory import make_image
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas, Layout


def check_geometry(layout: Layout, options: BootOptions) -> None:
    """Refuse flash that the mode cannot work with.

    Raises:
        ConfigError: With the mode, what is wrong, and the modes with updates that the flash suits.
    """
    if wrong := _unsuitable(layout, options):
        said = f"[flash] does not suit bootloader.mode = {options.mode.value!r}: {wrong}"
        suited = ", ".join(mode.value for mode in Mode if mode.updates and _suits(layout, options, mode))
        raise ConfigError(f"{said}; this flash suits {suited}" if suited else said)


def _suits(layout: Layout, options: BootOptions, mode: Mode) -> bool:
    """Tell whether the flash would suit another mode; a scratch area has one sector of the largest size."""
    scratch = (max(map(max, layout.slot_sectors)),) if mode is Mode.SWAP_USING_SCRATCH else ()
    return not _unsuitable(replace(layout, scratch_sectors=scratch), replace(options, mode=mode))


def _unsuitable(layout: Layout, options: BootOptions) -> str:
    """Return why the mode cannot work with the flash; empty: it can."""
    areas = layout.areas(lambda number: MemoryStorage(layout.blank(number)))
    loader = make_bootloader(options, areas)
    for image in range(layout.images):
        if wrong := loader.incompatible(image) or _too_small(layout, loader, image) or _torn(options, areas, image):
            return f"image {image}: {wrong}" if layout.images > 1 else wrong
    return ""


def _too_small(layout: Layout, loader: Bootloader, image: int) -> str:
    if loader.max_image_size(image) > 0:
        return ""
    return f"a slot of {layout.size(image * SLOTS_OF_IMAGE)} bytes has no room for an image beside its trailer"


def _torn(options: BootOptions, areas: Areas, image: int) -> str:
    """Return why sectors of several sizes are no good; empty: they are, or all have one size."""
    first = image * SLOTS_OF_IMAGE
    pair = SlotPair(areas[first], areas[first + 1])
    sizes = sorted({*pair.primary.sectors, *pair.secondary.sectors})
    if options.mode not in (Mode.SWAP_USING_MOVE, Mode.SWAP_USING_OFFSET) or len(sizes) == 1:
        return ""
    if _survives(options, pair):
        return ""
    return f"its sectors have {', '.join(map(str, sizes))} bytes, and the largest images do not survive an update"


def _survives(options: BootOptions, pair: SlotPair) -> bool:
    """Tell whether two images of the largest size change places and go back, each to the byte."""
    plain = replace(options, keys=(), hash=None, pure=False, rollback=False, downgrade=Downgrade.ALLOWED)
    loader = Bootloader(plain, [pair])
    limit = loader.max_image_size(0)
    base = pair.secondary.sectors[0] if options.mode is Mode.SWAP_USING_OFFSET else 0
    old, new = (_image(number, limit) for number in (1, 2))
    try:
        pair.primary.load(0, old)
        pair.secondary.load(base, new)
        loader.set_pending(0, permanent=False)
    except StoreError:  # the largest image passes the end of a slot, or lies on its trailer
        return False
    there = loader.boot().ok and pair.primary.read(0, len(new)) == new
    back = loader.boot().ok and pair.primary.read(0, len(old)) == old
    return there and back and pair.secondary.read(base, len(new)) == new


def _image(number: int, size: int) -> bytes:
    """Return an image of a size, unlike any other in every sector."""
    payload = hashlib.shake_256(bytes([number])).digest(max(0, size - len(make_image(payload=b""))))
    return make_image(ImageVersion(number, 0, 0), payload)

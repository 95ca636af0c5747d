"""A store's first start: slot 0 of each image gets one that boots, the other slots and the scratch area are erased.

Files that a changed configuration wants beside those that are there, a scratch area or the slots of one more image,
are made too. A pair of slots of which one is missing is not: that one was lost.
"""

from collections.abc import Mapping
from pathlib import Path

from smp_dfu_host.config import ImageConfig
from smp_dfu_host.errors import ConfigError
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.options import BootOptions
from smp_dfu_host.mcuboot.swap_type import Magic
from smp_dfu_host.store.build import make_bootloader
from smp_dfu_host.store.commit import pending
from smp_dfu_host.store.factory import built_in
from smp_dfu_host.store.files import naming, sync_folder
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Layout
from smp_dfu_host.store.slot_files import SlotFiles
from smp_dfu_host.store.suitability import check_geometry


def prepare(files: SlotFiles, options: BootOptions, config: ImageConfig) -> None:
    """Make the folder and the files that are missing; finish a commit that was cut short.

    Raises:
        ConfigError: If the flash does not suit the mode, or slot 0 is to be filled, and the factory image does not boot
            or must be signed and is missing.
        StoreError: If the folder cannot be used, or one slot of a pair is missing.
    """
    layout = files.layout
    check_geometry(layout, options)
    with naming(layout.folder):
        layout.folder.mkdir(parents=True, exist_ok=True)
    if pending(layout.folder) or _missing(layout):
        with files.exclusive():
            if missing := _missing(layout):
                contents = _contents(layout, options, config, missing)
                files.replace({layout.slot(number): data for number, data in contents.items()})
                sync_folder(layout.folder.parent)
    files.check()


def _missing(layout: Layout) -> list[int]:
    """Return the areas that are to be made."""
    there = {number for number in layout.numbers if layout.slot(number).exists()}
    images = {number // SLOTS_OF_IMAGE for number in there if number in layout.slots}
    return [number for number in layout.numbers if number not in there and number // SLOTS_OF_IMAGE not in images]


def _contents(layout: Layout, options: BootOptions, config: ImageConfig, missing: list[int]) -> Mapping[int, bytes]:
    contents = {number: layout.blank(number) for number in missing}
    for slot in missing:
        if slot in layout.slots and slot % SLOTS_OF_IMAGE == 0:
            contents[slot] = _filled(layout, options, config, slot)
    return contents


def _filled(layout: Layout, options: BootOptions, config: ImageConfig, slot: int) -> bytes:
    """Return the contents of slot 0 of an image."""
    name, path = _factory(config, slot // SLOTS_OF_IMAGE)
    data, blank = _read(name, path, options, slot // SLOTS_OF_IMAGE), layout.blank(slot)
    if len(data) > len(blank):
        raise ConfigError(f"{name} = {path}: {len(data)} bytes, a slot has {len(blank)}")
    return _proven(layout, options, f"{name} = {path or 'the built-in image'}", slot, data + blank[len(data) :])


def _factory(config: ImageConfig, image: int) -> tuple[str, Path | None]:
    """Return the option that an image comes from, and what it says."""
    if image == 0:
        return "image.factory", config.factory
    more = config.more_factories
    return f"image.more_factories[{image - 1}]", more[image - 1] if image <= len(more) else None


def _read(name: str, path: Path | None, options: BootOptions, image: int) -> bytes:
    if path is None and options.keys:
        slot = image * SLOTS_OF_IMAGE
        raise ConfigError(f"{name} is missing: with bootloader.keys, slot {slot} needs an image signed by one of them")
    if path is None:
        return built_in(options, image)
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{name} = {path}: {exc.strerror}") from exc


def _proven(layout: Layout, options: BootOptions, name: str, slot: int, contents: bytes) -> bytes:
    """Return the contents of slot 0 as they are when the device leaves the factory.

    In modes that erase what is not confirmed they are marked as confirmed, unless they are marked already: an image
    without marks would not live through its first boot.

    Raises:
        ConfigError: If they do not boot.
    """
    alone = Layout(
        layout.folder,
        layout.slot_sectors[slot : slot + SLOTS_OF_IMAGE],
        layout.scratch_sectors,
        layout.align,
        layout.erased,
        layout.slot_address(slot),
    )
    storage = MemoryStorage(contents)
    others = {number: MemoryStorage(alone.blank(number)) for number in alone.numbers[1:]}
    loader = make_bootloader(options, alone.areas(lambda number: others.get(number, storage)))
    if options.mode.forgets and loader.trailer(0, 0).state().magic is Magic.UNSET:
        loader.set_next(0, 0, active=True, confirm=True)
    proven = storage.read(0, storage.size)
    result = loader.boot()
    if not result.ok:
        reason = result.stopped or "; ".join(result.actions)
        raise ConfigError(f"{name}: does not boot: {reason}")
    return proven

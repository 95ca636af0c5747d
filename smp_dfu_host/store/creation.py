"""A store's first start: slot 0 gets an image that boots, the other slots are erased."""

from collections.abc import Mapping
from pathlib import Path

from smp_dfu_host.config import Config
from smp_dfu_host.errors import ConfigError, StoreError
from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.options import BootOptions, Mode, SlotPair
from smp_dfu_host.mcuboot.verify import PublicKey, load_public_key
from smp_dfu_host.store.commit import pending
from smp_dfu_host.store.factory import make_image
from smp_dfu_host.store.files import sync_folder
from smp_dfu_host.store.layout import Layout
from smp_dfu_host.store.slot_files import Areas, SlotFiles


def boot_options(config: Config) -> BootOptions:
    """Return the boot loader's build.

    Raises:
        ConfigError: If a key cannot be used.
    """
    build = config.bootloader
    options = BootOptions(
        mode=Mode(build.mode),
        max_align=config.flash.max_align,
        max_sectors=config.flash.max_sectors,
        keys=tuple(_key(number, path) for number, path in enumerate(build.keys)),
        validate_primary=build.validate_primary,
    )
    try:
        _ = options.policy
    except StoreError as exc:
        raise ConfigError(f"bootloader.keys: {exc}") from exc
    return options


def _key(number: int, path: Path) -> PublicKey:
    try:
        return load_public_key(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"bootloader.keys[{number}] = {path}: {exc.strerror}") from exc
    except StoreError as exc:
        raise ConfigError(f"bootloader.keys[{number}] = {path}: {exc}") from exc


def make_bootloader(options: BootOptions, areas: Areas) -> Bootloader:
    """Return a boot loader for those slots, two for each image."""
    return Bootloader(options, [SlotPair(*pair) for pair in zip(areas[::2], areas[1::2], strict=True)])


def prepare(files: SlotFiles, options: BootOptions, factory: Path | None) -> None:
    """Make the folder and the slots if there are none; finish a commit that was cut short.

    Raises:
        ConfigError: If slot 0 is to be filled, and the factory image does not boot or must be signed and is missing.
        StoreError: If the folder cannot be used, or only some of its slots are there.
    """
    layout = files.layout
    try:
        layout.folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(f"{layout.folder}: {exc.strerror}") from exc
    if pending(layout.folder) or not _made(layout):
        with files.exclusive():
            if not _made(layout):
                contents = _contents(layout, options, factory)
                files.replace({layout.slot(slot): data for slot, data in contents.items()})
                sync_folder(layout.folder.parent)
    files.check()


def _made(layout: Layout) -> bool:
    return any(layout.slot(slot).exists() for slot in layout.slots)


def _contents(layout: Layout, options: BootOptions, factory: Path | None) -> Mapping[int, bytes]:
    image, blank = _factory_image(options, factory), layout.blank()
    if len(image) > len(blank):
        raise ConfigError(f"image.factory = {factory}: {len(image)} bytes, a slot has {len(blank)}")
    contents = dict.fromkeys(layout.slots, blank)
    contents[0] = image + blank[len(image) :]
    _check_boots(layout, options, factory, contents)
    return contents


def _factory_image(options: BootOptions, factory: Path | None) -> bytes:
    if factory is None and options.keys:
        raise ConfigError("image.factory is missing: with bootloader.keys, slot 0 needs an image signed by one of them")
    if factory is None:
        return make_image()
    try:
        return factory.read_bytes()
    except OSError as exc:
        raise ConfigError(f"image.factory = {factory}: {exc.strerror}") from exc


def _check_boots(layout: Layout, options: BootOptions, factory: Path | None, contents: Mapping[int, bytes]) -> None:
    """Refuse an image that the boot loader refuses, by booting it in memory."""
    result = make_bootloader(options, layout.areas(lambda slot: MemoryStorage(contents[slot]))).boot()
    if not result.ok:
        reason = result.stopped or "; ".join(result.actions)
        raise ConfigError(f"image.factory = {factory or 'the built-in image'}: does not boot: {reason}")

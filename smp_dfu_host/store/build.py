"""The configured build of the boot loader: keys read, options put together, what cannot be built refused."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from smp_dfu_host.config import BootloaderConfig, Config
from smp_dfu_host.errors import ConfigError, StoreError
from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.encryption import DecryptionKey, load_decryption_key
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.keys import HashKind, load_public_key
from smp_dfu_host.mcuboot.options import BootOptions, Downgrade, Mode, RamRegion, SlotPair
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas, Layout

K = TypeVar("K")
_RAW_KEYS = (16, 32)
"""Bytes of an AES key that wraps others."""


def boot_options(config: Config) -> BootOptions:
    """Return the boot loader's build.

    Raises:
        ConfigError: If a key cannot be used, or options contradict each other.
    """
    build = config.bootloader
    options = BootOptions(
        mode=Mode(build.mode),
        max_align=config.flash.max_align,
        max_sectors=config.flash.max_sectors,
        keys=tuple(_key(f"keys[{number}]", path, load_public_key) for number, path in enumerate(build.keys)),
        hash=None if build.hash == "auto" else HashKind(build.hash),
        pure=build.pure_signature,
        allow_list=build.tlv_allow_list,
        validate_primary=build.validate_primary,
        compare_build=build.compare_build,
        overwrite_fast=build.overwrite_fast,
        validate_once=build.validate_once,
        bootstrap=build.bootstrap,
        downgrade=Downgrade(build.downgrade),
        rollback=build.rollback_counter,
        decryption=_decryption(build),
        save_tlv=build.encryption_save_tlv,
        ram=RamRegion(build.ram_start, build.ram_size),
    )
    try:
        _ = options.policy
    except StoreError as exc:
        raise ConfigError(f"bootloader.keys: {exc}") from exc
    return options


def _decryption(build: BootloaderConfig) -> DecryptionKey | None:
    if build.encryption_key is None:
        return None

    def load(data: bytes) -> DecryptionKey:
        return load_decryption_key(_unwrapped(data), build.encryption_bits // 8, sha512=build.encryption_sha512)

    return _key("encryption_key", build.encryption_key, load)


def _unwrapped(data: bytes) -> bytes:
    """Return an AES key out of the base64 that imgtool has it in; other data as they are."""
    try:
        raw = b64decode(data.strip(), validate=True)
    except Base64Error:
        return data
    return raw if len(raw) in _RAW_KEYS else data


def _key(name: str, path: Path, load: Callable[[bytes], K]) -> K:
    try:
        return load(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"bootloader.{name} = {path}: {exc.strerror}") from exc
    except StoreError as exc:
        raise ConfigError(f"bootloader.{name} = {path}: {exc}") from exc


def make_bootloader(options: BootOptions, areas: Areas, counters: list[int] | None = None) -> Bootloader:
    """Return a boot loader for those slots, two for each image.

    Args:
        options: Its build.
        areas: The flash.
        counters: The stored security counters, image by image; changed in place. None: all 0.
    """
    pairs = [SlotPair(*pair) for pair in zip(areas[0::SLOTS_OF_IMAGE], areas[1::SLOTS_OF_IMAGE], strict=True)]
    return Bootloader(options, pairs, areas.scratch, counters)


def check_geometry(layout: Layout, options: BootOptions) -> None:
    """Refuse flash that the mode cannot work with: no update would ever be possible, or no image would fit.

    Raises:
        ConfigError: With the mode, and what is wrong.
    """
    loader = make_bootloader(options, layout.areas(lambda number: MemoryStorage(layout.blank(number))))
    for image in range(layout.images):
        wrong = _mixed(layout, options.mode, image) or loader.incompatible(image)
        if not wrong and loader.max_image_size(image) <= 0:
            wrong = f"a slot of {layout.size(image * SLOTS_OF_IMAGE)} bytes has no room for an image beside its trailer"
        if wrong:
            which = f"image {image}: " if layout.images > 1 else ""
            raise ConfigError(f"[flash] does not suit bootloader.mode = {options.mode.value!r}: {which}{wrong}")


def _mixed(layout: Layout, mode: Mode, image: int) -> str:
    """Return why sectors of several sizes are no good, if they are not: they could not take each other's place."""
    first = image * SLOTS_OF_IMAGE
    sizes = sorted({size for slot in (first, first + 1) for size in layout.sectors(slot)})
    if mode not in (Mode.SWAP_USING_MOVE, Mode.SWAP_USING_OFFSET) or len(sizes) == 1:
        return ""
    return f"its sectors must all have one size, there are {', '.join(map(str, sizes))} bytes"

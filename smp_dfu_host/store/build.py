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
from smp_dfu_host.mcuboot.keys import HashKind, load_public_key
from smp_dfu_host.mcuboot.options import BootOptions, Downgrade, Mode, RamRegion, SlotPair
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas

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
        return read_decryption_key(data, build.encryption_bits, sha512=build.encryption_sha512)

    key = _key("encryption_key", build.encryption_key, load)
    if build.encryption_sha512 and key.tlv is not TlvType.ENC_X25519_SHA512:
        said = f"bootloader.encryption_key = {build.encryption_key} is none of X25519"
        raise ConfigError(f"bootloader.encryption_sha512 = true: {said}", "bootloader.encryption_sha512")
    return key


def read_decryption_key(data: bytes, bits: int, *, sha512: bool) -> DecryptionKey:
    """Return the key in a file that opens encrypted images; AES keys may be in base64, as imgtool has them.

    Args:
        data: The file's bytes.
        bits: Of the images' keys, 128 or 256.
        sha512: Whether X25519 goes with SHA-512.

    Raises:
        StoreError: If there is none.
    """
    return load_decryption_key(_unwrapped(data), bits // 8, sha512=sha512)


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

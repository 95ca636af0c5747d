"""Images and flash of any bytes: parsed, verified, decided on, swapped and booted.

An image is judged or refused by `ImageInvalid`; a boot ends in a `BootResult`, in which the hangs of the real boot
loader are told."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, Downgrade, Mode, RamRegion, SlotPair
from smp_dfu_host.mcuboot.encryption import load_decryption_key
from smp_dfu_host.mcuboot.flash import FlashArea, MemoryStorage
from smp_dfu_host.mcuboot.image import ImageInvalid
from smp_dfu_host.mcuboot.verify import HashKind, VerifyPolicy, examine, load_public_key
from tests.fuzz.recorded import images, test_keys
from tests.mcuboot.images import make_image

SECTOR, SECTORS = 256, 16
SLOT = SECTOR * SECTORS
RAM = RamRegion(0x2000_0000, SLOT)
LARGEST = 2048
"""Bytes of the largest recorded image to start from."""


def check_image(_folder: Path) -> Callable[[bytes], None]:
    """Return what examines an image: the first byte says by which boot loader's rules."""
    keys = {name: load_public_key(entry["public_pem"].encode()) for name, entry in signing_keys().items()}
    policies = [VerifyPolicy(), VerifyPolicy(hash=HashKind.SHA512), VerifyPolicy(allow_list=True)]
    policies += [VerifyPolicy((key,)) for key in keys.values()]
    policies.append(VerifyPolicy((keys["TESTKEY-ed25519"],), pure=True))
    privates = [load_decryption_key(data) for data in opening_keys()]

    def check(data: bytes) -> None:
        kind, source = data[0] if data else 0, MemoryStorage(data[1:])
        key = privates[kind // len(policies) % (len(privates) + 1) - 1] if kind >= len(policies) else None
        found = examine(source, policies[kind % len(policies)], decryption=key, limit=SLOT if kind & 1 else None)
        assert found.valid == (not found.reason)
        assert not found.valid or found.header is not None

    return check


def signing_keys() -> dict[str, dict[str, str]]:
    """Return the recorded images' keys that sign."""
    kinds = ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072")
    return {name: dict(test_keys()[name]) for name in (f"TESTKEY-{kind}" for kind in kinds)}


def opening_keys() -> Iterator[bytes]:
    """Return the recorded images' keys that open."""
    for entry in test_keys().values():
        if private := entry.get("test_private_pkcs8_der_hex") or entry.get("test_key_hex"):
            yield bytes.fromhex(private)


def image_seeds() -> Iterator[bytes]:
    """Return recorded images, each for several boot loaders."""
    for number, (_, data) in enumerate(images(LARGEST)):
        for kind in (0, number % 9, 9 + number % 45):
            yield bytes((kind,)) + data


def check_flash(_folder: Path) -> Callable[[bytes], None]:
    """Return what boots up to three times on flash that an input describes.

        byte  0     1        2..
             [mode | options | patch, patch, ...]     patch: [where (2) | size (1) | bytes (size)]

    Slot 0 holds version 1, slot 1 version 2 and a mark; patches then write anywhere in slots, scratch and trailers.
    """
    old, new = make_image((1, 0, 0, 0)), make_image((2, 0, 0, 0))
    modes = list(Mode)

    def check(data: bytes) -> None:
        mode, choice = (data[0], data[1]) if len(data) > 1 else (0, 0)
        options = options_of(modes[mode % len(modes)], choice)
        areas = [area(f"area {number}", number, SECTORS) for number in range(2)] + [area("scratch", 2, 2)]
        boot = Bootloader(options, [SlotPair(areas[0], areas[1])], areas[2])
        areas[0].load(0, old)
        areas[1].load(SECTOR if options.mode is Mode.SWAP_USING_OFFSET else 0, new)
        if choice & 1:
            boot.set_next(0, 1, active=False, confirm=bool(choice & 2))
        patch(areas, data[2:])
        boots(boot)

    return check


def boots(boot: Bootloader) -> None:
    """Look at the flash as the server does, and boot; up to three times, as long as a boot has changed anything."""
    for _ in range(3):
        boot.swap_type(0)
        boot.trailer(0, 1).state()
        for slot in (0, 1):
            with suppress(ImageInvalid):
                boot.check_image(0, slot)
        result = boot.boot()
        assert result.ok == (result.header is not None)
        assert not (result.ok and result.stopped)
        if not result.ops:
            break  # the same flash would be booted in the same way


def options_of(mode: Mode, choice: int) -> BootOptions:
    """Return a build of a mode, as the bits of a byte choose."""
    return BootOptions(
        mode=mode,
        max_sectors=SECTORS,
        ram=RAM if mode.loads else None,
        bootstrap=bool(choice & 4),
        validate_primary=not choice & 8,
        rollback=bool(choice & 16),
        overwrite_fast=not choice & 32,
        downgrade=tuple(Downgrade)[choice >> 6 & 3 if choice >> 6 < 3 else 0],
        decryption=None if choice & 128 == 0 else load_decryption_key(bytes(16)),
        save_tlv=choice & 192 == 192,
    )


def area(name: str, number: int, sectors: int) -> FlashArea:
    """Return an erased area."""
    storage = MemoryStorage(b"\xff" * (sectors * SECTOR))
    return FlashArea(name, storage, (SECTOR,) * sectors, 8, address=number * SLOT)


def patch(areas: list[FlashArea], data: bytes) -> None:
    """Write patches; addresses go through the areas one after another, and past the end there is the start."""
    whole = sum(each.size for each in areas)
    at = 0
    while at + 3 <= len(data):
        where, size = int.from_bytes(data[at : at + 2], "big") % whole, data[at + 2]
        content = data[at + 3 : at + 3 + size]
        for each in areas:
            if where < each.size:
                each.load(where, content[: each.size - where])
                break
            where -= each.size
        at += 3 + size


def flash_seeds() -> Iterator[bytes]:
    """Return every mode, as it is, with marks, and with the trailers of swaps that were cut."""
    for mode in range(len(Mode)):
        for choice in (0, 1, 3, 5, 17, 33, 65, 129, 193):
            yield bytes((mode, choice))
        yield from interrupted(mode)


def interrupted(number: int) -> Iterator[bytes]:
    """Return trailers as they are in the middle of swaps: sizes, swap types and status bytes."""
    magic = bytes.fromhex("77c295f3 60d2ef7f 3552500f 2cb67980")
    for start in (0, SLOT, 2 * SLOT):
        end = start + (SLOT if start < 2 * SLOT else 2 * SECTOR)
        for kind in (2, 3, 4):
            tail = bytes((kind,)) + b"\xff" * 7 + b"\xff" * 8 + b"\x01" + b"\xff" * 7 + magic
            size = (800).to_bytes(4, "little") + b"\xff" * 4
            content = size + tail
            head = (end - len(content)).to_bytes(2, "big") + bytes((len(content),))
            status = (end - 384 - len(content)).to_bytes(2, "big") + bytes((12,)) + bytes(range(1, 4)) * 4
            yield bytes((number, 1)) + head + content
            yield bytes((number, 1)) + head + content + status

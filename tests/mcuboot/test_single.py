import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from smp_dfu_host.mcuboot.boot import Bootloader, BootOptions, BootResult, Mode, RamRegion
from smp_dfu_host.mcuboot.encryption import DecryptionKey, crypt_payload
from smp_dfu_host.mcuboot.image import ImageFlag, ImageHeader
from smp_dfu_host.mcuboot.tlv import TlvType
from tests.mcuboot.images import make_image, make_pair

APPLICATION, LOADER = make_image((1, 0, 0, 0)), make_image((9, 0, 0, 0))
BROKEN = APPLICATION[:50] + b"!" + APPLICATION[51:]


def boot(first: bytes, second: bytes = b"", **options: object) -> BootResult:
    build = BootOptions(**({"mode": Mode.SINGLE_SLOT, "max_sectors": 16} | options))  # type: ignore[arg-type]
    return Bootloader(build, [make_pair(first, second)]).boot()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "header magic is 0xffffffff"),
        (BROKEN, "SHA256 hash is"),
        (make_image(flags=0x10), "not bootable"),
        (make_image(payload=bytes(32690)), "the slot takes 32720"),
    ],
)
def test_slot_that_is_not_valid_does_not_boot(data: bytes, reason: str) -> None:
    result = boot(data)
    assert (result.ok, result.active_slots, result.pre_swap_type, result.swap_type_done) == (False, (None,), (), ())
    assert reason in result.actions[0]


def test_valid_slot_boots_and_nothing_is_written() -> None:
    result = boot(APPLICATION, LOADER)
    assert (result.ok, result.active_slots, result.ops) == (True, (0,), 0)


def test_without_validation_the_header_is_enough() -> None:
    assert boot(BROKEN, validate_primary=False).ok


def test_validate_once_writes_down_that_it_did() -> None:
    loader = Bootloader(BootOptions(Mode.SINGLE_SLOT, max_sectors=16, validate_once=True), [make_pair(APPLICATION)])
    assert [loader.boot().ops for _ in range(2)] == [2, 0]
    assert "was found valid before" in loader.boot().actions[0]
    again = Bootloader(BootOptions(Mode.SINGLE_SLOT, max_sectors=16, validate_once=True), [make_pair(APPLICATION)])
    again.trailer(0, 0).write_magic()
    assert again.boot().ops == 1


def test_limit_is_what_the_trailer_without_status_leaves() -> None:
    loader = Bootloader(BootOptions(Mode.SINGLE_SLOT), [make_pair(APPLICATION)])
    assert (loader.max_image_size(0), loader.incompatible(0)) == (32768 - 48, "")


@pytest.mark.parametrize(
    ("first", "second", "asked", "slot"),
    [
        (APPLICATION, LOADER, False, 0),
        (APPLICATION, LOADER, True, 1),
        (BROKEN, LOADER, False, 1),
        (APPLICATION, b"", True, 0),
        (BROKEN, b"", False, None),
    ],
)
def test_firmware_loader_runs_when_asked_for_or_needed(
    first: bytes, second: bytes, asked: bool, slot: int | None
) -> None:
    result = boot(first, second, mode=Mode.FIRMWARE_LOADER, loader_asked_for=asked)
    assert result.active_slots == (slot,)
    assert result.ok == (slot is not None)


RAM = RamRegion(0x20000000, 0x8000)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_image(flags=ImageFlag.RAM_LOAD, load_addr=RAM.start), ""),
        (APPLICATION, "not made to be loaded to RAM"),
        (make_image(flags=ImageFlag.RAM_LOAD, load_addr=RAM.start - 1), "it wants RAM 0x1fffffff"),
        (make_image(flags=ImageFlag.RAM_LOAD, load_addr=RAM.start + RAM.size - 100), "there is 0x20000000"),
        (make_image(flags=ImageFlag.RAM_LOAD, load_addr=RAM.start)[:-1] + b"?", "SHA256 hash is"),
    ],
)
def test_single_slot_ram_load_wants_an_image_made_for_ram(data: bytes, reason: str) -> None:
    result = boot(data, mode=Mode.SINGLE_SLOT_RAM_LOAD, ram=RAM)
    assert (result.ok, result.ops, result.pre_swap_type) == (not reason, 0, ())
    assert reason in " ".join(result.actions)


def test_single_slot_ram_load_decrypts_what_it_loads() -> None:
    """By source (single_loader.c, ram_load.c): the payload is decrypted in RAM and checked there."""
    key = DecryptionKey(TlvType.ENC_KW, bytes(16))
    secret = bytes(range(16))
    wrapped = [(TlvType.ENC_KW, aes_key_wrap(bytes(16), secret))]
    flags = ImageFlag.RAM_LOAD | ImageFlag.ENCRYPTED_AES128
    plain = make_image(flags=flags, load_addr=RAM.start, unprotected=wrapped)
    header = ImageHeader.parse(plain)
    data = crypt_payload(plain, 0, header, secret)
    assert boot(data, mode=Mode.SINGLE_SLOT_RAM_LOAD, ram=RAM, decryption=key).ok
    assert not boot(data, mode=Mode.SINGLE_SLOT_RAM_LOAD, ram=RAM).ok
    assert not boot(data, mode=Mode.SINGLE_SLOT, decryption=key).ok
    assert boot(plain, mode=Mode.SINGLE_SLOT, decryption=key).ok

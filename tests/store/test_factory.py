from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.options import BootOptions, Mode, RamRegion
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.mcuboot.verify import examine
from smp_dfu_host.store.factory import built_in, make_image


def test_the_image_is_valid_and_of_version_0() -> None:
    found = examine(MemoryStorage(make_image()))
    assert found.info is not None
    assert str(found.info.header.version) == "0.0.0"


def test_the_image_has_the_version_and_payload_asked_for() -> None:
    data = make_image(ImageVersion(1, 2, 3, 4), b"hello")
    found = examine(MemoryStorage(data))
    assert found.info is not None
    assert str(found.info.header.version) == "1.2.3.4"
    assert b"hello" in data


def test_the_image_is_what_the_build_wants() -> None:
    options = BootOptions(Mode.RAM_LOAD, hash=HashKind.SHA512, rollback=True, ram=RamRegion(0x1000, 0x10000))
    first, second = (examine(MemoryStorage(built_in(options, image)), options.policy) for image in (0, 1))
    assert first.info is not None
    assert second.info is not None
    assert first.info.hash != second.info.hash
    assert [entry.protected for entry in first.info.tlvs.find(TlvType.SEC_CNT)] == [True]
    assert first.info.header.load_addr + first.info.end <= second.info.header.load_addr

from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.mcuboot.verify import examine
from smp_dfu_host.store.factory import make_image


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

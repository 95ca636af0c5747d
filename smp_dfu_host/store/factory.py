"""The image that the program makes for itself, so that a first start has something to run.

    header, 32 bytes, version 0.0.0 | payload | [protected TLVs: security counter] | TLV info | hash

No signature: with keys configured the store wants `[image] factory` instead.
"""

import hashlib
from struct import pack

from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageFlag, ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.options import BootOptions
from smp_dfu_host.mcuboot.tlv import INFO_MAGIC, PROTECTED_INFO_MAGIC, TlvType

PAYLOAD = b"smp-dfu-host: the image that the store was made with\n"


def make_image(
    version: ImageVersion | None = None,
    payload: bytes = PAYLOAD,
    *,
    hash_kind: HashKind = HashKind.SHA256,
    ram_start: int | None = None,
    counter: int | None = None,
) -> bytes:
    """Return an image with a hash and no signature.

    Args:
        version: 0.0.0 unless given.
        payload: What is in it.
        hash_kind: The hash.
        ram_start: The address in RAM that it is loaded to; None: it runs where it lies.
        counter: Its security counter; None: it has none.
    """
    protected = b"" if counter is None else _area(PROTECTED_INFO_MAGIC, _entry(TlvType.SEC_CNT, pack("<I", counter)))
    flags = 0 if ram_start is None else ImageFlag.RAM_LOAD
    header = ImageHeader(
        IMAGE_MAGIC,
        ram_start or 0,
        ImageHeader.SIZE,
        len(protected),
        len(payload),
        flags,
        version or ImageVersion(0, 0, 0),
    )
    hashed = header.pack() + payload + protected
    digest = hashlib.new(hash_kind.value, hashed).digest()
    return hashed + _area(INFO_MAGIC, _entry(hash_kind.tlv, digest))


def built_in(options: BootOptions, image: int) -> bytes:
    """Return an image that such a boot loader without keys takes; every image of a device has another hash."""
    payload = PAYLOAD + (b"" if image == 0 else f"image {image}\n".encode())
    # Images that lie in RAM together must not overlap.
    ram_start = options.ram.start + image * _RAM_STEP if options.mode.loads and options.ram else None
    counter = 0 if options.rollback else None
    return make_image(payload=payload, hash_kind=options.policy.digest, ram_start=ram_start, counter=counter)


_RAM_STEP = 1024


def _area(magic: int, entries: bytes) -> bytes:
    return pack("<HH", magic, 4 + len(entries)) + entries


def _entry(kind: TlvType, data: bytes) -> bytes:
    return pack("<HH", kind, len(data)) + data

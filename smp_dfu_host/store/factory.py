"""The image that the program makes for itself, so that a first start has something to run.

    header, 32 bytes, version 0.0.0 | payload | TLV info | SHA-256

No signature: with keys configured the store wants `[image] factory` instead.
"""

import hashlib
from struct import pack

from smp_dfu_host.mcuboot.image import IMAGE_MAGIC, ImageHeader, ImageVersion
from smp_dfu_host.mcuboot.tlv import INFO_MAGIC, TlvType

PAYLOAD = b"smp-dfu-host: the image that the store was made with\n"


def make_image(version: ImageVersion | None = None, payload: bytes = PAYLOAD) -> bytes:
    """Return an image with a hash and no signature; its version is 0.0.0 unless given."""
    header = ImageHeader(IMAGE_MAGIC, 0, ImageHeader.SIZE, 0, len(payload), 0, version or ImageVersion(0, 0, 0))
    hashed = header.pack() + payload
    digest = hashlib.sha256(hashed).digest()
    entry = pack("<HH", TlvType.SHA256, len(digest)) + digest
    return hashed + pack("<HH", INFO_MAGIC, 4 + len(entry)) + entry

"""The 32-byte header that opens an image.

     byte  0      4          8         10                12        16     20                28
          [magic | load_addr | hdr_size | protect_tlv_size | img_size | flags | version (8)    | pad ]

Little-endian (mcuboot boot/bootutil/include/bootutil/image.h). What follows:

    header, padded to hdr_size | payload, img_size | protected TLVs, protect_tlv_size | TLVs
    <------------------------ hashed and signed ------------------------------------>
"""

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct
from typing import ClassVar

from smp_dfu_host.errors import StoreError
from smp_dfu_host.mcuboot.flash import Readable

IMAGE_MAGIC = 0x96F3B83D
IMAGE_MAGIC_V1 = 0x96F3B83C
"""Of images before MCUboot 1.0; refused."""


class ImageInvalid(StoreError):  # noqa: N818  (reads as what it says)
    """There is no valid image; the message says what is wrong with it."""


class ImageFlag(IntFlag):
    """Header flags."""

    PIC = 0x1
    ENCRYPTED_AES128 = 0x4
    ENCRYPTED_AES256 = 0x8
    NON_BOOTABLE = 0x10
    RAM_LOAD = 0x20
    ROM_FIXED = 0x100
    COMPRESSED_LZMA1 = 0x200
    COMPRESSED_LZMA2 = 0x400
    COMPRESSED_ARM_THUMB = 0x800

    ENCRYPTED = 0xC
    COMPRESSED = 0xE00


@dataclass(frozen=True, slots=True)
class ImageVersion:
    """A version; `<` and the like ignore the build number, as MCUboot does by default, `==` does not."""

    STRUCT: ClassVar[Struct] = Struct("<BBHI")

    major: int
    minor: int
    revision: int
    build: int = 0

    def compare(self, other: "ImageVersion", *, build: bool = False) -> int:
        """Return a number below, at or above 0, as this version is lower, equal or higher.

        Args:
            other: The version compared with.
            build: Whether the build number counts (MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER).
        """
        count = 4 if build else 3
        mine, its = self.parts[:count], other.parts[:count]
        return (mine > its) - (mine < its)

    def __lt__(self, other: "ImageVersion") -> bool:
        return self.compare(other) < 0

    def __le__(self, other: "ImageVersion") -> bool:
        return self.compare(other) <= 0

    def __gt__(self, other: "ImageVersion") -> bool:
        return self.compare(other) > 0

    def __ge__(self, other: "ImageVersion") -> bool:
        return self.compare(other) >= 0

    def __str__(self) -> str:
        """Return `1.2.3`, or `1.2.3.4` if there is a build number, as Zephyr's image group lists it."""
        return f"{self.major}.{self.minor}.{self.revision}" + (f".{self.build}" if self.build else "")

    def pack(self) -> bytes:
        """Return the 8 bytes of header and dependency."""
        return self.STRUCT.pack(*self.parts)

    @property
    def semver(self) -> str:
        """`1.2.3+4`, as imgtool writes it."""
        return f"{self.major}.{self.minor}.{self.revision}+{self.build}"

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """Major, minor, revision, build."""
        return (self.major, self.minor, self.revision, self.build)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The header as it stands in flash, whether it makes sense or not."""

    STRUCT: ClassVar[Struct] = Struct("<IIHHII8sI")
    SIZE: ClassVar[int] = 32

    magic: int
    load_addr: int
    """RAM address if `RAM_LOAD`, flash address if `ROM_FIXED`, otherwise 0."""
    hdr_size: int
    """Where the payload starts."""
    protect_tlv_size: int
    """The protected TLV area with its 4 bytes of info, or 0."""
    img_size: int
    """The payload alone."""
    flags: int
    version: ImageVersion
    pad: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "ImageHeader":
        """Return the header in the first 32 bytes; the magic is not looked at.

        Raises:
            ImageInvalid: If there are fewer bytes.
        """
        if len(data) < cls.SIZE:
            raise ImageInvalid(f"{len(data)} bytes, an image header has {cls.SIZE}")
        magic, load, hdr, protected, size, flags, version, pad = cls.STRUCT.unpack_from(data)
        return cls(magic, load, hdr, protected, size, flags, ImageVersion(*ImageVersion.STRUCT.unpack(version)), pad)

    def pack(self) -> bytes:
        """Return the 32 bytes."""
        return self.STRUCT.pack(
            self.magic,
            self.load_addr,
            self.hdr_size,
            self.protect_tlv_size,
            self.img_size,
            self.flags,
            self.version.pack(),
            self.pad,
        )

    @property
    def present(self) -> bool:
        """Whether the magic is that of an image."""
        return self.magic == IMAGE_MAGIC

    @property
    def tlv_offset(self) -> int:
        """Where the first TLV area starts, from the start of the image."""
        return self.hdr_size + self.img_size

    @property
    def hashed_size(self) -> int:
        """How many bytes the hash covers, from the start of the image."""
        return self.tlv_offset + self.protect_tlv_size

    @property
    def encrypted(self) -> bool:
        """Whether the payload is encrypted outside of the primary slot."""
        return bool(self.flags & ImageFlag.ENCRYPTED)

    @property
    def bootable(self) -> bool:
        """Whether the image may be booted, by its flags."""
        return not self.flags & ImageFlag.NON_BOOTABLE


def read_header(area: Readable, base: int = 0) -> ImageHeader:
    """Return the header at `base` of an area; the magic is not looked at.

    Raises:
        ImageInvalid: If the area is too small to hold one.
        StoreError: If the area cannot be read.
    """
    if base + ImageHeader.SIZE > area.size:
        raise ImageInvalid(f"{max(area.size - base, 0)} bytes, an image header has {ImageHeader.SIZE}")
    return ImageHeader.parse(area.read(base, ImageHeader.SIZE))


def check_loadable(header: ImageHeader, slot_size: int) -> None:
    """Check what MCUboot's boot_image_load_header (bootutil_public.c) checks, for single-slot mode and for tools.

    Raises:
        ImageInvalid: If the boot loader refuses the header.
    """
    if not header.present:
        raise ImageInvalid(f"header magic is 0x{header.magic:08x}, not 0x{IMAGE_MAGIC:08x}")
    if not header.bootable:
        raise ImageInvalid(f"header flags 0x{header.flags:x}: not bootable")
    if header.hashed_size >= slot_size:
        raise ImageInvalid(f"header says {header.hashed_size} bytes, there is room for {slot_size - 1}")


def check_header(header: ImageHeader, slot_size: int, *, encryption: bool = False) -> None:
    """Check what MCUboot's boot_check_header_valid (bootutil_loader.c) checks; NON_BOOTABLE is not among it.

    Args:
        header: The header.
        slot_size: Bytes of the slot that it lies in.
        encryption: Whether the boot loader can decrypt.

    Raises:
        ImageInvalid: If the boot loader refuses the header.
    """
    if not header.present:
        old = " (an image of the old format V1)" if header.magic == IMAGE_MAGIC_V1 else ""
        raise ImageInvalid(f"header magic is 0x{header.magic:08x}, not 0x{IMAGE_MAGIC:08x}{old}")
    if header.hashed_size >= slot_size:
        raise ImageInvalid(f"header says {header.hashed_size} bytes, there is room for {slot_size - 1}")
    if header.encrypted and not encryption:
        raise ImageInvalid(f"header flags 0x{header.flags:x}: encrypted, and there is no key to decrypt it")
    if header.flags & ImageFlag.ENCRYPTED == ImageFlag.ENCRYPTED:
        raise ImageInvalid(f"header flags 0x{header.flags:x}: both AES-128 and AES-256")
    if header.flags & ImageFlag.COMPRESSED:
        raise ImageInvalid(f"header flags 0x{header.flags:x}: compressed images are not supported")

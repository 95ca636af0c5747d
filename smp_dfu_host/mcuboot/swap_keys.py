"""The keys of encrypted images during a boot, and in the trailer during a swap.

A cell of the trailer holds a slot's key as it is, or (MCUBOOT_SWAP_SAVE_ENCTLV) the TLV with the wrapped key; bytes
0xff where there is none.
Sources: mcuboot boot/bootutil/src/loader.c (boot_swap_image), bootutil_misc.c (boot_write_enc_key).
"""

from smp_dfu_host.mcuboot.encryption import DecryptedView, DecryptionKey, crypt_payload, key_tlv
from smp_dfu_host.mcuboot.flash import FlashArea, Readable
from smp_dfu_host.mcuboot.image import ImageHeader, ImageInvalid
from smp_dfu_host.mcuboot.trailer import Trailer

_NONE = 0xFF


class SwapKeys:
    """Keys of the two images of a pair.

    Args:
        decryption: The boot loader's key.
        save_tlv: Whether trailers hold the TLVs.
    """

    def __init__(self, decryption: DecryptionKey, *, save_tlv: bool) -> None:
        self._decryption = decryption
        self._save_tlv = save_tlv
        self._keys: list[bytes | None] = [None, None]
        self._cells: list[bytes] = [b"", b""]

    def load(self, slot: int, area: Readable, header: ImageHeader, base: int) -> bytes:
        """Take the key of a slot's image from its TLVs.

        Raises:
            ImageInvalid: If there is none that the boot loader can open.
        """
        data = key_tlv(area, header, self._decryption.tlv, base)
        self._keys[slot] = key = self._decryption.unwrap(data)
        self._cells[slot] = data if self._save_tlv else key
        return key

    def view(self, slot: int, area: FlashArea, header: ImageHeader, base: int) -> Readable:
        """Return a slot whose image reads as plain text.

        Raises:
            ImageInvalid: If it is encrypted and there is no key.
        """
        return DecryptedView(area, header, self.load(slot, area, header, base), base) if header.encrypted else area

    def write(self, trailer: Trailer) -> None:
        """Write the two cells."""
        for offset, cell in zip(trailer.layout.keys, self._cells, strict=True):
            trailer.area.write(offset, cell.ljust(trailer.rules.key_size, bytes([_NONE])))

    def read(self, trailer: Trailer) -> None:
        """Take the keys from the two cells.

        Raises:
            ImageInvalid: If a cell holds garbage.
        """
        size = self._decryption.tlv_size if self._save_tlv else self._decryption.aes_size
        for slot, offset in enumerate(trailer.layout.keys):
            cell = trailer.area.read(offset, size)
            used = cell.count(_NONE) != size
            self._cells[slot] = cell if used else b""
            self._keys[slot] = None if not used else self._decryption.unwrap(cell) if self._save_tlv else cell

    def crypt(self, slot: int, data: bytes, offset: int, header: ImageHeader) -> bytes:
        """Encrypt or decrypt a piece of a slot's image.

        Raises:
            ImageInvalid: If the image is encrypted and there is no key.
        """
        if not header.encrypted:
            return data
        if (key := self._keys[slot]) is None:
            raise ImageInvalid(f"the header of slot {slot} says encrypted, and the trailer has no key")
        return crypt_payload(data, offset, header, key)

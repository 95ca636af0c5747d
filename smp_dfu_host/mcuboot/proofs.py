"""Hashes and signatures of one boot, each computed once for the same bytes, wherever they lie.

MCUboot hashes an update where it arrived, and again where it was swapped to. So does this boot loader as far as anyone
can see; but bytes that equal those that were hashed before have the same hash, and comparing them takes a fiftieth of
the time. Nothing is taken on trust: slot 0 is read anew, and a byte that differs makes a new hash.
"""

import hashlib

from smp_dfu_host.mcuboot.flash import Readable
from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.mcuboot.keys import HashKind, PublicKey

_CHUNK = 4096
"""Bytes read and hashed at a time: a sector of most flash, which an area in memory gives without copying it."""


class Proofs:
    """What one boot has computed; it keeps what was hashed, to compare with.

    Args:
        read: How many bytes of the one image that is looked at were hashed as they were read from where it lies, and
            their SHA-256; None: nothing was. Not for an image that is decrypted first.
    """

    __slots__ = ("_digests", "_read", "_verdicts")

    def __init__(self, read: tuple[int, bytes] | None = None) -> None:
        self._read = read
        self._digests: list[tuple[HashKind, list[bytes], bytes]] = []
        self._verdicts: dict[tuple[bytes, bytes, bytes, HashKind], bool] = {}

    def digest(self, area: Readable, header: ImageHeader, base: int = 0, kind: HashKind = HashKind.SHA256) -> bytes:
        """Return the hash over header, payload and protected TLVs.

        Raises:
            StoreError: If they pass the end of the area.
        """
        size = header.hashed_size
        if self._read and kind is HashKind.SHA256 and size == self._read[0]:
            return self._read[1]
        pieces = [area.read(base + offset, min(_CHUNK, size - offset)) for offset in range(0, size, _CHUNK)]
        for known, hashed, computed in self._digests:
            if known is kind and hashed == pieces:
                return computed
        computed = _hash(pieces, kind)
        self._digests.append((kind, pieces, computed))
        return computed

    def verifies(self, key: PublicKey, signature: bytes, signed: bytes, kind: HashKind) -> bool:
        """Tell whether that is the key's signature of a hash; for pure Ed25519, of the image itself."""
        asked = key.der, signature, signed, kind
        if (verdict := self._verdicts.get(asked)) is None:
            verdict = self._verdicts[asked] = key.verifies(signature, signed, kind)
        return verdict


def _hash(pieces: list[bytes], kind: HashKind) -> bytes:
    state = hashlib.new(kind.value)
    for piece in pieces:
        state.update(piece)
    return state.digest()

"""Builds of the boot loader, and images for them: signed, encrypted, counted, with wants of each other."""

from collections.abc import Mapping
from pathlib import Path
from struct import pack
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.groups.update_model import Made
from tests.mcuboot.images import make_image, pem
from tests.store.builders import hash_of

BUILDS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "signed": {"keys": ["signing.pem"]},
    "encrypted": {"encryption_key": "encryption.key"},
    "by-version": {"downgrade": "by-version"},
    "by-counter": {"downgrade": "by-counter"},
    "rollback": {"rollback_counter": True},
    "bootstrap": {"bootstrap": True},
}
"""By name: what the configuration says of the boot loader."""
COUNTING = ("by-counter", "rollback")
"""Those that look at security counters."""
FAULTS = ("payload", "unsigned", "stranger")
"""What may be wrong with an image; without signatures it is always the payload."""
OURS, STRANGERS = (ec.derive_private_key(number, ec.SECP256R1()) for number in (0x5EC, 0xBAD))
_WRAPPING, _SECRET = bytes(range(16)), bytes(range(16, 32))
_ENCRYPTED, _RAM_LOAD, _RAM = 0x4, 0x20, 0x20000000
_ENC_KW, _DEPENDENCY, _SEC_CNT = 0x31, 0x40, 0x50
_HEADER = 32


def builds_of(mode: str, images: int) -> list[str]:
    """Return the builds that are tried with a mode."""
    if images > 1:
        return ["plain"]
    return [*BUILDS] if mode.startswith(("swap-", "overwrite-")) else ["plain", "signed"]


def write_keys(folder: Path) -> None:
    """Write the keys that the builds name."""
    (folder / "signing.pem").write_bytes(pem(OURS))
    (folder / "encryption.key").write_bytes(_WRAPPING)


def make(
    mode: str,
    version: int,
    payload: bytes,
    *,
    build: str = "plain",
    fault: str = "",
    counter: int | None = None,
    needs: Mapping[int, int] | None = None,
) -> Made:
    """Return an image for a build of the boot loader.

    Args:
        mode: The boot loader's.
        version: The first number of it.
        payload: What is in it.
        build: One of `BUILDS`.
        fault: What is wrong with it: one of `FAULTS`, or nothing.
        counter: Its security counter, in builds that count.
        needs: By image: the lowest version that it runs with.
    """
    counter = counter if build in COUNTING else None
    wants = [(_DEPENDENCY, pack("<B3xBBHI", image, lowest, 0, 0, 0)) for image, lowest in (needs or {}).items()]
    plain = make_image(
        (version, 0, 0, 0),
        payload,
        flags=(_ENCRYPTED if build == "encrypted" else 0) | (_RAM_LOAD if "ram-load" in mode else 0),
        load_addr=_RAM if "ram-load" in mode else 0,
        key=_signer(fault) if build == "signed" else None,
        protected=wants if counter is None else [(_SEC_CNT, pack("<I", counter)), *wants],
        unprotected=[(_ENC_KW, aes_key_wrap(_WRAPPING, _SECRET))] if build == "encrypted" else (),
    )
    data, digest = _encrypted(plain, len(payload)) if build == "encrypted" else plain, hash_of(plain)
    if fault and (fault == "payload" or build != "signed"):
        data = data[:_HEADER] + bytes([data[_HEADER] ^ 1]) + data[_HEADER + 1 :]
    return Made(version, data, digest, not fault, plain, plain.index(digest), counter, needs or {})


def _signer(fault: str) -> ec.EllipticCurvePrivateKey | None:
    return {"unsigned": None, "stranger": STRANGERS}.get(fault, OURS)


def _encrypted(plain: bytes, size: int) -> bytes:
    """Encrypt the payload with AES-CTR, as imgtool does."""
    crypt = Cipher(algorithms.AES(_SECRET), modes.CTR(bytes(16))).encryptor()
    return plain[:_HEADER] + crypt.update(plain[_HEADER : _HEADER + size]) + plain[_HEADER + size :]

"""What boot loaders make of an image file, whatever they were built with.

A key alone does not say which build takes the image: Ed25519 goes with SHA-256, with SHA-512, and with signatures of
the image itself (pure), as on an nRF54L15. All that go with the keys are tried. Without keys the hash alone is looked
at, of whichever kind the image has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smp_dfu_host.mcuboot.encryption import DecryptionKey
from smp_dfu_host.mcuboot.flash import MemoryStorage
from smp_dfu_host.mcuboot.keys import HashKind
from smp_dfu_host.mcuboot.tlv import TlvType
from smp_dfu_host.mcuboot.verify import Examination, PublicKey, VerifyPolicy, examine


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one build makes of an image."""

    policy: VerifyPolicy
    """The build."""
    found: Examination

    @property
    def fit(self) -> int:
        """How well the build goes with the TLVs of the image: the reason of the best one is worth telling."""
        types = {entry.type for entry in self.found.tlvs.entries} if self.found.tlvs else set[int]()
        signed = not self.policy.keys or self.policy.keys[0].signature in types
        return 4 * signed + 2 * (self.policy.pure == (TlvType.SIG_PURE in types)) + (self.policy.digest.tlv in types)


def judge(data: bytes, keys: Sequence[PublicKey], decryption: DecryptionKey | None = None) -> Judgement:
    """Judge an image by the first build that accepts it, or else by the one that suits it best.

    Args:
        data: The file's bytes.
        keys: Public keys, of any kinds; none: the signature is not looked at.
        decryption: Opens encrypted images; None: they are not valid.
    """
    builds = [
        Judgement(policy, examine(MemoryStorage(data), policy, decryption=decryption)) for policy in _builds(keys)
    ]
    return next((each for each in builds if each.found.valid), max(builds, key=lambda each: each.fit))


def _builds(keys: Sequence[PublicKey]) -> Iterator[VerifyPolicy]:
    """Yield the builds that go with the keys; a boot loader knows keys of one kind."""
    if not keys:
        yield from (VerifyPolicy(hash=kind) for kind in HashKind)
    for kind in dict.fromkeys(key.kind for key in keys):
        group = tuple(key for key in keys if key.kind == kind)
        for hashed in group[0].hashes:
            yield VerifyPolicy(group, hashed)
        if kind == "Ed25519":
            yield from (VerifyPolicy(group, hashed, pure=True) for hashed in reversed(group[0].hashes))

"""What is put into slots from files: images where an upload would go, dumps as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.store.faults import Fault, SlotRefusal


@dataclass(frozen=True, slots=True)
class Incoming:
    """An image, or the dump of a whole slot, and where it is to go."""

    slot: int
    """Counted through all images."""
    data: bytes
    name: str = ""
    """What a refusal names; empty: nothing."""

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Have refusals say what they are about."""
        try:
            yield
        except SlotRefusal as exc:
            if not self.name:
                raise
            raise SlotRefusal(exc.fault, f"{self.name}: {exc}") from exc

    def check_size(self) -> None:
        """Refuse what is too short to be an image: what lies behind it in the slot is not its own.

        Raises:
            SlotRefusal: If it is.
        """
        if (size := len(self.data)) < ImageHeader.SIZE:
            raise SlotRefusal(Fault.BAD_HEADER, f"{size} bytes, an image has at least {ImageHeader.SIZE}")

    def contents(self, blank: bytes, base: int) -> bytes:
        """Return the slot with this in it; a dump is as long as the slot, and stays as it is.

        Args:
            blank: The erased slot.
            base: Where an image starts in it.

        Raises:
            SlotRefusal: If there is no room.
        """
        start = base if len(self.data) != len(blank) else 0
        if start + len(self.data) > len(blank):
            reason = f"{len(self.data)} bytes, slot {self.slot} has {len(blank) - start}"
            raise SlotRefusal(Fault.TOO_LARGE, reason)
        return blank[:start] + self.data + blank[start + len(self.data) :]

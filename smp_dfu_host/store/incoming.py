"""What is put into slots from files: images where an upload would go, dumps as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from smp_dfu_host.mcuboot.image import ImageHeader
from smp_dfu_host.store.faults import Fault, SlotRefusal
from smp_dfu_host.store.layout import Layout


@dataclass(frozen=True, slots=True)
class Incoming:
    """An image, or the dump of a whole slot, and where it is to go."""

    slot: int
    """Counted through all images."""
    data: bytes
    name: str = ""
    """What a refusal names; empty: nothing."""

    address: int | None = None
    """Flash address that the file gives its first byte; None: none."""

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

    def check_place(self, layout: Layout) -> None:
        """Refuse what lies in another slot by its address, for modes in which images run in place.

        An address outside of all slots says nothing: the slots may be laid out otherwise than those of the device.

        Raises:
            SlotRefusal: If it does.
        """
        if self.address is None:
            return
        for slot in layout.slots:
            start = layout.slot_address(slot)
            if slot != self.slot and start <= self.address < start + layout.size(slot):
                place = f"address 0x{self.address:x} is in slot {slot}, slot {self.slot} is at"
                where = f"{place} 0x{layout.slot_address(self.slot):x}"
                raise SlotRefusal(Fault.BAD_ADDRESS, f"{where}, and images run where they lie")

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

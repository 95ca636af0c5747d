"""What the modes that change slot 0 do differently; `UpdateFlow` does the rest."""

from typing import Protocol

from smp_dfu_host.mcuboot.context import BootStatus, ImageState, Source
from smp_dfu_host.mcuboot.flash import FlashArea
from smp_dfu_host.mcuboot.options import SlotPair
from smp_dfu_host.mcuboot.trailer import Trailer


class UpdateMode(Protocol):
    """One mode, made for one boot."""

    @property
    def interruptible(self) -> bool:
        """Whether trailers tell how far a change has got; if not, it starts over."""
        ...

    def incompatible(self, image: ImageState) -> str:
        """Return why no update is possible with these slots; empty: it is possible."""
        ...

    def find_status(self, image: ImageState) -> tuple[Source, FlashArea | None]:
        """Return which trailer tells of an interrupted swap."""
        ...

    def read_steps(self, image: ImageState, area: FlashArea, status: BootStatus) -> None:
        """Set phase, index and state from the status bytes.

        Raises:
            BootStopped: If they contradict each other and slot 0 will not be checked.
        """
        ...

    def locate_header(self, image: ImageState, slot: int, status: BootStatus | None) -> bool:
        """Read a slot's header from where it is now; return False if there is none and that is fatal.

        Args:
            image: The image.
            slot: The slot that the header belongs to.
            status: How far a swap has got; None: none is under way.
        """
        ...

    def swap_trailer(self, image: ImageState) -> Trailer:
        """Return the trailer that says what the interrupted swap is of.

        Raises:
            BootStopped: If none does.
        """
        ...

    def change(self, image: ImageState, status: BootStatus) -> None:
        """Make the image of slot 1 that of slot 0, from where `status` says on; in swap modes the other way too."""
        ...

    def fill(self, image: ImageState) -> None:
        """Copy slot 1 over a slot 0 without an image (bootstrap)."""
        ...

    def max_image_size(self, pair: SlotPair) -> int:
        """Return the most bytes that an image may have, TLVs included."""
        ...

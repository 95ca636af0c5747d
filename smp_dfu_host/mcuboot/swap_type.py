"""What the next boot does with a pair of slots, read from their trailers: an ordered table.

Source: mcuboot boot/bootutil/src/bootutil_public.c, boot_swap_tables and boot_swap_type_multi.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum


class SwapType(IntEnum):
    """Kinds of swap; 1 to 4 are also what the low nibble of swap_info says in flash."""

    NONE = 1
    TEST = 2
    PERM = 3
    REVERT = 4
    FAIL = 5
    """The update was not valid; never in flash."""
    PANIC = 0xFF
    """No sense can be made of the state; never in flash."""

    @property
    def upgrades(self) -> bool:
        """Whether the image of the secondary slot is to run (BOOT_IS_UPGRADE)."""
        return self in (SwapType.TEST, SwapType.PERM, SwapType.REVERT)


class Magic(Enum):
    """The 16 bytes that end a trailer."""

    GOOD = "good"
    BAD = "bad"
    UNSET = "unset"


class Flag(Enum):
    """One flag cell of a trailer."""

    SET = "set"
    BAD = "bad"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class TrailerState:
    """The decoded trailer of one slot."""

    magic: Magic = Magic.UNSET
    swap_type: SwapType = SwapType.NONE
    """From swap_info; NONE if that is erased or makes no sense."""
    image: int = 0
    """Which image pair the swap is of; from swap_info."""
    copy_done: Flag = Flag.UNSET
    image_ok: Flag = Flag.UNSET


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; None matches anything."""

    result: SwapType
    primary_magic: Magic | None = None
    secondary_magic: Magic | None = None
    primary_image_ok: Flag | None = None
    secondary_image_ok: Flag | None = None
    primary_copy_done: Flag | None = None
    secondary_copy_done: Flag | None = None

    def matches(self, primary: TrailerState, secondary: TrailerState) -> bool:
        """Tell whether the two trailers fit this row."""
        wanted = (
            (self.primary_magic, primary.magic),
            (self.secondary_magic, secondary.magic),
            (self.primary_image_ok, primary.image_ok),
            (self.secondary_image_ok, secondary.image_ok),
            (self.primary_copy_done, primary.copy_done),
            (self.secondary_copy_done, secondary.copy_done),
        )
        return all(want is None or want == have for want, have in wanted)


TABLE = (
    Row(SwapType.TEST, secondary_magic=Magic.GOOD, secondary_image_ok=Flag.UNSET),
    Row(SwapType.PERM, secondary_magic=Magic.GOOD, secondary_image_ok=Flag.SET),
    Row(SwapType.REVERT, primary_magic=Magic.GOOD, primary_image_ok=Flag.UNSET, primary_copy_done=Flag.SET),
)
"""The first row that matches decides; none: nothing is to be done."""

OFFSET_TABLE = (
    Row(
        SwapType.REVERT,
        secondary_magic=Magic.GOOD,
        secondary_image_ok=Flag.UNSET,
        secondary_copy_done=Flag.SET,
    ),
    *TABLE,
)
"""The same for swap-using-offset, which marks a revert in the secondary slot while it starts."""


def decide(primary: TrailerState, secondary: TrailerState, table: tuple[Row, ...] = TABLE) -> SwapType:
    """Return what the next boot is asked to do, before it has looked at any image."""
    return next((row.result for row in table if row.matches(primary, secondary)), SwapType.NONE)

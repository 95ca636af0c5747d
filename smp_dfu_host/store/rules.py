"""Which of MCUboot's rules decides what the next boot does with an image, in short words.

a swap was cut           swap_misc.c, swap_read_status; boot_status_source of the mode
swap type table          bootutil_public.c, boot_swap_tables; rows counted from 1, the one more of
swap-using-offset is row 0 (mcuboot docs/design.md, "New swaps")
the higher version       loader.c, find_slot_with_highest_version
one slot                 boot/zephyr/single_loader.c, firmware_loader.c
"""

from dataclasses import dataclass
from enum import Enum

from smp_dfu_host.mcuboot.boot import Bootloader
from smp_dfu_host.mcuboot.context import BootStatus, BootStopped, Source
from smp_dfu_host.mcuboot.image import ImageInvalid, ImageVersion, read_header
from smp_dfu_host.mcuboot.options import BootOptions, Mode
from smp_dfu_host.mcuboot.swap_type import TABLE, Row, SwapType, TrailerState
from smp_dfu_host.store.layout import SLOTS_OF_IMAGE, Areas

NAMES = {
    SwapType.NONE: "none",
    SwapType.TEST: "test",
    SwapType.PERM: "permanent",
    SwapType.REVERT: "revert",
    SwapType.FAIL: "fail",
    SwapType.PANIC: "panic",
}
NO_ROW = "swap type table, no row"
"""The rule's name when no mark asks for anything."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What decides."""

    name: str
    """Such as `swap type table row 3`."""
    condition: str
    """What it saw: `slot 0 magic good, image_ok unset, copy_done set`."""
    follows: str
    """What comes of it: `revert`."""
    asked: SwapType = SwapType.NONE
    """What is asked of a boot loader that changes slot 0."""
    marks: bool = False
    """Whether it is marks that ask, not versions or the slot's number."""
    cut: bool = False
    """Whether the power cut a swap; `asked` is its kind then."""
    resumes: bool = False
    """Whether the boot goes on with that swap before it does anything else."""

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.name}: {self.condition} -> {self.follows}"

    @property
    def short(self) -> str:
        """The name, and what follows."""
        return f"{self.name} -> {self.follows}"


def the_rule(options: BootOptions, loader: Bootloader, image: int, areas: Areas) -> Rule:
    """Return the rule that decides about an image at the next boot.

    Args:
        options: The boot loader's build.
        loader: The boot loader, on those slots.
        image: Number of the image pair.
        areas: All slots.
    """
    if options.mode.updates:
        return _update_rule(options, loader, image)
    if options.mode.picks_slot:
        return _version_rule(options, image, areas)
    return _one_slot_rule(options)


def _update_rule(options: BootOptions, loader: Bootloader, image: int) -> Rule:
    if reason := loader.incompatible(image):
        return Rule("slots", reason, "nothing is ever swapped", marks=True)
    try:
        status = loader.swap_status(image)
    except BootStopped as exc:
        return Rule("swap status", str(exc), "the boot loader hangs", SwapType.PANIC, marks=True)
    primary, secondary = (loader.trailer(image, slot).state() for slot in range(SLOTS_OF_IMAGE))
    if not status.fresh or status.swap_type != SwapType.NONE:
        return _cut_rule(status, image, primary, secondary)
    for number, row in enumerate(options.table, 1 + len(TABLE) - len(options.table)):
        if row.matches(primary, secondary):
            return Rule(
                f"swap type table row {number}", _conditions(row, image), NAMES[row.result], row.result, marks=True
            )
    seen = f"{_slot(image, 0)} {_seen(primary)}; {_slot(image, 1)} {_seen(secondary)}"
    return Rule(NO_ROW, seen, "none", marks=True)


def _slot(image: int, number: int) -> str:
    """Name a slot; its number counts through all images."""
    return f"slot {image * SLOTS_OF_IMAGE + number}"


def _cut_rule(status: BootStatus, image: int, primary: TrailerState, secondary: TrailerState) -> Rule:
    try:
        kind = SwapType(status.swap_type)
    except ValueError:
        kind = SwapType.PANIC
    seen = f"{_slot(image, 0)} {_seen(primary)}; {_slot(image, 1)} magic {secondary.magic.value}"
    where = "at its start" if status.fresh else f"at step {status.index}.{status.state}"
    follows = f"it starts over if {_slot(image, 1)} holds a valid image" if status.fresh else "it is finished first"
    name = f"swap status in {'the scratch area' if status.source is Source.SCRATCH else _slot(image, 0)}"
    condition = f"{seen}: a swap ({NAMES[kind]}) was cut {where}"
    return Rule(name, condition, follows, kind, marks=True, cut=True, resumes=not status.fresh)


def _conditions(row: Row, image: int) -> str:
    """Say what a row wants."""
    said = []
    for number, side in enumerate(("primary", "secondary")):
        wanted = ((field, getattr(row, f"{side}_{field}")) for field in ("magic", "image_ok", "copy_done"))
        cells = [f"{field} {value.value}" for field, value in wanted if isinstance(value, Enum)]
        said += [f"{_slot(image, number)} {', '.join(cells)}"] if cells else []
    return "; ".join(said)


def _seen(state: TrailerState) -> str:
    return f"magic {state.magic.value}, image_ok {state.image_ok.value}, copy_done {state.copy_done.value}"


def _version_rule(options: BootOptions, image: int, areas: Areas) -> Rule:
    found: dict[int, ImageVersion] = {}
    for number in range(SLOTS_OF_IMAGE):
        try:
            header = read_header(areas[image * SLOTS_OF_IMAGE + number])
        except ImageInvalid:
            continue
        if header.present:
            found[number] = header.version
    names = ", ".join(f"{_slot(image, slot)} {version}" for slot, version in found.items()) or "no image"
    tie = len(found) > 1 and found[0].compare(found[1], build=options.compare_build) == 0
    follows = f"equal, {_slot(image, 0)} first" if tie else "the highest that is fit to run"
    if options.mode.forgets:
        names += "; one without a mark, or that ran and was not confirmed, is erased"
    return Rule("higher version", names, follows)


def _one_slot_rule(options: BootOptions) -> Rule:
    if options.mode is not Mode.FIRMWARE_LOADER:
        return Rule("one slot", "no mark is looked at", "slot 0 runs if its image is valid")
    asked = "the loader was asked for" if options.loader_asked_for else "nobody asked for the loader"
    first, second = (1, 0) if options.loader_asked_for else (0, 1)
    return Rule("firmware loader", asked, f"slot {first} runs if its image is valid, else slot {second}")

"""The runs of sectors in which two slots can change places: the shortest that end in both slots at once.

Source: mcuboot boot/bootutil/src/swap_scratch.c, boot_slots_compatible.
"""

from smp_dfu_host.mcuboot.options import SlotPair


def common_units(pair: SlotPair) -> tuple[int, ...]:
    """Return the sizes of the units, from the start; empty if the sectors do not fit each other.

    Within one unit, one slot has one sector and the other one has one or more. A slot may go on behind the last unit.
    """
    first, second = list(pair.primary.sectors), list(pair.secondary.sectors)
    units: list[int] = []
    while first and second:
        unit = max(first[0], second[0])
        large, small = (first, second) if first[0] == unit else (second, first)
        large.pop(0)
        size = 0
        while small and size < unit:
            size += small.pop(0)
        if size != unit:
            return ()
        units.append(unit)
    return tuple(units)

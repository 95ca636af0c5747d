"""Flash geometry as the configuration writes it: runs of equal sectors, and the layouts of common boards.

    "4096x118"          118 sectors of 4 KiB
    "16Kx4,64K,128Kx7"  4 of 16 KiB, 1 of 64 KiB, 7 of 128 KiB

A size is in bytes, with `K` in KiB; without `x` there is one sector. MCUboot's simulator has devices of all these kinds
(mcuboot sim/src/image.rs).
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from smp_dfu_host.errors import ConfigError

_RUN = re.compile(r"([1-9]\d{0,8})(K?)(?:x([1-9]\d{0,4}))?")
SECTOR_MIN, SECTOR_MAX = 128, 1 << 20
"""Bytes of a sector."""
SECTORS_MAX = 4096
"""Sectors of an area."""


def parse_sectors(text: str) -> tuple[int, ...]:
    """Return the sizes of the sectors, from the start of the area, in bytes.

    Raises:
        ConfigError: If the text is not of that form, or a size or count is out of range.
    """
    sizes: list[int] = []
    for part in text.replace(" ", "").split(","):
        run = _RUN.fullmatch(part)
        if run is None:
            raise ConfigError(f"{part!r}: sectors are written as SIZExCOUNT, such as 4096x118 or 4Kx118")
        size, count = int(run[1]) * (1024 if run[2] else 1), int(run[3] or 1)
        if not SECTOR_MIN <= size <= SECTOR_MAX:
            raise ConfigError(f"{part!r}: a sector has {SECTOR_MIN} to {SECTOR_MAX} bytes")
        if len(sizes) + count > SECTORS_MAX:
            raise ConfigError(f"{text!r}: more than {SECTORS_MAX} sectors")
        sizes += [size] * count
    return tuple(sizes)


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # dts/vendor/nordic/nrf52840_partition.dtsi; flash0 of dts/arm/nordic/nrf52840.dtsi
        "nrf52840": {"sector_size": 4096, "sectors": 118, "align": 4, "max_sectors": 118, "address": 0xC000},
        # dts/vendor/nordic/nrf5340_cpuapp_partition.dtsi; flash0 of dts/arm/nordic/nrf5340_cpuapp_peripherals.dtsi
        "nrf5340": {"sector_size": 4096, "sectors": 112, "align": 4, "max_sectors": 112, "address": 0x10000},
        # dts/vendor/nordic/nrf54l15_cpuapp_partition.dtsi; cpuapp_rram of dts/vendor/nordic/nrf54l_05_10_15.dtsi: RRAM
        # is not erased, its driver acts as if; writes of 16 bytes
        "nrf54l15": {
            "sector_size": 4096,
            "sectors": 166,
            "align": 16,
            "max_align": 16,
            "max_sectors": 166,
            "address": 0x10000,
        },
        # boards/st/nucleo_f767zi/nucleo_f767zi.dts: sectors 5 to 7 and 8 to 10, sector 11 as scratch; flash0 of
        # dts/arm/st/f7/stm32f7.dtsi, which has no erase-block-size: MCUboot reckons with 128 sectors
        "stm32f767": {
            "sector_size": 256 * 1024,
            "sectors": 3,
            "scratch": "256K",
            "align": 1,
            "max_sectors": 128,
            "address": 0x40000,
        },
        # boards/st/nucleo_h743zi/nucleo_h743zi.dts; flash0 of dts/arm/st/h7/stm32h743.dtsi: writes of 32 bytes
        "stm32h743": {
            "sector_size": 128 * 1024,
            "sectors": 2,
            "scratch": "128K",
            "align": 32,
            "max_align": 32,
            "max_sectors": 2,
            "address": 0x40000,
        },
    }
)
"""`[flash]` options by board, from the default partitions in Zephyr's devicetree files: `reg` of slot0_partition,
slot1_partition and scratch_partition, `erase-block-size`, `write-block-size`. Slot 1 lies behind slot 0 everywhere;
addresses count from the start of the flash. MCUboot's own numbers follow: BOOT_MAX_ALIGN is the write size if that is
over 8 (mcuboot boot/zephyr/include/mcuboot_config/mcuboot_config.h), MCUBOOT_MAX_IMG_SECTORS the sectors of the larger
slot (BOOT_MAX_IMG_SECTORS_AUTO, boot/zephyr/CMakeLists.txt)."""

"""What `info` says about this device: one text a letter.

    s  kernel name       n  node name        r  kernel release    v  kernel version    b  build date
    m  machine           p  processor        i  platform          o  operating system

In that order, whatever the order asked (zephyr subsys/mgmt/mcumgr/grp/os_mgmt/src/os_mgmt.c, os_mgmt_info). The
"kernel" is this program, which is what a client talks to; machine, processor, platform and operating system are the
host's.
"""

import platform
from datetime import UTC, datetime
from pathlib import Path

import smp_dfu_host

KERNEL = "SMP-DFU-Host"
LETTERS = "snrvbmpio"
MODELS = (Path("/proc/device-tree/model"), Path("/sys/devices/virtual/dmi/id/product_name"))
"""Where the host's firmware says what the board is: on ARM boards and on PCs."""


def text_of(letter: str, node: str) -> str:
    """Return the text of one of `LETTERS`.

    Args:
        letter: Which.
        node: The device's name.
    """
    match letter:
        case "s":
            return KERNEL
        case "n":
            return node
        case "r" | "v":
            return smp_dfu_host.__version__
        case "b":
            return build_date()
        case "m":
            return platform.machine() or "unknown"
        case "p":
            return platform.processor() or platform.machine() or "unknown"
        case "i":
            return board(MODELS)
        case _:
            return platform.system() or "unknown"


def build_date() -> str:
    """Return when this program was installed, in C's asctime form: nothing is built, and files are dated."""
    stamp = Path(smp_dfu_host.__file__).stat().st_mtime
    return datetime.fromtimestamp(stamp, UTC).strftime("%a %b %e %H:%M:%S %Y")


def board(models: tuple[Path, ...]) -> str:
    """Return the board's name as one word, from the first of the files that has one."""
    for path in models:
        try:
            words = path.read_text(errors="replace").replace("\0", " ").split()
        except OSError:
            continue
        if words:
            return "_".join(words)
    return "unknown"

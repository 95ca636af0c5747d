"""The switches that keep radios off (linux Documentation/driver-api/rfkill.rst)."""

from pathlib import Path

SYSFS = Path("/sys/class/rfkill")


def blocked(adapter: str, sysfs: Path = SYSFS) -> bool:
    """Return whether a switch keeps an adapter off, such as `hci0`."""
    switches = (each for each in sysfs.glob("rfkill*") if _read(each / "name") == adapter)
    return any(_read(each / kind) == "1" for each in switches for kind in ("soft", "hard"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:  # unplugged meanwhile
        return ""

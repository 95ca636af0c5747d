"""An SMP/MCUmgr server on a Linux host, with MCUboot's slots as files."""

__version__ = "0.1.0"

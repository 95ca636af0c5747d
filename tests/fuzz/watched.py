"""Which modules' branches guide the fuzzer, by target; fewer are faster.

Nothing is imported here: atheris must be told before the modules are.
"""

_WIRE = ("smp_dfu_host.wire",)
_MCUBOOT = "smp_dfu_host.mcuboot"
_DECIDES = ("boot", "context", "direct_xip", "overwrite", "ram_load", "request", "rollback", "single", "slot_check")
_SWAPS = ("swap_keys", "swap_move", "swap_offset", "swap_scratch", "swap_status", "swap_type", "trailer", "update")
_STORE = tuple(f"smp_dfu_host.store.{name}" for name in ("admission", "mount", "settings", "upload"))

WATCHED = {
    "wire": _WIRE,
    "console": _WIRE,
    "bodies": _WIRE,
    "requests": (*_WIRE, "smp_dfu_host.dispatch", "smp_dfu_host.groups", "smp_dfu_host.modules", *_STORE),
    "image": (_MCUBOOT,),
    "flash": tuple(f"{_MCUBOOT}.{name}" for name in (*_DECIDES, *_SWAPS)),
    "config": ("smp_dfu_host", "tomllib"),
    "files": ("smp_dfu_host.store.image_files", "zipfile", "intelhex"),
}

"""Which modules' branches guide the fuzzer, by target; fewer are faster.

Nothing is imported here: atheris must be told before the modules are.
"""

_WIRE = ("smp_dfu_host.wire",)
_MCUBOOT = ("smp_dfu_host.mcuboot",)

WATCHED = {
    "wire": _WIRE,
    "console": _WIRE,
    "bodies": _WIRE,
    "requests": ("smp_dfu_host",),
    "image": _MCUBOOT,
    "flash": _MCUBOOT,
    "config": ("smp_dfu_host", "tomllib"),
    "files": ("smp_dfu_host.store.image_files", "zipfile", "intelhex"),
}

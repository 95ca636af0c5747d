"""Entry points: how groups come in, ours and other people's, by one mechanism.

A group is announced in a package's metadata under `smp_dfu_host.groups` and is a class that takes `Services`:

    [project.entry-points."smp_dfu_host.groups"]
    my_group = "my_package.my_module:MyGroup"
"""

from importlib.metadata import entry_points

from smp_dfu_host.errors import PluginError

GROUPS = "smp_dfu_host.groups"
"""Where groups are announced."""


def load(kind: str) -> dict[str, type]:
    """Load every class announced under that name, by entry point name, in the order of the names.

    Raises:
        PluginError: If one cannot be imported or is no class; the message names the entry point.
    """
    loaded: dict[str, type] = {}
    for point in sorted(entry_points(group=kind), key=lambda each: each.name):
        try:
            found = point.load()
        except Exception as exc:  # a stranger's module may raise anything while it is imported
            raise PluginError(f"entry point {point.name} = {point.value}: {type(exc).__name__}: {exc}") from exc
        if not isinstance(found, type):
            raise PluginError(f"entry point {point.name} = {point.value}: is {found!r}, must be a class")
        loaded[point.name] = found
    return loaded

"""Entry points: how groups and hooks come in, ours and other people's, by one mechanism.

A group is announced in a package's metadata under `smp_dfu_host.groups` and is a class that takes `Services`:

    [project.entry-points."smp_dfu_host.groups"]
    my_group = "my_package.my_module:MyGroup"

Under `smp_dfu_host.hooks` stands what takes `Services` too and registers handlers with `services.hooks`: a function, or
a class whose methods are the handlers. It is called once, before the first request.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from smp_dfu_host.errors import PluginError

GROUPS = "smp_dfu_host.groups"
"""Where groups are announced."""

HOOKS = "smp_dfu_host.hooks"
"""Where hooks are announced."""


def load(kind: str) -> dict[str, Callable[..., Any]]:
    """Load all that is announced under that name, by entry point name, in the order of the names.

    Raises:
        PluginError: If one cannot be imported or cannot be called; the message names the entry point.
    """
    loaded: dict[str, Callable[..., Any]] = {}
    for point in sorted(entry_points(group=kind), key=lambda each: each.name):
        try:
            found = point.load()
        except Exception as exc:  # a stranger's module may raise anything while it is imported
            raise PluginError(f"entry point {point.name} = {point.value}: {type(exc).__name__}: {exc}") from exc
        if not callable(found):
            raise PluginError(f"entry point {point.name} = {point.value}: is {found!r}, must be a class or a function")
        loaded[point.name] = found
    return loaded

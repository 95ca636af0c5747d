"""What all tests share."""

import pytest
from hypothesis import settings

# Machines that run tests are busy: a slow example is no fault of the code.
settings.register_profile("smp-dfu-host", deadline=None)
settings.load_profile("smp-dfu-host")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "soak" in config.option.markexpr:
        return
    soaking = [item for item in items if item.get_closest_marker("soak")]
    if soaking:
        config.hook.pytest_deselected(items=soaking)
        items[:] = [item for item in items if item not in soaking]

"""What all tests share."""

from hypothesis import settings

# Machines that run tests are busy: a slow example is no fault of the code.
settings.register_profile("smp-dfu-host", deadline=None)
settings.load_profile("smp-dfu-host")

import warnings

# dbus-next's own deprecations, of things that Python 3.13 warns about, when it is imported for the first time.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import smp_dfu_host.transport.ble.bluez  # noqa: F401

"""nRF Desktop's modules, by their names: what an update is beyond requests and slots.

`dfu_mcumgr` or `smp` (plain) sits between the router and the image group, whichever `[smp] module` says. `ble_latency`
asks centrals for a fast link while a transfer runs.
"""

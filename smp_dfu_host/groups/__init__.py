"""MCUmgr's command groups, one file a group.

Each comes in by the entry points `smp_dfu_host.groups`, ours as any other: see `smp_dfu_host.plugins`.
"""

"""`python -m smp_dfu_host`: the same as the command `smp-dfu-host`."""

from smp_dfu_host.cli import main

if __name__ == "__main__":
    main(prog_name="smp-dfu-host")

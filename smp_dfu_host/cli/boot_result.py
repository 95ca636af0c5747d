"""What a boot did, as lines and as JSON."""

from collections.abc import Sequence

from smp_dfu_host.cli.render import Fact
from smp_dfu_host.mcuboot.options import BootResult


def boot_facts(result: BootResult) -> list[Fact]:
    """Say what a boot did."""
    done = [Fact("" if number else "did", action) for number, action in enumerate(result.actions)]
    flash = Fact("flash", f"{result.ops} operation{'' if result.ops == 1 else 's'}")
    if not result.ok:
        mend = "load one that does: smp-dfu-host slots load FILE --slot 0"
        return [*done, flash, Fact("result", f"no image boots; {mend}", "bold red")]
    version = str(result.header and result.header.version)
    return [*done, flash, Fact("result", say_running(result.running, version), "bold green")]


def say_running(slots: Sequence[int | None], version: str) -> str:
    """Say what runs after a boot: image by image the slot, and the version of image 0."""
    names = [f"slot {slot}" for slot in slots if slot is not None]
    beside = f", beside it {', '.join(names[1:])}" if len(names) > 1 else ""
    return f"version {version} runs from {names[0]}{beside}"


def boot_json(result: BootResult) -> dict[str, object]:
    """Return what a boot did, for JSON."""
    return {
        "ok": result.ok,
        "stopped": result.stopped,
        "asked": [each.name.lower() for each in result.pre_swap_type],
        "done": [each.name.lower() for each in result.swap_type_done],
        "slots": list(result.running),
        "version": str(result.header.version) if result.header else None,
        "operations": result.ops,
        "actions": list(result.actions),
    }

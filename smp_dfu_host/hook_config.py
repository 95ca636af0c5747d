"""The configuration of hooks that are programs: `[[hook]]`."""

from dataclasses import dataclass

from smp_dfu_host.errors import ConfigError
from smp_dfu_host.hook_events import BY_LABEL
from smp_dfu_host.sections import between, one_of, option


@dataclass(frozen=True, slots=True)
class HookConfig:
    """`[[hook]]`: a program that is run at an event. Any number; those of one event run in the order of the file."""

    on: str = option("", one_of(*BY_LABEL))
    """The event, such as `image-pending` (CONFIG_MCUMGR_MGMT_NOTIFICATION_HOOKS)."""
    run: tuple[str, ...] = option(())
    """The program and its arguments; run as it stands, without a shell. It is told of the event by JSON on stdin and by
    SMP_EVENT, SMP_PEER and so on in its environment. Where the event can be refused, an exit status other than 0 does,
    and is the `rc` of the answer."""
    timeout_ms: int = option(2000, between(10, 60_000))
    """A program that takes longer is killed, with all that it has started; what can be refused is. Clients wait for
    it."""

    def __post_init__(self) -> None:
        if not self.on:
            raise ConfigError("hook.on is missing: the event")
        if not self.run or not self.run[0]:
            raise ConfigError(f"hook.run of {self.on!r} is missing: the program and its arguments")
        if nul := next((word for word in self.run if "\0" in word), None):
            raise ConfigError(f"hook.run of {self.on!r} = {nul!r}: must hold no NUL")

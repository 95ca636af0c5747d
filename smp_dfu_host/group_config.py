"""The configuration of the groups but image: `[os]`, `[settings]`, `[fs]` and `[shell]`."""

import re
from dataclasses import dataclass
from pathlib import Path

from smp_dfu_host.errors import ConfigError
from smp_dfu_host.sections import Check, between, one_of, option


@dataclass(frozen=True, slots=True)
class OsConfig:
    """`[os]`: the os group."""

    datetime: str = option("offset", one_of("offset", "host"))
    """What a client that sets the time changes (CONFIG_MCUMGR_GRP_OS_DATETIME): this program's distance from the host's
    time, or the host's clock, which needs CAP_SYS_TIME."""
    datetime_ms: bool = option(False)
    """Tell and take milliseconds, as `.ms` behind the seconds (CONFIG_MCUMGR_GRP_OS_DATETIME_MS)."""


@dataclass(frozen=True, slots=True)
class SettingsConfig:
    """`[settings]`: the settings group. A subtree is a name such as `app` or `app/net`, with all names below it."""

    roots: tuple[str, ...] = option(("app",))
    """Subtrees that there are (SETTINGS_STATIC_HANDLER_DEFINE); names elsewhere are refused."""
    read_only: tuple[str, ...] = option(())
    """Subtrees that clients may not write or delete (CONFIG_MCUMGR_GRP_SETTINGS_ACCESS_HOOK)."""
    write_only: tuple[str, ...] = option(())
    """Subtrees that clients may not read (CONFIG_MCUMGR_GRP_SETTINGS_ACCESS_HOOK)."""
    storage: bool = option(True)
    """Keep what is saved in the store; false: save is refused and a reset forgets everything (CONFIG_SETTINGS_NONE)."""
    name_len: int = option(32, between(2, 256))
    """Names must be shorter than that, in bytes (CONFIG_MCUMGR_GRP_SETTINGS_NAME_LEN)."""
    value_len: int = option(32, between(1, 2048))
    """Values are written and read up to that, in bytes (CONFIG_MCUMGR_GRP_SETTINGS_VALUE_LEN)."""
    entries: int = option(256, between(1, 65536))
    """How many settings there may be."""


def _is_mount_name(value: str) -> bool:
    part = value[1:]
    return value[:1] == "/" and part not in ("", ".", "..") and part.isprintable() and "/" not in part


@dataclass(frozen=True, slots=True)
class FsConfig:
    """`[fs]`: the file system group. Every file in its folder is open to every client that is served."""

    folder: Path | None = option(None)
    """The folder that clients see, made if need be; without it there is no file system group
    (CONFIG_MCUMGR_GRP_FS)."""
    mount: str = option("/lfs1", Check(_is_mount_name, "a slash and one name, such as /lfs1"))
    """What clients call the folder."""
    read_only: bool = option(False)
    """Refuse uploads (FS_MOUNT_FLAG_READ_ONLY)."""
    size: int = option(1 << 20, between(0, (1 << 32) - 1))
    """Bytes that all files together may have after an upload."""
    files: int = option(256, between(0, 65536))
    """How many files there may be after an upload."""
    path_len: int = option(64, between(2, 1024))
    """Longest path, mount name included, in bytes (CONFIG_MCUMGR_GRP_FS_PATH_LEN)."""
    idle_close_ms: int = option(4000, between(100, 3_600_000))
    """A file is closed after so long without a request for it (CONFIG_MCUMGR_GRP_FS_FILE_AUTOMATIC_IDLE_CLOSE_TIME)."""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """`[[shell.command]]`: one command that clients may run."""

    name: str = option("")
    """What clients say, one word or several: `kernel version`."""
    run: tuple[str, ...] = option(())
    """The program and its first arguments; run as it stands, without a shell."""
    arguments: tuple[str, ...] = option(())
    """A regular expression for each further argument; there must be as many, and each must match as a whole. One that
    begins with `-` must be allowed by an expression that does."""
    help: str = option("")
    """What `help` says of it."""

    def __post_init__(self) -> None:
        if not self.name.split():
            raise ConfigError("shell.command.name is missing")
        if not self.run or not self.run[0]:
            raise ConfigError(f"shell.command.run of {self.name!r} is missing: the program and its arguments")
        for pattern in self.arguments:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise ConfigError(f"shell.command.arguments of {self.name!r} = {pattern!r}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class ShellConfig:
    """`[shell]`: the shell group."""

    command: tuple[ShellCommand, ...] = option(())
    """The commands that there are; without one there is no shell group (CONFIG_MCUMGR_GRP_SHELL)."""
    timeout_ms: int = option(2000, between(10, 60_000))
    """A command that takes longer is killed. No other request is served meanwhile."""
    output_size: int = option(1024, between(64, 2400))
    """Bytes of output that are sent, the first ones; less where the reply would not fit
    (CONFIG_SHELL_BACKEND_DUMMY_BUF_SIZE)."""
    line_size: int = option(256, between(16, 2048))
    """All words together must be shorter than that, each with a space behind it but the last, in bytes
    (CONFIG_SHELL_CMD_BUFF_SIZE)."""

    def __post_init__(self) -> None:
        names = [tuple(command.name.split()) for command in self.command]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"shell.command.name = {' '.join(twice)!r}: there are two of them")

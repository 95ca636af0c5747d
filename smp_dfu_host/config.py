"""The configuration: one TOML file, every option with a safe default.

Unknown sections and keys, values of a wrong type and values out of range are errors that name the option, the value and
the limit. Relative paths are relative to the file's folder. Option names follow their Zephyr or nRF Desktop symbols
(nrf-desktop-dfu.md section 7) where there is one.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from smp_dfu_host.errors import ConfigError


def one_of(*values: str) -> Callable[[Any], str | None]:
    """Return a check that a value is one of those."""
    return lambda value: None if value in values else f"must be one of {', '.join(values)}"


def between(low: int, high: int) -> Callable[[Any], str | None]:
    """Return a check that a number lies in that range, both ends included."""
    return lambda value: None if low <= value <= high else f"must be between {low} and {high}"


def option(default: Any, check: Callable[[Any], str | None] | None = None) -> Any:
    """Return a dataclass field with a default and a check of its range."""
    metadata = {"check": check} if check else {}
    if isinstance(default, (dict, list)) or is_dataclass(default):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def state_folder() -> Path:
    """Return where the store lies unless configured: `$XDG_STATE_HOME/smp-dfu-host`."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "smp-dfu-host"


@dataclass(frozen=True, slots=True)
class SmpConfig:
    """`[smp]`: the server between transports and groups."""

    module: str = option("dfu", one_of("dfu", "plain"))
    """`dfu`: dfu_mcumgr with lock and confirmation (CONFIG_DESKTOP_DFU_MCUMGR_ENABLE); `plain`: without them
    (CONFIG_CAF_BLE_SMP)."""
    buf_size: int = option(2475, between(96, 2500))
    """Largest message, header included, in bytes (CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE). The phone apps fail on replies
    with more than 2500 bytes after the header."""
    buf_count: int = option(4, between(2, 64))
    """Told to clients by the params command (CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT)."""
    queue_size: int = option(64, between(1, 4096))
    """Requests that may wait; datagrams beyond it are dropped and counted, streams wait."""


@dataclass(frozen=True, slots=True)
class DfuConfig:
    """`[dfu]`: nRF Desktop's DFU MCUmgr module (nrf-desktop-dfu.md)."""

    enabled: bool = option(True)
    """False: a read-only device; every DFU command is refused with EACCESSDENIED."""
    lock: bool = option(True)
    """The DFU lock (CONFIG_DESKTOP_DFU_LOCK)."""
    strict: bool = option(False)
    """True: reading the image group counts as a DFU command too, as the module's code has it."""
    confirm_at_start: bool = option(True)
    """Confirm the running image at start, as nRF Desktop does; false to test a client's own confirm and the revert."""
    timeout_ms: int = option(5000, between(100, 3_600_000))
    """The lock is released after so long without a DFU command by its owner."""


@dataclass(frozen=True, slots=True)
class BootloaderConfig:
    """`[bootloader]`: MCUboot's build options."""

    mode: str = option("swap-using-move", one_of("swap-using-move", "direct-xip"))
    """MCUBOOT_SWAP_USING_MOVE, MCUBOOT_DIRECT_XIP."""
    keys: tuple[Path, ...] = option(())
    """Public keys (PEM), all of one type: ECDSA-P256, Ed25519, RSA-2048 or RSA-3072. Empty: the hash alone decides."""
    validate_primary: bool = option(True)
    """MCUBOOT_VALIDATE_PRIMARY_SLOT."""
    on_failure: str = option("wait", one_of("wait", "exit"))
    """When no image boots: stay off the air and say so, or end with exit status 1."""


@dataclass(frozen=True, slots=True)
class FlashConfig:
    """`[flash]`: the geometry of the slots; the default is MCUboot's on an nRF52840 (2 x 472 KiB)."""

    sector_size: int = option(4096, between(128, 1 << 20))
    """Bytes."""
    sectors: int = option(118, between(2, 1024))
    """Sectors of each slot."""
    align: int = option(8, between(1, 32))
    """Write alignment in bytes: 1, 2, 4, 8, 16 or 32."""
    max_align: int = option(8, between(8, 32))
    """BOOT_MAX_ALIGN: 8, 16 or 32."""
    max_sectors: int = option(128, between(2, 4096))
    """MCUBOOT_MAX_IMG_SECTORS."""
    erased: int = option(0xFF, between(0, 255))
    """The value of an erased byte: 0xff or 0x00."""
    address: int = option(0xC000, between(0, 0xFFFFFFFF))
    """Flash address of slot 0; slot 1 follows it."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """`[image]`: the image group and the factory image."""

    factory: Path | None = option(None)
    """The image that slot 0 gets when the store is made; without it, a small unsigned one of version 0.0.0."""
    validate_upload: bool = option(True)
    """Refuse at the first or last chunk what the boot loader would refuse later; false: take whatever has an image's
    magic."""
    check_upload: bool = option(True)
    """Compare an upload with the `sha` that came with it, tell the result as `match`, and skip the upload of what is
    there already (CONFIG_IMG_ENABLE_IMAGE_CHECK)."""
    confirm_rolled_back: bool = option(False)
    """Let clients confirm an image by its hash although it ran and was rolled back since it was uploaded."""


@dataclass(frozen=True, slots=True)
class UdpConfig:
    """`[transport.udp]`."""

    enabled: bool = option(False)
    host: str = option("127.0.0.1")
    """Address to listen on; the protocol has no authentication, so loopback unless you say otherwise."""
    port: int = option(1337, between(0, 65535))
    """0 picks a free port; the ready line says which."""
    mtu: int = option(1500, between(96, 65507))
    """Longest datagram taken, in bytes; longer ones are cut, and so answered with rc 9
    (CONFIG_MCUMGR_TRANSPORT_UDP_MTU)."""


@dataclass(frozen=True, slots=True)
class SerialConfig:
    """`[transport.serial]`: a tty, or a pty of our own linked to a path."""

    device: Path | None = option(None)
    """A tty to use, such as `/dev/ttyACM0`."""
    baudrate: int = option(115200, between(1200, 4_000_000))
    """Of `device`, in bits per second."""
    pty: Path | None = option(None)
    """Make a pseudo terminal and link it to this path."""


@dataclass(frozen=True, slots=True)
class BleConfig:
    """`[transport.ble]`."""

    enabled: bool = option(False)
    adapter: str = option("hci0")
    """The adapter's name."""
    security: str = option("encrypt", one_of("none", "encrypt"))
    """What the link must offer before requests are served: nothing (with a warning), or encryption (just works)."""
    max_fragment: int = option(512, between(20, 512))
    """Largest notification in bytes; the central's MTU may lower it."""


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """`[transport]`: any number at once."""

    udp: UdpConfig = option(UdpConfig())
    serial: SerialConfig = option(SerialConfig())
    ble: BleConfig = option(BleConfig())


@dataclass(frozen=True, slots=True)
class ResetConfig:
    """`[reset]`: what a client's reset does."""

    delay_ms: int = option(250, between(0, 10_000))
    """From the reply to the drop of the links (CONFIG_MCUMGR_GRP_OS_RESET_MS)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be said in the file."""

    name: str = option("SMP DFU Host")
    """The device's name: advertised, and its kernel name in `info`."""
    store: Path = field(default_factory=state_folder)
    """The folder of the slots and of what belongs to them."""
    smp: SmpConfig = option(SmpConfig())
    dfu: DfuConfig = option(DfuConfig())
    bootloader: BootloaderConfig = option(BootloaderConfig())
    flash: FlashConfig = option(FlashConfig())
    image: ImageConfig = option(ImageConfig())
    transport: TransportConfig = option(TransportConfig())
    reset: ResetConfig = option(ResetConfig())

    def __post_init__(self) -> None:
        for name, value, powers in (
            ("flash.align", self.flash.align, (1, 2, 4, 8, 16, 32)),
            ("flash.max_align", self.flash.max_align, (8, 16, 32)),
            ("flash.erased", self.flash.erased, (0, 255)),
        ):
            if value not in powers:
                raise ConfigError(f"{name} = {value}: must be one of {', '.join(map(str, powers))}")
        if self.flash.align > self.flash.max_align:
            raise ConfigError(
                f"flash.align = {self.flash.align}: must not exceed flash.max_align = {self.flash.max_align}"
            )
        if self.flash.sectors > self.flash.max_sectors:
            limit = self.flash.max_sectors
            raise ConfigError(f"flash.sectors = {self.flash.sectors}: must not exceed flash.max_sectors = {limit}")
        if self.flash.sector_size % self.flash.max_align:
            raise ConfigError(f"flash.sector_size = {self.flash.sector_size}: must be a multiple of flash.max_align")
        if not self.name.isprintable() or not 1 <= len(self.name.encode()) <= 29:
            raise ConfigError(f"name = {self.name!r}: must be 1 to 29 printable bytes, to fit a scan response")


def load(path: Path | None) -> Config:
    """Read the configuration file, or return the defaults for None.

    Raises:
        ConfigError: If the file cannot be read or says something that is not known, not of the type, or out of range.
    """
    if path is None:
        return Config()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return parse(table, path.parent.absolute())


def parse(table: Mapping[str, Any], base: Path) -> Config:
    """Make a Config of a parsed TOML table; `base` is the folder of relative paths.

    Raises:
        ConfigError: As for `load`.
    """
    made = _section(Config, table, "", base)
    assert isinstance(made, Config)  # noqa: S101  (for the type checker; `_section` makes what it is asked for)
    return made


def override(config: Config, dotted: str, value: object) -> Config:
    """Return the configuration with one option changed, such as `transport.udp.port`; the same checks apply."""
    changed: Config = _override(config, dotted.split("."), value, dotted)
    return changed


def _override(node: Any, names: list[str], value: object, dotted: str) -> Any:
    if len(names) > 1:
        return replace(node, **{names[0]: _override(getattr(node, names[0]), names[1:], value, dotted)})
    hints = get_type_hints(type(node))
    checked = _value(hints[names[0]], value, dotted, Path.cwd())
    _check(next(f for f in fields(node) if f.name == names[0]).metadata, checked, dotted)
    return replace(node, **{names[0]: checked})


def _section(kind: type, table: Mapping[str, Any], prefix: str, base: Path) -> object:
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    values: dict[str, Any] = {}
    where = f"[{prefix.rstrip('.')}]" if prefix else "the top level"
    for key, value in table.items():
        dotted = f"{prefix}{key}"
        if key not in known:
            raise ConfigError(f"{dotted}: unknown option; {where} has {', '.join(known)}")
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{dotted} = {value!r}: must be a section, [{dotted}]")
            values[key] = _section(hints[key], value, f"{dotted}.", base)
        else:
            values[key] = _value(hints[key], value, dotted, base)
            _check(known[key].metadata, values[key], dotted)
    return kind(**values)


def _check(metadata: Mapping[str, Any], value: Any, dotted: str) -> None:
    if (check := metadata.get("check")) and (wrong := check(value)):
        raise ConfigError(f"{dotted} = {value!r}: {wrong}")


def _value(hint: Any, value: Any, dotted: str, base: Path) -> Any:
    """Return the value as the option's type; bool is no int here."""
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{dotted} = {value!r}: must be a list")
        return tuple(_value(get_args(hint)[0], item, f"{dotted}[{i}]", base) for i, item in enumerate(value))
    wanted = next(kind for kind in (get_args(hint) or (hint,)) if kind is not type(None))
    if wanted is Path and isinstance(value, (str, Path)):
        return base / Path(value).expanduser()
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        names = {bool: "true or false", int: "a whole number", str: "a text", Path: "a path (text)"}
        raise ConfigError(f"{dotted} = {value!r}: must be {names[wanted]}")
    return value

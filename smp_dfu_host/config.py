"""The configuration: one TOML file, every option with a safe default.

Unknown sections and keys, values of a wrong type and values out of range are errors that name the line in the file, the
option, the value and the limit. Relative paths are relative to the file's folder. Option names follow their Zephyr or
nRF Desktop symbols (nrf-desktop-dfu.md section 7) where there is one. The text below an option is its documentation, in
`config example` and smp_dfu_host/docs/reference.md too: its first words say what it is, symbols stand in brackets.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smp_dfu_host.errors import ConfigError
from smp_dfu_host.geometry import PRESETS, parse_sectors
from smp_dfu_host.group_config import FsConfig, OsConfig, SettingsConfig, ShellConfig
from smp_dfu_host.hook_config import HookConfig
from smp_dfu_host.sections import Check, between, change, one_of, option, read_section
from smp_dfu_host.toml_lines import line_of


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
    groups: tuple[str, ...] = option(())
    """The groups that are served, by entry point name, such as `os_mgmt`; empty: all that are installed."""
    uvloop: bool = option(False)
    """Run on uvloop instead of asyncio's own event loop: less work for each packet. Must be installed."""


@dataclass(frozen=True, slots=True)
class DfuConfig:
    """`[dfu]`: nRF Desktop's DFU MCUmgr module (nrf-desktop-dfu.md)."""

    enabled: bool = option(True)
    """False: a read-only device; every DFU command is refused with EACCESSDENIED
    (CONFIG_DESKTOP_DFU_MCUMGR_ENABLE)."""
    lock: bool = option(True)
    """The DFU lock (CONFIG_DESKTOP_DFU_LOCK)."""
    strict: bool = option(False)
    """True: reading the image group counts as a DFU command too, as the module's code has it."""
    confirm_at_start: bool = option(True)
    """Confirm the running image at start, as nRF Desktop does; false to test a client's own confirm and the revert."""
    timeout_ms: int = option(5000, between(100, 3_600_000))
    """The lock is released after so long without a DFU command by its owner."""


MODES = (
    "single-slot",
    "swap-using-scratch",
    "overwrite-only",
    "swap-using-move",
    "direct-xip",
    "direct-xip-with-revert",
    "ram-load",
    "ram-load-with-revert",
    "firmware-loader",
    "single-slot-ram-load",
    "swap-using-offset",
)
"""MCUboot's modes; boot loader info reports both ram-loads as one."""
UPDATE_MODES = ("swap-using-scratch", "overwrite-only", "swap-using-move", "swap-using-offset")
"""Those in which the boot loader changes what is in slot 0."""
ONE_SLOT_MODES = ("single-slot", "firmware-loader", "single-slot-ram-load")
"""Those in which nothing changes places and nothing is chosen by version."""


@dataclass(frozen=True, slots=True)
class BootloaderConfig:
    """`[bootloader]`: MCUboot's build options.

    firmware-loader and single-slot-ram-load are by MCUboot's source, no recordings of them exist.
    """

    mode: str = option("swap-using-move", one_of(*MODES))
    """How an update gets to run (MCUBOOT_SWAP_USING_MOVE, MCUBOOT_DIRECT_XIP and so on)."""
    images: int = option(1, between(1, 3))
    """Pairs of slots, each with an image of its own (MCUBOOT_IMAGE_NUMBER)."""
    overwrite_fast: bool = option(True)
    """With overwrite-only, copy what the image takes; false: the whole slot (MCUBOOT_OVERWRITE_ONLY_FAST)."""
    keys: tuple[Path, ...] = option(())
    """Public keys (PEM), all of one type: ECDSA-P256, ECDSA-P384, Ed25519, RSA-2048 or RSA-3072. Empty: the hash alone
    decides (MCUBOOT_SIGN_EC256, MCUBOOT_SIGN_EC384, MCUBOOT_SIGN_ED25519, MCUBOOT_SIGN_RSA)."""
    hash: str = option("auto", one_of("auto", "sha256", "sha384", "sha512"))
    """The hash that images must have; auto: what goes with the keys, SHA-256 without (MCUBOOT_SHA512)."""
    pure_signature: bool = option(False)
    """Ed25519 signs the image, not its hash (MCUBOOT_SIGN_PURE)."""
    tlv_allow_list: bool = option(False)
    """Refuse images with unprotected TLVs that MCUboot does not know (MCUBOOT_USE_TLV_ALLOW_LIST)."""
    validate_primary: bool = option(True)
    """Check the image in slot 0 at each boot (MCUBOOT_VALIDATE_PRIMARY_SLOT)."""
    validate_once: bool = option(False)
    """Check it at its first boot alone; single-slot only (MCUBOOT_VALIDATE_PRIMARY_SLOT_ONCE)."""
    bootstrap: bool = option(False)
    """Fill a slot 0 without a valid image from slot 1 (MCUBOOT_BOOTSTRAP)."""
    downgrade: str = option("allowed", one_of("allowed", "by-version", "by-counter"))
    """What is compared with the image that an update replaces (MCUBOOT_DOWNGRADE_PREVENTION)."""
    compare_build: bool = option(False)
    """Count 1.0.0+2 as higher than 1.0.0+1 (MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER)."""
    rollback_counter: bool = option(False)
    """Images need a security counter, not below the highest that was kept; the store keeps it
    (MCUBOOT_HW_ROLLBACK_PROT)."""
    encryption_key: Path | None = option(None)
    """The boot loader's private key: PEM or DER of ECDSA-P256, X25519 or RSA-2048; 16 or 32 bytes, plain or in base64,
    for AES key wrap. Without it encrypted images are refused (MCUBOOT_ENC_IMAGES)."""
    encryption_bits: int = option(128)
    """128 or 256: of the key that the payload is encrypted with (MCUBOOT_AES_256)."""
    encryption_sha512: bool = option(False)
    """With an X25519 key, the wrapped key goes with SHA-512 (MCUBOOT_HMAC_SHA512)."""
    encryption_save_tlv: bool = option(False)
    """Trailers hold wrapped keys during a swap, not plain ones (MCUBOOT_SWAP_SAVE_ENCTLV)."""
    ram_start: int = option(0x20000000, between(0, 0xFFFFFFFF))
    """With ram-load, where images run (IMAGE_EXECUTABLE_RAM_START)."""
    ram_size: int = option(256 * 1024, between(0, 0xFFFFFFFF))
    """How much RAM there is for them, in bytes (IMAGE_EXECUTABLE_RAM_SIZE)."""
    on_failure: str = option("wait", one_of("wait", "exit"))
    """When no image boots: stay off the air and say so, or end with exit status 1."""


@dataclass(frozen=True, slots=True)
class FlashConfig:
    """`[flash]`: the geometry of the slots; the default is MCUboot's on an nRF52840 (2 x 472 KiB)."""

    preset: str = option("", one_of("", *PRESETS))
    """The default partitions of a board; the options beside it win."""
    sector_size: int = option(4096, between(128, 1 << 20))
    """Bytes of each sector."""
    sectors: int = option(118, between(2, 1024))
    """Sectors of each slot."""
    slots: tuple[str, ...] = option(())
    """Instead of the two above: the sectors of all slots (one entry), of slot 0 and slot 1 of each image (two), or of
    each slot. An entry is `4096x118` or `4Kx118`, for mixed sectors `16Kx4,64K,128Kx3`; with swap-using-move and
    -offset, the largest images must lie in sectors of one size."""
    scratch: str = option("")
    """The same for the scratch area of swap-using-scratch; empty: one sector of the largest size."""
    align: int = option(8, between(1, 32))
    """Write alignment in bytes: 1, 2, 4, 8, 16 or 32."""
    max_align: int = option(8, between(8, 32))
    """Unit of the trailer's fields in bytes: 8, 16 or 32 (BOOT_MAX_ALIGN)."""
    max_sectors: int = option(128, between(2, 4096))
    """Sectors that the boot loader can handle in a slot (MCUBOOT_MAX_IMG_SECTORS)."""
    erased: int = option(0xFF, between(0, 255))
    """The value of an erased byte: 0xff or 0x00."""
    address: int = option(0xC000, between(0, 0xFFFFFFFF))
    """Flash address of slot 0; the other slots follow it, then the scratch area."""

    def slot_sectors(self, images: int) -> tuple[tuple[int, ...], ...]:
        """Return the sizes of each slot's sectors, slot by slot.

        Raises:
            ConfigError: If there are too few or too many entries, or one is wrong.
        """
        count = 2 * images
        if not self.slots:
            return ((self.sector_size,) * self.sectors,) * count
        if len(self.slots) not in (1, 2, count):
            wanted = f"1, 2 or {count}" if images > 1 else "1 or 2"
            said = f"flash.slots = {list(self.slots)}"
            raise ConfigError(f"{said}: {len(self.slots)} entries, must be {wanted}", "flash.slots")
        parsed = [_sectors(f"flash.slots[{number}]", text) for number, text in enumerate(self.slots)]
        return tuple(parsed[number % len(parsed)] for number in range(count))

    def scratch_sectors(self) -> tuple[int, ...]:
        """Return the sizes of the scratch area's sectors.

        Raises:
            ConfigError: If the option is wrong.
        """
        if self.scratch:
            return _sectors("flash.scratch", self.scratch)
        return (max(size for text in self.slots for size in parse_sectors(text)) if self.slots else self.sector_size,)


def _sectors(name: str, text: str) -> tuple[int, ...]:
    try:
        return parse_sectors(text)
    except ConfigError as exc:
        raise ConfigError(f"{name} = {exc}", name) from exc


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """`[image]`: the image group and the factory image."""

    factory: Path | None = option(None)
    """The image that slot 0 gets when the store is made; without it, a small unsigned one of version 0.0.0."""
    more_factories: tuple[Path, ...] = option(())
    """The same for images 1 and 2."""
    validate_upload: bool = option(True)
    """Refuse at the first or last chunk what the boot loader would refuse later; false: take whatever has an image's
    magic."""
    check_upload: bool = option(True)
    """Compare an upload with the `sha` that came with it, tell the result as `match`, and skip the upload of what is
    there already (CONFIG_IMG_ENABLE_IMAGE_CHECK)."""
    check_address: bool = option(True)
    """In modes that run images where they lie, refuse one that is built for another slot's address on its first chunk
    (CONFIG_MCUMGR_GRP_IMG_REJECT_DIRECT_XIP_MISMATCHED_SLOT)."""
    direct_upload: bool = option(False)
    """With one image: let an upload's `image` name its slot, 1 for slot 0 and 2 for slot 1; 0 is the free one
    (CONFIG_MCUMGR_GRP_IMG_DIRECT_UPLOAD)."""
    confirm_others: str = option("secondary", one_of("none", "secondary", "any"))
    """Which slots of images other than image 0 clients may confirm
    (CONFIG_MCUMGR_GRP_IMG_ALLOW_CONFIRM_NON_ACTIVE_IMAGE_SECONDARY,
    CONFIG_MCUMGR_GRP_IMG_ALLOW_CONFIRM_NON_ACTIVE_IMAGE_ANY)."""
    confirm_rolled_back: bool = option(False)
    """Let clients confirm an image by its hash although it ran and was rolled back since it was uploaded."""
    allow_erase_pending: bool = option(True)
    """Let clients erase, and upload into, a slot that the next boot will use
    (CONFIG_MCUMGR_GRP_IMG_ALLOW_ERASE_PENDING)."""
    frugal_list: bool = option(False)
    """Leave flags that are false, and splitStatus, out of the image list (CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST)."""


@dataclass(frozen=True, slots=True)
class UdpConfig:
    """`[transport.udp]`: UDP, IPv4 or IPv6."""

    enabled: bool = option(False)
    """Serve UDP (CONFIG_MCUMGR_TRANSPORT_UDP)."""
    host: str = option("127.0.0.1")
    """Address to listen on; the protocol has no authentication, so loopback unless you say otherwise
    (CONFIG_MCUMGR_TRANSPORT_UDP_IPV4, CONFIG_MCUMGR_TRANSPORT_UDP_IPV6)."""
    port: int = option(1337, between(0, 65535))
    """The port; 0 picks a free one, and the ready line says which (CONFIG_MCUMGR_TRANSPORT_UDP_PORT)."""
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
    framing: str = option("console", one_of("console", "raw", "shell"))
    """How requests stand on the line: in lines of base64 with a CRC (CONFIG_MCUMGR_TRANSPORT_UART), as bare bytes
    (CONFIG_MCUMGR_TRANSPORT_RAW_UART), or as `console` between the text of a shell, which is skipped
    (CONFIG_MCUMGR_TRANSPORT_SHELL)."""


SECURITY_LEVELS = ("none", "encrypt", "authenticate", "secure")
"""What a Bluetooth LE link can be asked for; each offers what the one before it does."""
PAIRING_POLICIES = ("reject", "just-works", "passkey", "confirm")
"""How a central can be let in; the last two authenticate it."""


@dataclass(frozen=True, slots=True)
class BleConfig:
    """`[transport.ble]`: Bluetooth LE."""

    enabled: bool = option(False)
    """Serve Bluetooth LE (CONFIG_MCUMGR_TRANSPORT_BT)."""
    adapter: str = option("")
    """The adapter's name, such as `hci1`, or its address; empty: the first that can be a peripheral and is powered."""
    security: str = option("encrypt", one_of(*SECURITY_LEVELS))
    """What the link must offer before requests are served: nothing (with a warning), encryption, a key that a passkey
    or a comparison of numbers has authenticated, or such a key made by LE Secure Connections
    (CONFIG_MCUMGR_TRANSPORT_BT_PERM_RW)."""
    pairing: str = option("auto", one_of("auto", *PAIRING_POLICIES))
    """How new centrals pair: not at all, without a question, by a passkey that is shown here and typed there, or by
    comparing numbers on the terminal of `serve`; auto: just-works or passkey, whichever reaches `security`."""
    pairing_window: bool = option(False)
    """Whether somebody new may bond only while `ble pair` keeps a window open."""
    secure_within_s: int = option(30, between(1, 3600))
    """A central that has not secured the link within so many seconds is disconnected, unless `security` is none."""
    max_fragment: int = option(512, between(20, 512))
    """Largest notification in bytes; the central's MTU may lower it."""
    low_latency: bool = option(True)
    """Ask centrals for a fast link after connecting and while a transfer runs (CONFIG_DESKTOP_BLE_LATENCY_ENABLE).
    Needs CAP_NET_RAW."""
    short_interval_ms: int = option(8, Check(lambda value: value == 0 or 8 <= value <= 100, "0, or between 8 and 100"))
    """The connection interval of a fast link, rounded down to steps of 1.25 ms: 8 is 7.5 ms, the shortest; Apple's
    devices want at least 15. Afterwards 30 to 50 ms are asked for (CONFIG_BT_PERIPHERAL_PREF_MIN_INT,
    CONFIG_BT_PERIPHERAL_PREF_MAX_INT).
    0: 7.5 ms for the whole connection, as nRF Desktop has it."""
    latency: int = option(0, between(0, 30))
    """Peripheral latency while no transfer runs: how many meetings in a row may be missed
    (CONFIG_BT_PERIPHERAL_PREF_LATENCY)."""

    def __post_init__(self) -> None:
        authenticated = self.security in ("authenticate", "secure")
        if self.pairing == "just-works" and authenticated:
            raise ConfigError(
                f"transport.ble.pairing = 'just-works': cannot reach transport.ble.security = {self.security!r}; "
                "use passkey or confirm"
            )
        if self.pairing_window and self.policy in ("", "reject"):
            name, value = ("pairing", "reject") if self.policy else ("security", "none")
            reason = "nobody may ever bond" if self.policy else "nobody needs to"
            raise ConfigError(f"transport.ble.pairing_window = true: with transport.ble.{name} = {value!r} {reason}")

    @property
    def policy(self) -> str:
        """How new centrals pair, `auto` resolved; empty: nobody is asked to, and BlueZ's own agent decides."""
        if self.pairing != "auto":
            return self.pairing
        return {"none": "", "encrypt": "just-works"}.get(self.security, "passkey")


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
    """The device's name: advertised, and its kernel name in `info` (CONFIG_BT_DEVICE_NAME)."""
    store: Path = field(default_factory=state_folder)
    """The folder of the slots and of what belongs to them; unless said, `smp-dfu-host` in `$XDG_STATE_HOME`, which is
    `~/.local/state` unless set."""
    smp: SmpConfig = option(SmpConfig())
    dfu: DfuConfig = option(DfuConfig())
    bootloader: BootloaderConfig = option(BootloaderConfig())
    flash: FlashConfig = option(FlashConfig())
    image: ImageConfig = option(ImageConfig())
    os: OsConfig = option(OsConfig())
    settings: SettingsConfig = option(SettingsConfig())
    fs: FsConfig = option(FsConfig())
    shell: ShellConfig = option(ShellConfig())
    transport: TransportConfig = option(TransportConfig())
    reset: ResetConfig = option(ResetConfig())
    hook: tuple[HookConfig, ...] = option(())
    """Programs that are told of events."""

    def __post_init__(self) -> None:
        if not self.name.isprintable() or not 1 <= len(self.name.encode()) <= 29:
            raise ConfigError(f"name = {self.name!r}: must be 1 to 29 printable bytes, to fit a scan response", "name")
        _check_flash(self.flash, self.bootloader)
        _check_bootloader(self.bootloader)
        if self.image.direct_upload and self.bootloader.images > 1:
            limit = f"with bootloader.images = {self.bootloader.images}, an upload names its image, not its slot"
            raise ConfigError(f"image.direct_upload = true: {limit}", "image.direct_upload")


def _check_flash(flash: FlashConfig, build: BootloaderConfig) -> None:
    for name, value, powers in (
        ("flash.align", flash.align, (1, 2, 4, 8, 16, 32)),
        ("flash.max_align", flash.max_align, (8, 16, 32)),
        ("flash.erased", flash.erased, (0, 255)),
    ):
        if value not in powers:
            raise ConfigError(f"{name} = {value}: must be one of {', '.join(map(str, powers))}", name)
    if flash.align > flash.max_align:
        limit = f"flash.max_align = {flash.max_align}"
        raise ConfigError(f"flash.align = {flash.align}: must not exceed {limit}", "flash.align")
    slots = flash.slot_sectors(build.images)
    for slot, sectors in enumerate(slots):
        _check_area(flash, "flash.slots" if flash.slots else "", f": slot {slot}", sectors)
    if build.mode == "swap-using-scratch":
        _check_area(flash, "flash.scratch", "", flash.scratch_sectors())
    if (end := flash.address + sum(map(sum, slots))) > 1 << 32:
        said = f"flash.address = {flash.address:#x}"
        raise ConfigError(f"{said}: the slots end at {end:#x}, beyond 32 bits", "flash.address")


def _check_area(flash: FlashConfig, name: str, part: str, sectors: tuple[int, ...]) -> None:
    """Check the sectors of an area that the option of that name gives; without one they come from the plain two."""
    limit = flash.max_sectors
    if len(sectors) > limit:
        what = f"{name}{part} has {len(sectors)} sectors" if name else f"flash.sectors = {len(sectors)}"
        raise ConfigError(f"{what}: must not exceed flash.max_sectors = {limit}", name or "flash.sectors")
    if wrong := [size for size in sectors if size % flash.max_align]:
        what = f"{name}{part} has a sector of {wrong[0]} bytes" if name else f"flash.sector_size = {wrong[0]}"
        limit_text = f"a multiple of flash.max_align = {flash.max_align}"
        raise ConfigError(f"{what}: must be {limit_text}", name or "flash.sector_size")


def _check_bootloader(build: BootloaderConfig) -> None:
    """Refuse those below where they do nothing; who sets one and sees no effect would look for it elsewhere.

    What kind of key a file holds is not known here: `encryption_sha512` beside one of another kind is refused where
    the key is read (store/build.py).
    """
    updates, one_slot = build.mode in UPDATE_MODES, build.mode in ONE_SLOT_MODES
    if build.encryption_bits not in (128, 256):
        name = "bootloader.encryption_bits"
        raise ConfigError(f"{name} = {build.encryption_bits}: must be one of 128, 256", name)
    for name, value, wrong, reason in (
        ("images", build.images, one_slot and build.images > 1, "has one image"),
        ("downgrade", build.downgrade, build.downgrade != "allowed" and not updates, "replaces no image"),
        ("bootstrap", build.bootstrap, build.bootstrap and not updates, "never fills a slot"),
        ("validate_once", build.validate_once, build.validate_once and not one_slot, "checks at every boot"),
        ("encryption_key", build.encryption_key, build.encryption_key and "xip" in build.mode, "runs what is in flash"),
        (
            "overwrite_fast",
            build.overwrite_fast,
            not build.overwrite_fast and build.mode != "overwrite-only",
            "overwrites nothing",
        ),
    ):
        if wrong:
            said = f"bootloader.{name} = {_said(value)}"
            raise ConfigError(f"{said}: bootloader.mode = {build.mode!r} {reason}", f"bootloader.{name}")
    for name in ("encryption_sha512", "encryption_save_tlv"):
        if getattr(build, name) and not build.encryption_key:
            said = f"bootloader.{name} = true"
            raise ConfigError(f"{said}: there is no bootloader.encryption_key", f"bootloader.{name}")


def _said(value: object) -> str:
    """Return a value as TOML has it."""
    return str(value).lower() if isinstance(value, bool) else repr(str(value) if isinstance(value, Path) else value)


def load(path: Path | None) -> Config:
    """Read the configuration file, or return the defaults for None.

    Raises:
        ConfigError: If the file cannot be read or says something that is not known, not of the type, or out of range.
    """
    if path is None:
        return Config()
    text, table = read_file(path)
    try:
        return parse(table, path.parent.absolute())
    except ConfigError as exc:
        line = line_of(text, exc.option)
        where = str(path) if line is None else f"{path}:{line}"
        raise ConfigError(f"{where}: {exc}", exc.option) from exc


def read_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the file's text, and what it says as TOML.

    Raises:
        ConfigError: If it cannot be read, or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except RecursionError as exc:
        raise ConfigError(f"{path}: lists or tables in each other, too deep to be read") from exc
    except ValueError as exc:  # no TOML, no UTF-8, or a number of more digits than Python takes
        raise ConfigError(f"{path}: {exc}") from exc


def parse(table: Mapping[str, Any], base: Path) -> Config:
    """Make a Config of a parsed TOML table; `base` is the folder of relative paths.

    Raises:
        ConfigError: As for `load`.
    """
    made = read_section(Config, _with_preset(table), "", base)
    assert isinstance(made, Config)  # noqa: S101  (for the type checker; `read_section` makes what it is asked for)
    return made


def override(config: Config, dotted: str, value: object) -> Config:
    """Return the configuration with one option changed, such as `transport.udp.port`; the same checks apply."""
    changed: Config = change(config, dotted.split("."), value, dotted)
    if dotted == "flash.preset" and changed.flash.preset:
        return replace(changed, flash=FlashConfig(changed.flash.preset, **PRESETS[changed.flash.preset]))
    return changed


def _with_preset(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the table with what a preset says filled in; a preset that does not exist is refused later."""
    flash = table.get("flash")
    preset = flash.get("preset") if isinstance(flash, Mapping) else None
    if not isinstance(flash, Mapping) or not isinstance(preset, str) or preset not in PRESETS:
        return table
    return {**table, "flash": {**PRESETS[preset], **flash}}

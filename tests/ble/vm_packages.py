"""What the virtual machine is made of, from Debian's packages.

Programs that run on the host are installed by apt (or named, without root). The kernel, and a BlueZ of another Debian
than the host's, are only unpacked, into the cache: `~/.cache/smp-dfu-host/rig/<suite>/`. They are fetched with an apt
configuration of our own, whose lists, cache and status are in the cache too; so this works without root, and apt's
view of the host stays as it is."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "modinfo": "kmod",
    "btvirt": "bluez-test-tools",
    "bluetoothctl": "bluez",
    "dbus-daemon": "dbus",
    "zstd": "zstd",
}
"""Program on the host: the package that has it."""

SUITES = {"5.66": "bookworm", "5.82": "trixie"}
"""BlueZ version: the Debian that has it, with its kernel."""

FOREIGN = [
    *("bluez", "bluez-test-tools", "libc6", "libdbus-1-3", "libglib2.0-0t64", "libudev1", "libreadline8t64"),
    *("libtinfo6", "libasound2t64", "libdw1t64", "libelf1t64", "libsystemd0", "libcap2", "libpcre2-8-0", "zlib1g"),
    *("libatomic1", "liblzma5", "libzstd1", "libbz2-1.0"),
]
"""Trixie's BlueZ with every library that it loads; run by its own loader on any host."""

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class MissingError(Exception):
    """Something is not there and cannot be got here; the message says what to do."""


@dataclass(frozen=True)
class Parts:
    """Where the pieces of a machine are."""

    kernel: Path
    """An unpacked linux-image package."""
    bluez: Path | None
    """Unpacked packages with BlueZ and its libraries; None for the host's own."""


def say(text: str) -> None:
    """Report progress, on stderr: stdout is the command's."""
    print(f"ble-vm: {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    """The folder of what was fetched."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "smp-dfu-host" / "rig"


def which(program: str) -> str | None:
    """Find a program, in the folders of root too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def missing_packages() -> list[str]:
    """The packages that the host lacks."""
    return [package for program, package in PROGRAMS.items() if not which(program)]


def why_not() -> str:
    """Say why this machine cannot run the virtual machine; empty if it can, perhaps after installing packages."""
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        return f"the virtual machine needs Linux on amd64, this is {os.uname().sysname} on {os.uname().machine}"
    if not which("apt-get"):
        return "the virtual machine is made of Debian packages, and there is no apt-get"
    if (packages := missing_packages()) and os.geteuid() != 0:
        return f"packages are missing; run: sudo apt-get install -y --no-install-recommends {' '.join(packages)}"
    return ""


def prepare(version: str | None) -> Parts:
    """Install and fetch what is missing; return where it is.

    Raises:
        MissingError: If that is not possible here.
    """
    if reason := why_not():
        raise MissingError(reason)
    install(missing_packages())
    own = installed_version()
    version = version or (own if own in SUITES else "5.66")
    suite = SUITES[version]
    kernel = unpacked(suite, "kernel", kernel_packages)
    bluez = None if version == own else unpacked(suite, "bluez", lambda _apt: FOREIGN)
    return Parts(kernel, bluez)


def install(packages: list[str]) -> None:
    """Install packages on the host."""
    if not packages:
        return
    say(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        return
    run(["apt-get", "update", "-qq"])
    if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
        raise MissingError(f"apt could not install {' '.join(packages)}")


def installed_version() -> str:
    """BlueZ's version on the host."""
    output = subprocess.run(["bluetoothctl", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\d+\.\d+", output)
    return match[0] if match else ""


def run(command: list[str]) -> str:
    """Run a command and return its output.

    Raises:
        MissingError: If it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{' '.join(command[:3])} ... failed: {done.stderr.strip()[-500:]}")
    return done.stdout


class Apt:
    """apt with everything of its own but the mirror and the keys, which are the host's."""

    def __init__(self, suite: str) -> None:
        self._suite = suite
        self._root = cache() / suite / "apt"
        for folder in ("lists/partial", "cache/archives/partial"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        (self._root / "sources.list").write_text(f"deb {mirror()} {suite} main\n")
        self._options = [
            *("-o", f"Dir::Etc::sourcelist={self._root}/sources.list", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", "Dir::Etc::preferencesparts=-", "-o", f"Dir::State::lists={self._root}/lists"),
            *("-o", f"Dir::State::status={self._root}/status", "-o", f"Dir::Cache={self._root}/cache"),
            *("-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1", "-o", "APT::Architecture=amd64"),
        ]

    def update(self) -> None:
        """Fetch the lists."""
        say(f"fetching the package lists of {self._suite}")
        run(["apt-get", *self._options, "-qq", "update"])

    def depends(self, package: str) -> list[str]:
        """The packages that a package depends on."""
        output = run(["apt-cache", *self._options, "depends", package])
        return re.findall(r"Depends: (\S+)", output)

    def download(self, packages: list[str], folder: Path) -> None:
        """Fetch packages into a folder."""
        done = subprocess.run(
            ["apt-get", *self._options, "-qq", "download", *packages],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MissingError(f"apt could not fetch {' '.join(packages)}: {done.stderr.strip()[-500:]}")


def mirror() -> str:
    """The host's Debian mirror."""
    rows = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"])
    for row in rows.splitlines():
        uri, codename, component = row.split()
        if codename in SUITES.values() and component == "main":
            return uri
    raise MissingError(f"apt knows no mirror of Debian {' or '.join(SUITES.values())}")


def kernel_packages(apt: Apt) -> list[str]:
    """The real package behind linux-image-amd64."""
    return [name for name in apt.depends("linux-image-amd64") if name.startswith("linux-image-")][:1]


def unpacked(suite: str, what: str, choose: Callable[[Apt], list[str]]) -> Path:
    """Return the folder with the unpacked packages; fetched once."""
    folder = cache() / suite / what
    if folder.is_dir():
        return folder
    apt = Apt(suite)
    apt.update()
    fresh = folder.with_suffix(f".{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        packages = choose(apt)
        say(f"fetching {' '.join(packages)}")
        apt.download(packages, fresh)
        for package in fresh.glob("*.deb"):
            run(["dpkg", "-x", str(package), str(fresh)])
            package.unlink()
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder

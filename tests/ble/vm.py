"""Run a command in a throw-away virtual machine that has the real BlueZ and virtual Bluetooth LE controllers.

The machine boots Debian's own kernel under QEMU's software emulation, about ten seconds to the command. Its root is the
host's, read-only, with a tmpfs over it: every file of the host is there under the same path, and what the machine
writes goes with it; only the folders of --out and --logs are shared. btvirt makes LE-only controllers that hear each
other (hci0, hci1, ...), dbus-daemon and bluetoothd run, and COMMAND runs as root in the caller's folder with the
caller's environment. Its output is passed on as it comes; the exit status is COMMAND's, or 77: this machine cannot
(stderr says why), 124: timeout, 125: the virtual machine failed.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.ble.vm_kernel import GUEST, image, initramfs
from tests.ble.vm_packages import SUITES, MissingError, Parts, prepare, say, which, why_not

CANNOT, TIMEOUT, FAILED = 77, 124, 125
"""Exit statuses that are not the command's."""

LIBRARIES = "usr/lib/x86_64-linux-gnu"
DAEMONS = ("/usr/libexec/bluetooth/bluetoothd", "/usr/lib/bluetooth/bluetoothd", "/usr/sbin/bluetoothd")
KEPT_BACK = ("DBUS_", "XDG_RUNTIME_DIR", "_=", "PWD=", "SHLVL=", "OLDPWD=", "PYTHONDONTWRITEBYTECODE=")
"""What of the environment the machine does not get. Without bytecode, every start of the server compiles it anew."""
ACCELERATION = ("-accel", "tcg,thread=multi")
"""Emulation: slower than KVM, but the same everywhere; a /dev/kvm inside another virtual machine may hang."""
ARGUMENTS = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off no_timer_check"


@dataclass(frozen=True)
class Share:
    """A folder that host and machine have in common."""

    tag: str
    path: Path
    read_only: bool = False

    def arguments(self) -> list[str]:
        """For QEMU."""
        value = f"local,path={self.path},mount_tag={self.tag},security_model=none,multidevs=remap"
        return ["-virtfs", value + (",readonly=on" if self.read_only else "")]

    def mount(self) -> str:
        """For the guest's shell."""
        where = shlex.quote(str(self.path))
        return (
            f"mkdir -p {where}; mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=none {self.tag} {where}"
        )


def main(arguments: list[str]) -> int:
    """Run the command; return the exit status."""
    options = parse(arguments)
    if options.why_not:
        reason = why_not()
        print(reason or "it can")
        return CANNOT if reason else 0
    try:
        parts = prepare(options.bluez)
    except MissingError as exc:
        say(f"skipped: {exc}")
        return CANNOT
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # the machine must not outlive us
    with tempfile.TemporaryDirectory(prefix="ble-vm.") as name:
        folder = Path(name)
        shares = write_control(folder, options, parts)
        return run(folder, options, parts, shares)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "scripts/ble-vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bluez", choices=SUITES, help="version of BlueZ, with that Debian's kernel; default: the host's, or 5.66"
    )
    parser.add_argument("--controllers", type=int, default=4, metavar="N", help="virtual controllers (default: 4)")
    parser.add_argument(
        "--timeout", type=float, default=900, metavar="S", help="seconds until the machine is stopped (default: 900)"
    )
    parser.add_argument(
        "--out", action="append", default=[], type=Path, metavar="DIR", help="share DIR read-write (can be repeated)"
    )
    parser.add_argument("--logs", type=Path, metavar="DIR", help="share DIR read-write; the daemons log there")
    parser.add_argument("--btmon", action="store_true", help="record the HCI traffic in the logs")
    parser.add_argument("--debug", action="store_true", help="have bluetoothd log everything")
    parser.add_argument(
        "--conf",
        type=Path,
        metavar="FILE",
        help="bluetoothd's main.conf; default: no EATT, as BlueZ ships it since 5.67",
    )
    parser.add_argument("--memory", type=int, default=1024, metavar="MB")
    parser.add_argument("--verbose", action="store_true", help="show the machine's console")
    parser.add_argument(
        "--why-not", action="store_true", help="print why this machine cannot run it and exit 77, or exit 0"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        options.command.pop(0)
    if not options.command and not options.why_not:
        parser.error("no COMMAND")
    return options


def write_control(folder: Path, options: argparse.Namespace, parts: Parts) -> list[Share]:
    """Write what the machine reads; return the folders that it shares with the host."""
    (folder / "initramfs").write_bytes(initramfs(parts.kernel))
    control = folder / "ctl"
    control.mkdir()
    logs = options.logs.absolute() if options.logs else Path("/run/ble-vm/logs")
    wanted = [path.absolute() for path in options.out] + ([logs] if options.logs else [])
    shares = [Share(f"share{i}", path) for i, path in enumerate(wanted)]
    for share in shares:
        share.path.mkdir(parents=True, exist_ok=True)
    for name in ("stage2", "rescan.py"):
        shutil.copy(GUEST / name, control / name)
    conf = options.conf.read_text() if options.conf else "[GATT]\nChannels = 1\n"
    (control / "main.conf").write_text(conf)
    (control / "config").write_text(configuration(options, parts, logs, shares))
    (control / "environment").write_text(environment())
    (control / "command").write_text(f"exec {shlex.join(options.command)}\n")
    return [Share("host", Path("/"), read_only=True), Share("ctl", control), *shares]


def configuration(options: argparse.Namespace, parts: Parts, logs: Path, shares: list[Share]) -> str:
    """What `guest/stage2` needs to know, as shell."""
    daemon = f"{program(parts, *DAEMONS)} -n -f /run/ble-vm/main.conf{' -d' if options.debug else ''}"
    values = {
        "CONTROLLERS": str(options.controllers),
        "LOGS": str(logs),
        "PYTHON": sys.executable,
        "BLUETOOTHD": daemon,
        "BTVIRT": program(parts, "/usr/bin/btvirt"),
        "BTMON": program(parts, "/usr/bin/btmon"),
        "RECORD": "1" if options.btmon else "",
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    mounts = "\n".join(share.mount() for share in shares)
    return "\n".join([*lines, f"mount_shares() {{ :\n{mounts}\n}}\n"])


def program(parts: Parts, *candidates: str) -> str:
    """Return the command of a BlueZ program: the host's, or an unpacked one run by its own loader."""
    root = parts.bluez or Path("/")
    found = next((path for path in candidates if (root / path[1:]).exists()), candidates[0])
    if parts.bluez is None:
        return found
    libraries = parts.bluez / LIBRARIES
    return f"{libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {parts.bluez}{found}"


def environment() -> str:
    """The caller's environment and folder, as shell."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.isidentifier() and not f"{name}=".startswith(KEPT_BACK)
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in kept.items()]
    return "\n".join([*lines, f"BLE_VM_FOLDER={shlex.quote(os.getcwd())}\n"])


def run(folder: Path, options: argparse.Namespace, parts: Parts, shares: list[Share]) -> int:
    """Boot, pass the command's output on, and return its exit status."""
    console = folder / "console"
    with outputs(sys.stdout.buffer, sys.stderr.buffer) as fds:
        command = qemu(folder, options, parts, shares, fds)
        machine = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        for fd in fds:
            os.close(fd)
        threading.Thread(target=announce, args=(machine, folder / "ctl" / "ready"), daemon=True).start()
        try:
            machine.wait(options.timeout)
        except subprocess.TimeoutExpired:
            say(f"timeout after {options.timeout:g} s")
            return TIMEOUT
        finally:
            machine.kill()
            machine.wait()
            if options.verbose:
                sys.stderr.write(console.read_text(errors="replace"))
    try:
        return int((folder / "ctl" / "status").read_text())
    except (OSError, ValueError):
        say("the machine ended without a result; its console said:")
        sys.stderr.write(console.read_text(errors="replace")[-3000:])
        return FAILED


def qemu(
    folder: Path, options: argparse.Namespace, parts: Parts, shares: list[Share], fds: tuple[int, int]
) -> list[str]:
    """Return QEMU's command line."""
    command = [which("qemu-system-x86_64") or "qemu-system-x86_64", *ACCELERATION, "-cpu", "max"]
    command += ["-smp", "1", "-m", str(options.memory), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]
    command += ["-kernel", str(image(parts.kernel)), "-initrd", str(folder / "initramfs"), "-append", ARGUMENTS]
    command += ["-serial", f"file:{folder / 'console'}", "-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]
    for number, (name, fd) in enumerate(zip(("out", "err"), fds, strict=True), 1):
        command += ["-add-fd", f"fd={fd},set={number}"]
        command += ["-chardev", f"file,id={name},path=/dev/fdset/{number},append=on"]
        command += ["-device", f"virtserialport,chardev={name},name={name}"]
    for share in shares:
        command += share.arguments()
    return command


@contextmanager
def outputs(*targets: BinaryIO) -> Iterator[tuple[int, int]]:
    """Give the write ends of two pipes whose contents go to the targets as they come."""
    ends, pumps = [], []
    for target in targets:
        source, end = os.pipe()
        os.set_inheritable(end, True)
        ends.append(end)
        pumps.append(threading.Thread(target=pump, args=(source, target), daemon=True))
    for thread in pumps:
        thread.start()
    try:
        yield ends[0], ends[1]
    finally:
        for thread in pumps:
            thread.join(2)


def pump(source: int, target: BinaryIO) -> None:
    """Copy until the other end closes."""
    while data := os.read(source, 65536):
        target.write(data)
        target.flush()


def announce(machine: "subprocess.Popen[bytes]", ready: Path) -> None:
    """Say when the command begins: a loaded host may take a minute."""
    started = time.monotonic()
    say("booting")
    while machine.poll() is None:
        if ready.exists():
            say(f"up after {time.monotonic() - started:.0f} s, the command begins")
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The kernel and the initramfs of the virtual machine."""

import gzip
import lzma
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.ble.vm_packages import MissingError, which

MODULES = (
    *("virtio_pci", "virtio_console", "virtio_rng", "9pnet_virtio", "9p", "overlay"),
    *("sha512_generic", "ctr", "drbg", "cmac", "ecb", "ccm", "algif_hash", "algif_skcipher"),
    *("bluetooth", "hci_vhci", "uhid"),
)
"""What the machine needs: virtio and its root; what pairing computes with; Bluetooth. Dependencies are found by
modinfo."""

GUEST = Path(__file__).with_name("guest")
FOLDER, PROGRAM, FILE = 0o040755, 0o100755, 0o100644

Entry = tuple[str, int, bytes]


def image(kernel: Path) -> Path:
    """Return the ELF kernel inside Debian's bzImage, kept beside it: unpacking it in the machine would cost seconds."""
    packed = next((kernel / "boot").glob("vmlinuz-*"))
    elf = packed.with_name(packed.name.replace("vmlinuz", "vmlinux"))
    if not elf.exists():
        data = decompressed(packed.read_bytes())
        if data is None:
            return packed
        fresh = elf.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(data)
        fresh.rename(elf)
    return elf


def decompressed(data: bytes) -> bytes | None:
    """Return the payload of a bzImage; None if it is compressed in another way than Debian's."""
    for magic, unpack in ((b"\xfd7zXZ\0", lzma_unpack), (b"\x28\xb5\x2f\xfd", zstd_unpack)):
        if (at := data.find(magic)) > 0 and (elf := unpack(data[at:])).startswith(b"\x7fELF"):
            return elf
    return None


def lzma_unpack(data: bytes) -> bytes:
    """Unpack an xz stream that something follows."""
    return lzma.LZMADecompressor().decompress(data)


def zstd_unpack(data: bytes) -> bytes:
    """Unpack a zstd stream; zstd complains about what follows it, after the payload is out."""
    return subprocess.run([which("zstd") or "zstd", "-dcq"], input=data, capture_output=True, check=False).stdout


def initramfs(kernel: Path) -> bytes:
    """Return the archive that the kernel starts from: busybox, the modules, `guest/init`."""
    modules = in_order(modules_of(kernel))
    names = [module.name.removesuffix(".xz").removesuffix(".gz") for module in modules]
    entries: list[Entry] = [(folder, FOLDER, b"") for folder in ("bin", "dev", "proc", "sys", "modules")]
    entries.append(("init", PROGRAM, (GUEST / "init").read_bytes()))
    entries.append(("bin/busybox", PROGRAM, Path(which("busybox") or "/bin/busybox").read_bytes()))
    entries += [(f"modules/{name}", FILE, module_bytes(module)) for name, module in zip(names, modules, strict=True)]
    entries.append(("modules/order", FILE, "\n".join(names).encode()))
    return cpio(entries)


def modules_of(kernel: Path) -> dict[str, Path]:
    """Every module of the unpacked kernel package, by name."""
    for base in ("lib/modules", "usr/lib/modules"):
        if (kernel / base).is_dir():
            files = (kernel / base).rglob("*.ko*")
            return {re.sub(r"\.ko.*", "", file.name).replace("-", "_"): file for file in files}
    raise MissingError(f"no kernel modules under {kernel}; remove that folder to fetch them again")


def in_order(modules: dict[str, Path]) -> list[Path]:
    """Return MODULES and what they depend on, dependencies first; what is not there is built into the kernel."""
    order: list[Path] = []

    def add(name: str) -> None:
        path = modules.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        depends = subprocess.run(
            [which("modinfo") or "modinfo", "-F", "depends", str(path)], capture_output=True, text=True, check=True
        )
        for needed in filter(None, depends.stdout.strip().split(",")):
            add(needed)
        order.append(path)

    for name in MODULES:
        add(name)
    return order


def module_bytes(path: Path) -> bytes:
    """Return a module unpacked: busybox's insmod may not know how."""
    data = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case _:
            return data


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return a newc archive (linux Documentation/driver-api/early-userspace/buffer-format.rst)."""
    out = bytearray()
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)

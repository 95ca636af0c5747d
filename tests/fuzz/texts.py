"""Configuration files and files of images, of any bytes."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from smp_dfu_host.config import load
from smp_dfu_host.config_text import example, toml, values
from smp_dfu_host.errors import ConfigError, StoreError
from smp_dfu_host.store.image_files import read_files
from tests.mcuboot.images import make_image


def configuration(folder: Path) -> Callable[[bytes], None]:
    """Return what reads a configuration file: it is taken, and can be shown, or refused by ConfigError."""
    path = folder / "config.toml"
    (folder / "files").mkdir(parents=True, exist_ok=True)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            config = load(path)
        except ConfigError:
            return
        for name, value in values(config):
            assert f"{name} = {toml(value)}"

    return check


def configuration_seeds() -> Iterator[bytes]:
    """Return the example with every option, whole and section by section, and what has been seen in files."""
    whole = example()
    yield whole.encode()
    uncommented = "\n".join(line.removeprefix("# ") for line in whole.splitlines())
    for part in uncommented.split("\n\n"):
        yield part.encode()
    yield b'[flash]\npreset = "nrf52840"\nslots = ["4096x118"]\n'
    yield b'[flash]\nslots = ["16Kx4,64K,128Kx3", "4096x64"]\nalign = 32\nmax_align = 32\n'
    yield b'[bootloader]\nmode = "direct-xip"\nimages = 3\nkeys = ["a.pem"]\n'
    yield b'[[shell.command]]\nname = "a b"\nrun = ["true"]\narguments = ["[0-9]+", "("]\n'
    yield b'[[hook]]\non = "image-pending"\nrun = ["true"]\ntimeout_ms = 2000\n'


def image_file(folder: Path) -> Callable[[bytes], None]:
    """Return what reads a file of images, raw, Intel HEX or a ZIP package: it is taken, or refused by StoreError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "image"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = read_files(path)
        except StoreError:
            return
        assert found

    return check


def image_file_seeds() -> Iterator[bytes]:
    """Return an image in every form that there is."""
    image = make_image((2, 0, 0, 0), b"payload")
    yield image
    yield b":0200000001 02FB\n:0200080003 04EF\n:00000001FF\n".replace(b" ", b"")
    yield b":020000040001F9\n:0200000001 02FB\n:0400000500000000F7\n:00000001FF\n".replace(b" ", b"")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", method) as archive:
            archive.writestr("manifest.json", '{"files": [{"file": "a.bin", "image_index": "0", "slot": "1"}]}')
            archive.writestr("a.bin", image)
        yield made.getvalue()

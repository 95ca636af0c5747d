"""imgtool in this process: it makes images and keys, and is a second opinion on both."""

from pathlib import Path

from click.testing import CliRunner
from imgtool.main import imgtool as command


def run(*arguments: str | Path | int) -> tuple[int, str]:
    """Return imgtool's exit status and what it printed."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def make_key(path: Path, kind: str) -> bytes:
    """Write a private key to a file and return the public one, both PEM."""
    public = path.with_suffix(".pub")
    for arguments in (("keygen", "-k", path, "-t", kind), ("getpub", "-k", path, "-e", "pem", "-o", public)):
        status, text = run(*arguments)
        assert status == 0, text
    return public.read_bytes()


def sign(folder: Path, *options: str | Path | int, payload: bytes = bytes(range(256)) * 6) -> bytes:
    """Return an image as `imgtool sign` makes it, with version 1.2.3+4 for 8 sectors of 4 KiB unless said otherwise."""
    raw, made = folder / "raw.bin", folder / "made.bin"
    raw.write_bytes(payload)
    defaults = ("-v", "1.2.3+4", "-H", "0x20", "-S", "0x8000", "--align", "8", "--pad-header")
    status, text = run("sign", *defaults, *options, raw, made)
    assert status == 0, text
    return made.read_bytes()


def verify(path: Path, key: Path | None = None) -> str:
    """Return what `imgtool verify` says, its first line."""
    _, text = run("verify", *(("-k", key) if key else ()), path)
    return text.splitlines()[0]

"""The command line in this process, on stores in a temporary folder."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from smp_dfu_host.cli import main
from smp_dfu_host.mcuboot.image import ImageVersion
from smp_dfu_host.store.factory import make_image

SMALL = "[flash]\nsector_size = 4096\nsectors = 8\nmax_sectors = 16\n"
"""A geometry that is quick to write."""


@dataclass(frozen=True)
class Cli:
    """Runs commands with a configuration and a store of their own."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def configure(self, text: str = SMALL) -> None:
        self.config.write_text(f'store = "store"\n{text}')

    def __call__(self, *args: str | Path, columns: int = 80, **env: str) -> Result:
        everything = {
            "XDG_CONFIG_HOME": str(self.folder / "none"),
            "SMP_DFU_HOST_CONFIG": str(self.config),
            "COLUMNS": str(columns),
            **env,
        }
        result = CliRunner().invoke(main, [str(arg) for arg in args], env=everything)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output
        return result

    def json(self, *args: str | Path) -> Any:
        return json.loads(self(*args, "--json").stdout)

    def image(self, version: str = "1.2.3", size: int = 5000, name: str = "image.bin") -> Path:
        path = self.folder / name
        path.write_bytes(make_image(ImageVersion(*map(int, version.split("."))), bytes(size)))
        return path

    def package(self, entries: dict[str, dict[str, Any]], version: str = "2.0.0") -> Path:
        """Return a package for the phone apps: by file name, what its manifest says beside the name."""
        path = self.folder / "package.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in entries:
                archive.write(self.image(version, name=name), name)
            files = [{"file": name, **entry} for name, entry in entries.items()]
            archive.writestr("manifest.json", json.dumps({"format-version": 1, "files": files}))
        return path


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    made = Cli(tmp_path)
    made.configure()
    return made

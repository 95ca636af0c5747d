"""All that is fuzzed, by name."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.flash import check_flash, check_image, flash_seeds, image_seeds
from tests.fuzz.messages import request_seeds, requests_to_all_groups
from tests.fuzz.texts import configuration, configuration_seeds, image_file, image_file_seeds
from tests.fuzz.wire import bodies, body_seeds, check_console, check_wire, console_seeds, wire_seeds

Check = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is fuzzed."""

    about: str
    make: Callable[[Path], AbstractContextManager[Check]]
    """Gives what takes an input and raises if that is a finding; gets a folder for files."""
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to start from."""
    size: int = 512
    """Bytes of the largest input."""


def plain(make: Callable[[Path], Check]) -> Callable[[Path], AbstractContextManager[Check]]:
    """Return the same for checks that leave nothing to clean up."""
    return lambda folder: nullcontext(make(folder))


TARGETS = {
    "wire": Target("headers, and messages put together from pieces", plain(lambda _: check_wire), wire_seeds, 192),
    "console": Target("console and shell framing", plain(lambda _: check_console), console_seeds, 256),
    "bodies": Target("CBOR bodies of every command of every group", plain(bodies), body_seeds),
    "requests": Target("requests to all groups on a real store", requests_to_all_groups, request_seeds, 2048),
    "image": Target("parsing and verification of images", plain(check_image), image_seeds, 2048),
    "flash": Target("trailers and boots on any flash, in every mode", plain(check_flash), flash_seeds),
    "config": Target("configuration files", plain(configuration), configuration_seeds, 4096),
    "files": Target("files of images: raw, Intel HEX, ZIP", plain(image_file), image_file_seeds, 2048),
}
"""The targets that `scripts/fuzz` knows; tests/fuzz/watched.py has the same names."""

"""What fuzzing starts from: requests and serial lines of the recorded Zephyr servers, images of MCUboot's."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"


@cache
def _cases() -> tuple[Mapping[str, Any], ...]:
    lines = (VECTORS / "zephyr" / "golden.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines[1:])


def frames() -> list[bytes]:
    """Return every different request that was sent, in a fixed order."""
    return list(dict.fromkeys(bytes.fromhex(case["request_hex"]) for case in _cases() if case.get("request_hex")))


def serial_streams() -> list[bytes]:
    """Return what was written to serial lines as it was, broken lines too."""
    written = (b"".join(map(bytes.fromhex, case["wire_request"])) for case in _cases() if case["kind"] == "wire")
    return list(dict.fromkeys(written))


def images(limit: int) -> Iterator[tuple[str, bytes]]:
    """Return names and bytes of the recorded images of at most so many bytes, broken ones too."""
    for path in sorted((VECTORS / "images" / "images").glob("*.bin")):
        if path.stat().st_size <= limit:
            yield path.name, path.read_bytes()


@cache
def test_keys() -> Mapping[str, Mapping[str, str]]:
    """Return the keys of the recorded images, by name."""
    return dict(json.loads((VECTORS / "images" / "testkeys.json").read_text(encoding="utf-8")))

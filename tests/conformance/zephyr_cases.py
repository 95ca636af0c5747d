"""Transcripts of Zephyr servers: reading them, and telling how an answer differs from the recorded one.

Answers are compared decoded: the header's fields but its length, and the CBOR body; not the bytes. A difference is
named by its path, such as `/body/images/0/version` or `/header/op`, or `/` if one of the two has no answer at all.
"""

import gzip
import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2

HEADER = struct.Struct(">BBHHBB")
ABSENT = "absent"
"""Stands for a value that one side does not have."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a transcript."""

    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.fields.get("name") or f"{self.fields['scenario']}/{self.step}/v{self.version}")

    @property
    def step(self) -> int:
        return int(self.fields["step"])

    @property
    def version(self) -> int:
        return int(self.fields.get("version") or 0)

    @property
    def transport(self) -> str | None:
        """As recorded; None: whatever the server is reached by."""
        return self.fields.get("transport")

    @property
    def server(self) -> str:
        return str(self.fields["server"])

    @property
    def kind(self) -> str:
        return str(self.fields["kind"])

    @property
    def group(self) -> int | None:
        return self.fields.get("group")

    @property
    def command(self) -> int | None:
        return self.fields.get("command")

    @property
    def op(self) -> int | None:
        return self.fields.get("op")

    @property
    def request(self) -> bytes:
        return bytes.fromhex(self.fields.get("request_hex") or "")

    @property
    def body(self) -> Mapping[str, Any]:
        """The request's body, decoded; empty if it is no map or cannot be decoded."""
        body = (self.fields.get("request") or {}).get("body")
        return body if isinstance(body, dict) else {}

    @property
    def build_specific(self) -> frozenset[str]:
        return frozenset(self.fields.get("build_specific") or ())

    @property
    def answers(self) -> list[bytes]:
        """The recorded frames."""
        first = self.fields.get("response_hex")
        more = self.fields.get("more_responses_hex") or []
        return [bytes.fromhex(text) for text in ([first] if first else []) + list(more)]

    @property
    def groups(self) -> set[int]:
        """The groups of all frames in the request."""
        return {header[3] for header in _headers(self.request)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where an answer is not as recorded."""

    path: str
    recorded: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.path}: recorded {_short(self.recorded)}, ours {_short(self.ours)}"


def load(path: Path) -> list[list[Case]]:
    """Return a file's cases, one list for each run against a fresh server, in order; it may be compressed by gzip."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    runs: dict[tuple[str, str, int], list[Case]] = defaultdict(list)
    for fields in (json.loads(line) for line in text.split("\n") if line.strip()):
        if "meta" not in fields:
            case = Case(fields)
            runs[case.server, fields["scenario"], case.version].append(case)
    return [sorted(run, key=lambda case: case.step) for run in runs.values()]


def differences(case: Case, ours: list[bytes]) -> list[Difference]:
    """Return where our frames differ from the recorded ones; none: they agree.

    Of a burst only the answers that were recorded count: those servers drop what they have no buffer for.
    """
    recorded = case.answers
    if case.kind == "burst":
        ours = [frame for frame in ours if frame[6:7] in {each[6:7] for each in recorded}]
    found: list[Difference] = []
    for number in range(max(len(recorded), len(ours))):
        if number >= len(recorded):
            found.append(Difference("/", ABSENT, _decoded(ours[number])))
        elif number >= len(ours):
            found.append(Difference("/", _decoded(recorded[number]), ABSENT))
        else:
            found += _compare("", _decoded(recorded[number]), _decoded(ours[number]), case.build_specific)
    return found


def _compare(path: str, recorded: Any, ours: Any, build_specific: frozenset[str]) -> Iterator[Difference]:
    parent, _, name = path.rpartition("/")
    if parent == "/body" and name in build_specific:
        if type(recorded) is not type(ours):
            yield Difference(path, recorded, ours)
    elif isinstance(recorded, dict) and isinstance(ours, dict):
        for key in [*recorded, *(key for key in ours if key not in recorded)]:
            yield from _compare(f"{path}/{key}", recorded.get(key, ABSENT), ours.get(key, ABSENT), build_specific)
    elif isinstance(recorded, list) and isinstance(ours, list):
        for number in range(max(len(recorded), len(ours))):
            theirs, mine = (each[number] if number < len(each) else ABSENT for each in (recorded, ours))
            yield from _compare(f"{path}/{number}", theirs, mine, build_specific)
    elif type(recorded) is not type(ours) or recorded != ours:
        yield Difference(path, recorded, ours)


def _decoded(frame: bytes) -> Any:
    """Return a frame's header and body; a body that cannot be decoded as its bytes, and so a frame without header."""
    if len(frame) < HEADER.size:
        return frame
    first, flags, length, group, sequence, command = HEADER.unpack_from(frame)
    header = {"op": first & 7, "version": first >> 3 & 3, "reserved": first >> 5, "flags": flags}
    header |= {"group": group, "sequence": sequence, "command": command}
    payload = frame[HEADER.size :]
    if length != len(payload):
        return {"header": header, "body": f"length {length}, payload of {len(payload)} bytes: {payload.hex()}"}
    try:
        return {"header": header, "body": cbor2.loads(payload)}
    except cbor2.CBORDecodeError:
        return {"header": header, "body": payload}


def _headers(packet: bytes) -> Iterator[tuple[int, ...]]:
    """Return the header of each frame in a packet, as far as lengths can be trusted."""
    offset = 0
    while len(packet) - offset >= HEADER.size:
        header = HEADER.unpack_from(packet, offset)
        yield header
        offset += HEADER.size + header[2]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."

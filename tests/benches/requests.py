"""What the clients of benchmarks send, encoded beforehand."""

from hashlib import sha256
from struct import Struct

import cbor2

HEADER = Struct(">BBHHBB")
WRITE = 2
TEXT = "x" * 32


def echo_requests(count: int) -> list[bytes]:
    """Return so many echoes of a short text."""
    payload = cbor2.dumps({"d": TEXT})
    return [HEADER.pack(WRITE, 0, len(payload), 0, number % 256, 0) + payload for number in range(count)]


def upload_requests(image: bytes, frame: int) -> list[bytes]:
    """Return the requests of an upload, of that many bytes each."""
    requests: list[bytes] = []
    offset = 0
    while offset < len(image):
        body: dict[str, object] = {"off": offset}
        if not offset:
            body |= {"image": 0, "len": len(image), "sha": sha256(image).digest()}
        data = image[offset : offset + room(body, frame)]
        payload = cbor2.dumps({**body, "data": data})
        requests.append(HEADER.pack(WRITE, 0, len(payload), 1, len(requests) % 256, 1) + payload)
        offset += len(data)
    return requests


def room(body: dict[str, object], frame: int) -> int:
    """Return how many bytes of `data` fit into a request of that size beside the rest of its body."""
    return frame - HEADER.size - len(cbor2.dumps({**body, "data": b""})) - 2  # their size takes three bytes, not one

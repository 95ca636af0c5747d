import cbor2
import pytest

from tests.benches.ble import FRAMES
from tests.benches.ble_servers import Frames
from tests.benches.requests import upload_requests


@pytest.mark.parametrize("frame", FRAMES)
def test_the_requests_of_the_bench_carry_the_whole_image_in_frames_of_that_size(frame: int) -> None:
    image = bytes(range(256)) * 100
    requests = upload_requests(image, frame)
    bodies = [cbor2.loads(request[8:]) for request in requests]
    assert b"".join(body["data"] for body in bodies) == image
    assert [body["off"] for body in bodies] == [
        sum(len(each["data"]) for each in bodies[:n]) for n in range(len(bodies))
    ]
    assert all(frame - 3 <= len(request) <= frame for request in requests[:-1])
    assert len(requests[-1]) <= frame


@pytest.mark.parametrize("size", [1, 7, 244, 5000])
def test_the_bare_servers_count_complete_frames_whatever_the_pieces(size: int) -> None:
    stream = b"".join(upload_requests(bytes(4000), 500))
    complete: list[None] = []
    frames = Frames(lambda: complete.append(None))
    for at in range(0, len(stream), size):
        frames.feed(stream[at : at + size])
    assert len(complete) == len(upload_requests(bytes(4000), 500))

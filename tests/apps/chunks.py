"""How much of a file fits a frame."""

from tests.apps.phone import IMAGE, UPLOAD, WRITE, Reply, frame


def chunk_at(data: bytes, off: int, first: Reply, frame_size: int, alignment: int) -> bytes:
    """Return what an app sends at an offset: as much as fits the frame, aligned unless it is the last.

    Args:
        data: The whole file.
        off: Where the chunk begins.
        first: What the first chunk's request says besides.
        frame_size: Bytes of a whole frame at most.
        alignment: What the size of a chunk must be a multiple of.

    Raises:
        ValueError: If not a byte fits.
    """
    body = {"data": b"", "off": off} | ({} if off else first)
    room = frame_size - len(frame(WRITE, IMAGE, UPLOAD, body, 0))
    room -= (room > 23) + (room > 256)  # what the length of the byte string takes
    if room < alignment:
        raise ValueError(f"frames of {frame_size} bytes hold no data")
    left = len(data) - off
    return data[off : off + (left if left <= room else room // alignment * alignment)]

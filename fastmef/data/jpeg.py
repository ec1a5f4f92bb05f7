"""Read JPEG with libjpeg directly, because Pillow drops libjpeg's warnings about damage."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from fastmef.data.damage import Fault, damaged
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.kinds import check_kind
from fastmef.data.limits import MAX_SCANS, max_whole_bytes
from fastmef.data.metadata import embedded
from fastmef.data.reading import Content

SIGNATURE = b"\xff\xd8\xff"

_START_OF_SCAN, _END = 0xDA, 0xD9
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
# Bytes that may follow 0xFF inside entropy-coded data, or fill the space before a marker.
_NO_MARKERS = (0x00, 0xFF, *range(0xD0, 0xD8))
_BLOCK = 1 << 22  # bytes that are searched for markers at a time


def check_jpeg(content: bytes) -> int:
    """Check that a file is complete, and return the number of its scans.

    Raises:
        Fault: the file is cut off, or has so many scans that decoding would take minutes.
    """
    position, scans = 2, 0
    for begin in _markers(content):
        if begin < position:  # inside a segment
            continue
        position, marker = begin + 2, content[begin + 1]
        if marker == _END:
            return scans
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise Fault(f"a JPEG of more than {MAX_SCANS} scans")
        position += int.from_bytes(content[position : position + 2], "big")
    raise damaged("it is truncated")


def _markers(content: bytes) -> Iterator[int]:
    """Yield the offsets of all pairs of bytes that may be a marker."""
    is_marker = np.ones(256, bool)
    is_marker[list(_NO_MARKERS)] = False
    data = np.frombuffer(content, np.uint8)
    for start in range(0, len(data) - 1, _BLOCK):
        block = data[start : start + _BLOCK + 1]
        begins = np.flatnonzero(block[:-1] == 0xFF)
        yield from (start + begins[is_marker[block[begins + 1]]]).tolist()


def decode_jpeg(content: bytes, channels: int = 3) -> NDArray[np.uint8]:
    """Return the pixels ``(H, W, C)`` of a JPEG with one or three channels.

    Raises:
        Fault: libjpeg reports an error or a warning. It warns about damaged data only.
    """
    try:
        return simplejpeg.decode_jpeg(content, "RGB" if channels == 3 else "GRAY", strict=True)
    except ValueError as error:
        raise damaged(str(error).removeprefix("Corrupt JPEG data: ")) from error


def open_jpeg(content: Content) -> DecodedSource:
    """Open a JPEG; in a camera's multi-picture file, open the first picture."""
    whole = content.whole(max_whole_bytes())
    scans = check_jpeg(whole)
    # The class is called directly, because Image.open() applies a size limit of the whole process.
    image = JpegImageFile(io.BytesIO(whole))
    check_kind(image, len(whole))
    channels = 1 if image.mode == "L" else 3
    found = embedded(image)
    turned = found.orientation >= 5
    width, height = (image.height, image.width) if turned else image.size
    # libjpeg holds all coefficients, 16 bits each, in memory if there are several scans.
    coefficients = 2 * image.width * image.height * channels if scans > 1 else 0

    def decode() -> Rows:
        again = content.whole(max_whole_bytes())
        check_jpeg(again)
        return decode_jpeg(again, channels), None

    return DecodedSource(
        content.name,
        (image.height, image.width, channels),
        np.uint8,
        False,
        found.upright(width, height, channels),
        decode,
        len(whole) + coefficients,
        found.orientation,
        release=content.close,
    )

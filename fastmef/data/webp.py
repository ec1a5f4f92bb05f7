"""Read WebP, after checking its declared size before libwebp allocates memory."""

from __future__ import annotations

import io

import numpy as np
from PIL.WebPImagePlugin import WebPImageFile

from fastmef.data.alpha import split_alpha
from fastmef.data.damage import Fault, damaged
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.kinds import check_kind, refuse
from fastmef.data.limits import excess_pixels, max_whole_bytes
from fastmef.data.metadata import embedded
from fastmef.data.reading import Content

_ANIMATED = 0x02
_DECODER_BYTES = 15  # measured memory of libwebp and Pillow per pixel


def is_webp(content: bytes) -> bool:
    """Return whether a file begins as a WebP does."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def webp_size(content: bytes) -> tuple[int, int]:
    """Return the declared width and height.

    Raises:
        Fault: the file is truncated, animated, or has no header.
    """
    if 8 + int.from_bytes(content[4:8], "little") > len(content):
        raise damaged("it is truncated")
    kind, data = content[12:16], content[20:30]
    if kind == b"VP8X":
        if data[0] & _ANIMATED:
            raise refuse("an animated")
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        return width, height
    raise damaged("it has no header")


def open_webp(content: Content) -> DecodedSource:
    """Open a still WebP; alpha is kept as the mask of valid pixels."""
    whole = content.whole(max_whole_bytes())
    excess = excess_pixels(*webp_size(whole), len(whole))
    if excess is not None:
        raise Fault(excess)
    image = WebPImageFile(io.BytesIO(whole))
    check_kind(image, len(whole))
    has_alpha = image.mode == "RGBA"
    found = embedded(image)
    turned = found.orientation >= 5
    width, height = (image.height, image.width) if turned else image.size

    def decode() -> Rows:
        image = WebPImageFile(io.BytesIO(content.whole(max_whole_bytes())))
        image.load()
        return split_alpha(np.asarray(image))

    return DecodedSource(
        content.name,
        (image.height, image.width, 3),
        np.uint8,
        has_alpha,
        found.upright(width, height, 3),
        decode,
        len(whole) + _DECODER_BYTES * image.width * image.height,
        found.orientation,
        release=content.close,
    )

"""JPEG by libjpeg itself, whose warnings of damage Pillow does not pass on."""

from __future__ import annotations

import re

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from fastmef.data.damage import Fault, damaged
from fastmef.data.limits import MAX_SCANS

SIGNATURE = b"\xff\xd8\xff"

_START_OF_SCAN, _END = 0xDA, 0xD9
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def check_jpeg(content: bytes) -> None:
    """Refuse a file that is cut off, or whose many scans would take minutes.

    Raises:
        Fault: see above.
    """
    position, scans = 2, 0
    while True:
        found = _NEXT_MARKER.search(content, position)
        if found is None:
            raise damaged("it is truncated")
        position, marker = found.end(), content[found.end() - 1]
        if marker == _END:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise Fault(f"a JPEG of more than {MAX_SCANS} scans")
        position += int.from_bytes(content[position : position + 2], "big")


def decode_jpeg(content: bytes) -> NDArray[np.uint8]:
    """Return the pixels (H, W, 3), RGB, of a JPEG with one or three channels.

    Raises:
        Fault: libjpeg reports an error or a warning, which it does only where data are damaged.
    """
    try:
        pixels = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError as error:
        raise damaged(str(error).removeprefix("Corrupt JPEG data: ")) from error
    return pixels

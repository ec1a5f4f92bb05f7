"""What a WebP declares, read before libwebp allocates it."""

from __future__ import annotations

from fastmef.data.damage import Fault, damaged

_ANIMATED = 0x02


def is_webp(content: bytes) -> bool:
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
            raise Fault("a several-frame image")
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        return width, height
    raise damaged("it has no header")

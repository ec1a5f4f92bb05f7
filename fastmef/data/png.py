"""The checks that Pillow leaves out for PNG: all checksums, and that the pixels are all there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from fastmef.data.damage import damaged
from fastmef.data.limits import MAX_PROFILE

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_PASSES = (*_ADAM7, (0, 1, 1, 2))  # first column, first row, steps
_COMMENTS = (b"tEXt", b"zTXt", b"iTXt")
_EXIF_COMMENT = b"Raw profile type exif\0"


@dataclass(frozen=True)
class Png:
    """A PNG of sound chunks."""

    chunks: list[tuple[bytes, memoryview]]
    """Type and data, in the order of the file."""

    def without_comments(self) -> bytes:
        """Return the file without comments and colour profile, which may unfold to any size."""
        parts: list[bytes | memoryview] = [SIGNATURE]
        for kind, data in self.chunks:
            comment = kind in _COMMENTS and bytes(data[:22]) != _EXIF_COMMENT
            if not comment and kind != b"iCCP":
                checksum = zlib.crc32(data, zlib.crc32(kind))
                parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)]
        return b"".join(parts)

    def icc_profile(self) -> bytes | None:
        for kind, data in self.chunks:
            if kind == b"iCCP":
                name = bytes(data[:81]).partition(b"\0")[0]
                return _inflate(data[len(name) + 2 :], MAX_PROFILE, "the colour profile")
        return None

    def check_pixels(self) -> None:
        """Decompress the image data and compare their checksum, size and filter types."""
        header = bytes(self.chunks[0][1])
        width, height, depth, color, interlaced = struct.unpack(">IIBBxxB", header)
        bits = depth * _CHANNELS[color]
        passes = [
            (-(-(width - left) // across), -(-(height - top) // down))
            for left, top, across, down in (_PASSES if interlaced else ((0, 0, 1, 1),))
        ]
        shapes = [(rows, 1 + (columns * bits + 7) // 8) for columns, rows in passes if columns > 0]
        expected = sum(rows * stride for rows, stride in shapes if rows > 0)
        data = b"".join(data for kind, data in self.chunks if kind == b"IDAT")
        raw = _inflate(data, expected, "the image data")
        if len(raw) != expected:
            raise damaged(f"{len(raw)} bytes of image data instead of {expected}")
        start = 0
        for rows, stride in shapes:
            end = start + max(0, rows) * stride
            if raw[start:end:stride].translate(None, b"\0\1\2\3\4"):
                raise damaged("an unknown filter of a row")
            start = end


def parse_png(content: bytes) -> Png:
    """Split a PNG into its chunks, and compare the checksum of every one.

    Raises:
        Fault: the file is truncated, a checksum is wrong, or the chunks are in the wrong order.
    """
    chunks = list(_chunks(memoryview(content)))
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or len(chunks[0][1]) != 13 or kinds.count(b"IHDR") != 1:
        raise damaged("no header at its start")
    count = kinds.count(b"IDAT")
    first = kinds.index(b"IDAT") if count else 0
    if not count or kinds[first : first + count] != [b"IDAT"] * count:
        raise damaged("its image data are not in one place")
    if chunks[0][1][9] not in _CHANNELS:
        raise damaged("an unknown colour type")
    return Png(chunks)


def _chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and data of every chunk to the end of the image; what follows it is ignored."""
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(content):
            raise damaged("it is truncated")
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(content):
            raise damaged("it is truncated, or the length of a part is wrong")
        kind, data = bytes(content[position + 4 : position + 8]), content[position + 8 : end]
        if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(content[end : end + 4], "big"):
            raise damaged(f"the checksum of its part {ascii(kind)[2:-1]} is wrong")
        yield kind, data
        position = end + 4


def _inflate(data: bytes | memoryview, limit: int, what: str) -> bytes:
    """Decompress at most ``limit`` bytes, to the end of the stream and its checksum."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise damaged(f"{what} cannot be decompressed") from error
    if len(raw) > limit:
        raise damaged(f"{what} have more than {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise damaged(f"{what} end too early or too late")
    return raw

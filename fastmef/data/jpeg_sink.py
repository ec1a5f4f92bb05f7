"""Write JPEG files: bands of rows are encoded on all cores while rows arrive."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from fastmef.data.encoding import OrderedEncoder
from fastmef.data.metadata import Metadata
from fastmef.data.output import Picture, WritesRows

_LONGEST_SEGMENT = 65533  # bytes of data in a segment of a JPEG
_XMP_NAME = 29
_APP0, _APP13, _APP15 = 0xE0, 0xED, 0xEF
_START_OF_FRAME, _START_OF_SCAN, _RESTART_INTERVAL = 0xC0, 0xDA, 0xDD
_BLOCK = 8  # rows and columns of a JPEG's smallest unit at 4:4:4
# The restart interval has 16 bits: 64 rows of blocks of the widest JPEG, 65500 pixels, fit it.
_BAND = 64


class JpegSink(WritesRows):
    """Write a JPEG with full colour resolution (4:4:4).

    Bands of 64 rows are encoded separately and joined by restart markers, which reset the
    predictions of a JPEG. The pixels are the same as if the image were encoded as a whole.
    """

    def __init__(self, picture: Picture, quality: int) -> None:
        super().__init__(picture)
        self._quality = quality
        self._encoder = OrderedEncoder(self._encode, self._write_band)
        self._written = 0  # number of bands
        self._band = self._new_band()
        self._filled = 0
        # For each part: the pixels of its band, and its code, which is hardly ever longer.
        self.resident_bytes = 2 * self._encoder.most_parts * self._band.nbytes

    def add(self, rows: NDArray[Any]) -> None:
        while len(rows):
            part = rows[: len(self._band) - self._filled]
            self._band[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == len(self._band):
                self._submit()

    def finish(self) -> None:
        if self._filled:
            self._submit()
        self._encoder.finish()
        self.file.write(b"\xff\xd9")

    def abort(self) -> None:
        super().abort()
        self._encoder.stop()

    def _new_band(self) -> NDArray[Any]:
        picture = self.picture
        return np.empty((_BAND, picture.width, picture.channels), np.uint8)

    def _submit(self) -> None:
        """Submit the rows that are filled for encoding, and begin a new band."""
        self._encoder.submit(self._band[: self._filled])
        self._band, self._filled = self._new_band(), 0

    def _encode(self, band: NDArray[Any]) -> bytes:
        gray = self.picture.channels == 1
        return simplejpeg.encode_jpeg(
            band, self._quality, "GRAY" if gray else "RGB", "Gray" if gray else "444", fastdct=False
        )

    def _write_band(self, encoded: bytes) -> None:
        """Write the scan of the next band, preceded by the header or a restart marker."""
        content = memoryview(encoded)
        scan = _after_header(content)
        if self._written == 0:
            picture = self.picture
            self.file.write(b"\xff\xd8" + _jpeg_metadata(picture.metadata, picture.channels == 1))
            self.file.write(_header(content[:scan], picture.height, picture.width))
        else:
            self.file.write(bytes((0xFF, 0xD0 + (self._written - 1) % 8)))
        self.file.write(content[scan:-2])
        self._written += 1


def _header(content: memoryview, height: int, width: int) -> bytes:
    """Return the header of the image, made from that of a band: its height, and restart markers."""
    header = bytearray(content[_after_metadata(content) :])
    position = 0
    while header[position + 1] != _START_OF_SCAN:
        if header[position + 1] == _START_OF_FRAME:
            header[position + 5 : position + 7] = height.to_bytes(2, "big")
        position += 2 + int.from_bytes(header[position + 2 : position + 4], "big")
    interval = -(-width // _BLOCK) * (_BAND // _BLOCK)
    header[position:position] = bytes((0xFF, _RESTART_INTERVAL, 0, 4)) + interval.to_bytes(2, "big")
    return bytes(header)


def _after_header(content: memoryview) -> int:
    """Return the offset at which the entropy-coded data of the only scan begin."""
    position, marker = 2, 0
    while marker != _START_OF_SCAN:
        marker = content[position + 1]
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position


def _jpeg_metadata(metadata: Metadata, gray: bool) -> bytes:
    """Return the application segments that Pillow writes into an image of one pixel.

    EXIF and XMP blocks that do not fit into a segment of 64 KiB are left out. A colour profile may
    have several segments.
    """
    options: dict[str, Any] = {}
    if metadata.icc_profile:
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif and len(metadata.exif) <= _LONGEST_SEGMENT:
        options["exif"] = metadata.exif
    if metadata.xmp and len(metadata.xmp) + _XMP_NAME <= _LONGEST_SEGMENT:
        options["xmp"] = metadata.xmp
    if metadata.resolution:
        options["dpi"] = tuple(round(value) for value in metadata.resolution)
    file = io.BytesIO()
    Image.new("L" if gray else "RGB", (1, 1)).save(file, "JPEG", **options)
    content = file.getvalue()
    return content[2 : _after_metadata(content)] + _iptc_segment(metadata.iptc)


def _iptc_segment(block: bytes | None) -> bytes:
    """Return a segment with IPTC as Photoshop's image resource 0x0404, where readers expect it."""
    if not block:
        return b""
    data = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(block).to_bytes(4, "big") + block
    data += b"\0" * (len(block) % 2)
    if len(data) > _LONGEST_SEGMENT:
        return b""
    return bytes((0xFF, _APP13)) + (len(data) + 2).to_bytes(2, "big") + data


def _after_metadata(content: bytes | memoryview) -> int:
    """Return the offset of the first segment of a JPEG that is not an application's."""
    position = 2
    while _APP0 <= content[position + 1] <= _APP15:
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position

"""Read PNG in strips of rows, and compare all checksums, which Pillow does not.

This module decompresses the image data and passes every strip of rows to libpng as an image of its
own, stored without compression. The strip is preceded by the last row of the strip before, on which
its first row may depend. So the file is never in memory as a whole, and libpng undoes the filters.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from fastmef.data.alpha import split_alpha
from fastmef.data.damage import damaged, report_faults
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.extras import import_extra
from fastmef.data.kinds import check_size, refuse
from fastmef.data.metadata import Embedded
from fastmef.data.png_chunks import GREY, PALETTE, Header, Inflater, Png, assemble, parse_png
from fastmef.data.reading import Content

_BLOCK = 1 << 20  # bytes of rows that are decoded at once


def open_png(content: Content) -> DecodedSource | PngSource:
    """Open a PNG of 8 or 16 bits; alpha is kept as the mask of valid pixels.

    Raises:
        Fault: see :func:`parse_png`; or the kind of image is not supported.
    """
    png = parse_png(content)
    header = png.header
    check_size(header.width, header.height, content.size)
    if header.color == PALETTE:
        raise refuse("a palette")
    if header.depth == 1:
        raise refuse("a 1-bit")
    if b"tRNS" in png.kinds:
        raise refuse("a transparent-colour (alpha)")
    if b"acTL" in png.kinds:
        raise refuse("an animated")
    if header.depth == 16 and header.color != GREY:
        import_extra("imagecodecs", "photo", "reading 16-bit colour PNG")
    found = png.embedded()
    if found.orientation == 1 and header.depth >= 8 and not header.interlaced:
        return PngSource(content, png, found)
    turned = found.orientation >= 5
    has_alpha = header.channels in (2, 4)
    channels = header.channels - has_alpha
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    raw_bytes = sum(rows * stride for rows, stride in header.passes())

    def decode() -> Rows:
        inflater = Inflater(content, png.data)
        raw = inflater.read(raw_bytes)
        inflater.finish()
        _check_filters(raw, header.passes())
        return split_alpha(_decode(header, header.height, raw))

    return DecodedSource(
        content.name,
        (header.height, header.width, channels),
        np.uint8 if header.depth <= 8 else np.uint16,
        has_alpha,
        found.upright(width, height, channels),
        decode,
        3 * raw_bytes,
        found.orientation,
        release=content.close,
    )


class PngSource:
    """A PNG whose rows are decoded when they are read, in the order of the file."""

    streams, linear = True, False

    def __init__(self, content: Content, png: Png, found: Embedded) -> None:
        header = png.header
        self.name, self.width, self.height = content.name, header.width, header.height
        self.has_alpha = header.channels in (2, 4)
        self.channels = header.channels - self.has_alpha
        self.dtype = np.dtype(np.uint8 if header.depth == 8 else np.uint16)
        self.metadata = found.upright(self.width, self.height, self.channels)
        self._content, self._png = content, png
        ((_, self._stride),) = header.passes()
        self._block_rows = max(1, _BLOCK // self._stride)
        self.resident_bytes = 5 * (self._block_rows + 1) * self._stride + 4 * _BLOCK
        self._restart()

    def rows(self, top: int, bottom: int) -> Rows:
        pixels = np.empty((bottom - top, self.width, self.channels), self.dtype)
        valid = np.empty((bottom - top, self.width), np.bool_) if self.has_alpha else None
        with report_faults(self.name):
            if top < self._next:
                self._restart()
            while self._next < bottom:
                start = self._next
                end = top if start < top else bottom
                block, mask = split_alpha(self._decode_rows(min(self._block_rows, end - start)))
                if start >= top:
                    pixels[start - top : self._next - top] = block
                    if valid is not None:
                        valid[start - top : self._next - top] = mask
        return pixels, valid

    def close(self) -> None:
        self._content.close()

    def _restart(self) -> None:
        """Go back to the first row."""
        self._inflater = Inflater(self._content, self._png.data)
        self._next, self._before = 0, b""

    def _decode_rows(self, count: int) -> NDArray[Any]:
        """Decode the next rows, with alpha as stored."""
        header = self._png.header
        raw = self._inflater.read(count * self._stride)
        _check_filters(raw, [(count, self._stride)])
        if self._before:
            raw = b"\0" + self._before + raw
            block = _decode(header, count + 1, raw)[1:]
        else:
            block = _decode(header, count, raw)
        self._before = block[-1].astype(block.dtype.newbyteorder(">")).tobytes()
        self._next += count
        if self._next == header.height:
            self._inflater.finish()
            self._content.check_unchanged()
        return block


def _check_filters(raw: bytes, passes: list[tuple[int, int]]) -> None:
    """Check that the first byte of every row names a filter."""
    start = 0
    for rows, stride in passes:
        end = start + rows * stride
        if raw[start:end:stride].translate(None, b"\0\1\2\3\4"):
            raise damaged("an unknown filter of a row")
        start = end


def _decode(header: Header, height: int, raw: bytes) -> NDArray[Any]:
    """Undo the filters of rows; return ``(height, W, C)`` with alpha as stored."""
    content = assemble(header, height, raw, [])
    if header.depth == 16:
        if header.color == GREY:
            pixels = np.asarray(PngImageFile(io.BytesIO(content))).astype(np.uint16)
        else:
            imagecodecs = import_extra("imagecodecs", "photo", "reading 16-bit colour PNG")
            pixels = imagecodecs.png_decode(content)
    else:
        pixels = np.asarray(PngImageFile(io.BytesIO(content)))
    return pixels.reshape(height, header.width, header.channels)

"""Read TIFF and BigTIFF: strips and tiles are decoded when their rows are read.

Pillow's libtiff decodes JPEG inside TIFF as a whole, and most 8-bit files that need imagecodecs if
it is not installed.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from fastmef.data.alpha import split_alpha
from fastmef.data.damage import damaged, report_faults
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.directories import check_directory
from fastmef.data.jpeg import check_jpeg, decode_jpeg
from fastmef.data.kinds import check_kind, refuse
from fastmef.data.libtiff import collect_errors
from fastmef.data.limits import max_whole_bytes
from fastmef.data.metadata import Embedded, Metadata
from fastmef.data.reading import Content
from fastmef.data.tiff_codecs import (
    check_length,
    decompress,
    require_decoders,
    undo_predictor,
)
from fastmef.data.tiff_layout import (
    ASSOCIATED,
    DEFLATE,
    JPEG,
    JPEG_TABLES,
    NONE,
    WHITE_IS_ZERO,
    YCBCR,
    ZSTD,
    Layout,
    read_embedded,
    read_layout,
    read_tags,
)
from fastmef.errors import MissingExtraError

_END_OF_JPEG = b"\xff\xd9"
_SLICE = 4 << 20  # bytes of an uncompressed strip that are read at once
_LARGEST_BAND = 64 << 20  # bytes; an image of larger strips is decoded as a whole


def open_tiff(content: Content) -> DecodedSource | TiffSource:
    """Open a TIFF of one page.

    Raises:
        Fault: the file is damaged, or of a kind that is not supported.
        MissingExtraError: its compression needs imagecodecs, which is not installed.
    """
    check_directory(content.read, content.size)
    with content.stream() as file:
        tags = read_tags(file, None, None)
        found = read_embedded(file, tags)
    layout = read_layout(tags, content)
    if layout.compression == JPEG or layout.photometric == YCBCR:
        return _open_by_libtiff(content, layout, tags, found)
    try:
        require_decoders(layout)
    except MissingExtraError:
        if layout.bits == 8 and layout.extra is None and layout.compression != ZSTD:
            return _open_by_libtiff(content, layout, tags, found)
        raise
    source = TiffSource(content, layout, found)
    if found.orientation == 1 and source.streams:
        return source
    shape = (layout.height, layout.width, source.channels)
    return DecodedSource(
        content.name, shape, source.dtype, source.has_alpha,
        _upright(found, layout, source.channels),
        lambda: source.rows(0, layout.height),
        source.resident_bytes, found.orientation, release=content.close,
    )  # fmt: skip


class TiffSource:
    """A TIFF whose strips or tiles are decoded when their rows are read, in any order."""

    linear = False

    def __init__(self, content: Content, layout: Layout, found: Embedded) -> None:
        self.name, self.width, self.height = content.name, layout.width, layout.height
        self.has_alpha = layout.extra is not None
        self.channels = layout.samples - self.has_alpha
        self.dtype = layout.dtype.newbyteorder("=")
        self.metadata = found.upright(self.width, self.height, self.channels)
        self._content, self._layout = content, layout
        # Rows of uncompressed strips are read without the rest of the strip.
        self._sliced = layout.compression == NONE and not layout.tiled
        self._slice_rows = max(1, _SLICE // layout.row_bytes)
        band = layout.row_bytes * layout.planes * layout.across * layout.tile[0]
        if self._sliced:
            band = min(band, max(_SLICE, layout.row_bytes))
        self.streams = self._sliced or band <= _LARGEST_BAND
        longest = 0 if self._sliced else max(layout.lengths, default=0)
        self.resident_bytes = 3 * band + min(longest, content.size)
        self._band: tuple[int, NDArray[Any]] | None = None

    def rows(self, top: int, bottom: int) -> Rows:
        layout = self._layout
        with report_faults(self.name):
            stored = np.empty((bottom - top, self.width, layout.samples), self.dtype)
            for band in range(top // layout.tile[0], -(-bottom // layout.tile[0])):
                start = band * layout.tile[0]
                first, last = max(top, start), min(bottom, start + layout.tile[0])
                target = stored[first - top : last - top]
                if self._sliced:
                    self._read_rows(band, first - start, target)
                else:
                    target[...] = self._decode_band(band)[first - start : last - start]
            if layout.photometric == WHITE_IS_ZERO:
                color = stored[..., : self.channels]
                np.subtract(np.iinfo(self.dtype).max, color, out=color)
            if bottom == self.height:
                self._content.check_unchanged()
            return split_alpha(stored, layout.extra == ASSOCIATED)

    def close(self) -> None:
        self._content.close()
        self._band = None

    def _read_rows(self, band: int, first: int, target: NDArray[Any]) -> None:
        """Read rows of an uncompressed strip, ``first`` rows below its top."""
        layout = self._layout
        for plane, part in enumerate(_split(target, layout.planes)):
            index = plane * layout.down + band
            check_length(layout.lengths[index], layout, band)
            for top in range(0, len(part), self._slice_rows):
                rows = part[top : top + self._slice_rows]
                offset = layout.offsets[index] + (first + top) * layout.row_bytes
                raw = self._content.read(offset, len(rows) * layout.row_bytes)
                if len(raw) != len(rows) * layout.row_bytes:
                    raise damaged("it is truncated")
                rows[...] = undo_predictor(raw, rows.shape, layout)

    def _decode_band(self, band: int) -> NDArray[Any]:
        """Return the pixels ``(rows, W, samples)`` of a row of tiles, or of a strip."""
        if self._band is not None and self._band[0] == band:
            return self._band[1]
        layout = self._layout
        self._band = None
        height, across = layout.rows_of(band), layout.across
        pixels = np.empty((height, across * layout.tile[1], layout.samples), self.dtype)
        for plane, part in enumerate(_split(pixels, layout.planes)):
            for column in range(across):
                index = (plane * layout.down + band) * across + column
                left = column * layout.tile[1]
                target = part[:, left : left + layout.tile[1]]
                target[...] = self._decode_tile(index, band, target.shape)
        self._band = (band, pixels[:, : self.width])
        return self._band[1]

    def _decode_tile(self, index: int, band: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Decompress one strip or tile to ``shape``."""
        layout = self._layout
        length = layout.lengths[index]
        part = self._content.read(layout.offsets[index], length)
        if len(part) != length:
            raise damaged("it is truncated")
        needed = shape[0] * layout.row_bytes
        if layout.compression == NONE:
            check_length(length, layout, band)
            raw = part
        else:
            raw = decompress(part, layout.compression, needed, layout.tile[0] * layout.row_bytes)
        return undo_predictor(raw[:needed], shape, layout)


def _split(pixels: NDArray[Any], planes: int) -> list[NDArray[Any]]:
    """Return a view for each plane, which holds the samples that are stored together."""
    if planes == 1:
        return [pixels]
    return [pixels[..., plane : plane + 1] for plane in range(planes)]


def _upright(found: Embedded, layout: Layout, channels: int) -> Metadata:
    """Return the metadata of the upright image."""
    turned = found.orientation >= 5
    width, height = (layout.height, layout.width) if turned else (layout.width, layout.height)
    return found.upright(width, height, channels)


def _open_by_libtiff(
    content: Content, layout: Layout, tags: dict[int, Any], found: Embedded
) -> DecodedSource:
    """Open an 8-bit TIFF that Pillow decodes as a whole."""
    if layout.bits != 8 or layout.extra is not None:
        raise refuse("a TIFF with JPEG inside that is not 8-bit RGB or grey:")
    metadata = _upright(found, layout, layout.samples)
    sides = (layout.height, layout.width)
    # Pillow turns the image upright when it loads it.
    shape = (*(sides[::-1] if found.orientation >= 5 else sides), layout.samples)

    def decode() -> Rows:
        whole = content.whole(max_whole_bytes())
        image = TiffImageFile(io.BytesIO(whole))
        check_kind(image, len(whole))
        _check_parts(layout, bytes(tags.get(JPEG_TABLES, b"")), whole)
        with collect_errors() as errors:
            pixels = np.array(image)
        if errors:
            raise damaged(f"{errors[0]} reports an error")
        return pixels.reshape(shape), None

    extra = content.size + 5 * layout.width * layout.height
    return DecodedSource(
        content.name, shape, np.uint8, False, metadata, decode, extra, release=content.close
    )


def _check_parts(layout: Layout, tables: bytes, content: bytes) -> None:
    """Check what libtiff leaves out: it stops at the last pixel, before a checksum."""
    most = layout.tile[0] * layout.row_bytes
    for index, (start, length) in enumerate(zip(layout.offsets, layout.lengths, strict=True)):
        part = content[start : start + length]
        if layout.compression == JPEG:
            _check_jpeg(part, tables, most)
        elif layout.compression in DEFLATE:
            band = index // layout.across % layout.down
            decompress(part, layout.compression, layout.rows_of(band) * layout.row_bytes, most)


def _check_jpeg(part: bytes, tables: bytes, most: int) -> None:
    """Refuse a damaged or oversized JPEG of a strip or tile."""
    whole = tables.removesuffix(_END_OF_JPEG) + part[2:] if tables else part
    check_jpeg(whole)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(whole)
    except ValueError as error:
        raise damaged(str(error)) from error
    if height * width > 2 * most + 4096:  # its sides are padded
        raise damaged(f"a part of the image has {width}×{height} pixels")
    decode_jpeg(whole)

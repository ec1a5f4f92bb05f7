"""TIFF and BigTIFF, written in strips of rows.

The directory stands at the start of the file, where its size is known before the strips are: it is
written a second time when they have been.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fastmef.data.exif import SUB_DIRECTORIES
from fastmef.data.extras import import_extra
from fastmef.data.output import Picture, WritesRows

_COMPRESSIONS = {"none": 1, "lzw": 5, "deflate": 8, "zstd": 50000}
_BLACK_IS_ZERO, _RGB = 1, 2
_HORIZONTAL, _UNASSOCIATED_ALPHA, _INCHES = 2, 2, 2
_SAMPLE_FORMATS = {"u": 1, "f": 3}

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS = 256, 257, 258, 259, 262, 273
_SAMPLES, _ROWS_PER_STRIP, _LENGTHS, _X_RESOLUTION, _Y_RESOLUTION = 277, 278, 279, 282, 283
_PLANAR, _UNIT, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 296, 317, 338, 339
_XMP, _IPTC, _PROFILE = 700, 33723, 34675

_CLASSIC = b"II\x2a\0" + bytes(4)
_BIG = b"II\x2b\0\x08\0\0\0" + bytes(8)
_CLASSIC_LIMIT = 4_000_000_000  # bytes; offsets have 32 bits, and compression may add a little
_STRIP_BYTES = 1 << 20


class TiffSink(WritesRows):
    """A TIFF whose strips are written as their rows come; a BigTIFF where it may exceed 4 GB.

    Args:
        picture: of any depth.
        compression: one of ``none``, ``deflate``, ``lzw`` and ``zstd``.
    """

    def __init__(self, picture: Picture, compression: str) -> None:
        super().__init__(picture)
        self._compression = compression
        # Differences between neighbours compress better, but not those of floats.
        self._predicts = compression != "none" and picture.stored.kind == "u"
        self._strip_rows = max(1, min(picture.height, _STRIP_BYTES // picture.row_bytes))
        self._strips = -(-picture.height // self._strip_rows)
        self._lengths: list[int] = []
        self._waiting: list[NDArray[Any]] = []
        raw = picture.height * picture.row_bytes
        embedded = sum(
            len(block or b"")
            for block in (
                picture.metadata.exif,
                picture.metadata.xmp,
                picture.metadata.iptc,
                picture.metadata.icc_profile,
            )
        )
        self._is_big = raw + raw // 100 + embedded > _CLASSIC_LIMIT
        self.resident_bytes = 4 * self._strip_rows * picture.row_bytes + (1 << 20)

    def add(self, rows: NDArray[Any]) -> None:
        if not self._done:
            self.file.write(self._directory([0] * self._strips))
        while len(rows):
            missing = self._strip_rows - sum(len(part) for part in self._waiting)
            self._waiting.append(rows[:missing])
            rows = rows[missing:]
            if sum(len(part) for part in self._waiting) == self._strip_rows:
                self._write_strip()
        # The rows belong to the caller, who may change them.
        self._waiting = [part.copy() for part in self._waiting]

    def finish(self) -> None:
        if self._waiting:
            self._write_strip()
        self.file.rewrite(0, self._directory(self._lengths))

    def _write_strip(self) -> None:
        """Write the rows that wait as one strip."""
        strip = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting = []
        content = self._compress(strip.astype(strip.dtype.newbyteorder("<"), copy=False))
        self.file.write(content)
        self._lengths.append(len(content))

    def _compress(self, strip: NDArray[Any]) -> Any:
        """Return the bytes of a strip."""
        if self._predicts:
            strip = np.diff(strip, axis=1, prepend=strip.dtype.type(0))
        raw = np.ascontiguousarray(strip).view(np.uint8).reshape(-1)
        if self._compression == "none":
            return raw.data
        if self._compression == "deflate":
            return zlib.compress(raw.data)
        codecs = import_extra("imagecodecs", "photo", "writing TIFF with LZW or ZSTD")
        encode = codecs.lzw_encode if self._compression == "lzw" else codecs.zstd_encode
        return bytes(encode(raw.tobytes()))

    def _directory(self, lengths: Sequence[int]) -> bytes:
        """Return header and directory of a file whose strips follow them."""
        picture = self.picture
        directory = ImageFileDirectory_v2(_BIG if self._is_big else _CLASSIC)
        kind = TiffTags.LONG8 if self._is_big else TiffTags.LONG
        for tag in (_OFFSETS, _LENGTHS):
            directory.tagtype[tag] = kind
        directory.tagtype[_ROWS_PER_STRIP] = TiffTags.LONG
        self._add_metadata(directory)
        directory[_WIDTH], directory[_HEIGHT] = picture.width, picture.height
        directory[_BITS] = (8 * picture.stored.itemsize,) * picture.samples
        directory[_COMPRESSION] = _COMPRESSIONS[self._compression]
        directory[_PHOTOMETRIC] = _BLACK_IS_ZERO if picture.channels == 1 else _RGB
        directory[_SAMPLES], directory[_PLANAR] = picture.samples, 1
        directory[_SAMPLE_FORMAT] = (_SAMPLE_FORMATS[picture.stored.kind],) * picture.samples
        if self._predicts:
            directory[_PREDICTOR] = _HORIZONTAL
        if picture.alpha:
            directory[_EXTRA_SAMPLES] = _UNASSOCIATED_ALPHA
        directory[_ROWS_PER_STRIP] = self._strip_rows
        # Pillow adds where the directory ends, which is where the strips begin.
        directory[_OFFSETS] = tuple(int(n) for n in np.cumsum([0, *lengths])[:-1])
        directory[_LENGTHS] = tuple(lengths)
        header = directory._get_ifh()
        return header + directory.tobytes(len(header))

    def _add_metadata(self, directory: ImageFileDirectory_v2) -> None:
        """Add EXIF, XMP, IPTC, colour profile and resolution."""
        metadata = self.picture.metadata
        if metadata.exif:
            exif = Image.Exif()
            exif.load(metadata.exif)
            for tag in exif:
                directory[tag] = exif.get_ifd(tag) if tag in SUB_DIRECTORIES else exif[tag]
        if metadata.resolution:
            directory[_X_RESOLUTION], directory[_Y_RESOLUTION] = metadata.resolution
            directory[_UNIT] = _INCHES
        for tag, kind, block in (
            (_XMP, TiffTags.BYTE, metadata.xmp),
            (_IPTC, TiffTags.UNDEFINED, metadata.iptc),
            (_PROFILE, TiffTags.UNDEFINED, metadata.icc_profile),
        ):
            if block:
                directory.tagtype[tag] = kind
                directory[tag] = block

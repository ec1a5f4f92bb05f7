"""Write TIFF and BigTIFF files in strips or tiles while rows arrive.

The directory is at the start of the file. Its size is known before the lengths of the parts are, so
it is written twice: first to reserve the space, and again after the last part.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fastmef.data.encoding import OrderedEncoder
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
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_LENGTHS = 322, 323, 324, 325
_XMP, _IPTC, _PROFILE = 700, 33723, 34675

_CLASSIC = b"II\x2a\0" + bytes(4)
_BIG = b"II\x2b\0\x08\0\0\0" + bytes(8)
_CLASSIC_LIMIT = 4_000_000_000  # bytes; offsets have 32 bits, and compression may add a little
_STRIP_BYTES = 1 << 20


class TiffSink(WritesRows):
    """Write a TIFF in parts as rows arrive; a BigTIFF if it may exceed 4 GB.

    Args:
        picture: the image, of any depth.
        compression: one of ``none``, ``deflate``, ``lzw`` and ``zstd``.
        tile: rows and columns of a tile, a multiple of 16; ``None`` writes strips.
    """

    def __init__(self, picture: Picture, compression: str, tile: int | None = None) -> None:
        super().__init__(picture)
        self._compression, self._tile = compression, tile
        # Differences between neighbours compress better, except in floating point.
        self._predicts = compression != "none" and picture.stored.kind == "u"
        strip = max(1, min(picture.height, _STRIP_BYTES // picture.row_bytes))
        self._band_rows = strip if tile is None else tile
        self._across = 1 if tile is None else -(-picture.width // tile)
        self._down = -(-picture.height // self._band_rows)
        self._begin = 0  # offset of the first part, behind the directory
        self._lengths: list[int] = []
        self._waiting: list[NDArray[Any]] = []
        self._encoder = OrderedEncoder(self._compress, self._write_part)
        raw = picture.height * picture.row_bytes
        if tile is not None:
            pixel = picture.samples * picture.stored.itemsize
            raw = self._down * self._across * tile * tile * pixel
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
        part = raw // (self._down * self._across)
        band = part * self._across
        # Three copies of a band: collected, joined, and cut into tiles. Three of every part that is
        # encoded: its pixels, their differences, and its code.
        self.resident_bytes = 3 * band + 3 * self._encoder.most_parts * part + (1 << 20)

    def add(self, rows: NDArray[Any]) -> None:
        if not self._done:
            nothing = [0] * (self._down * self._across)
            self._begin = len(self._directory(nothing))
            self.file.write(self._directory(nothing))
        while len(rows):
            missing = self._band_rows - sum(len(part) for part in self._waiting)
            self._waiting.append(rows[:missing])
            rows = rows[missing:]
            if sum(len(part) for part in self._waiting) == self._band_rows:
                self._write_band()
        # The caller may change its rows after this call.
        self._waiting = [part.copy() for part in self._waiting]

    def finish(self) -> None:
        if self._waiting:
            self._write_band()
        self._encoder.finish()
        self.file.rewrite(0, self._directory(self._lengths))

    def abort(self) -> None:
        super().abort()
        self._encoder.stop()

    def _write_band(self) -> None:
        """Write the collected rows as a strip, or as a row of tiles."""
        waiting, self._waiting = self._waiting, []
        little = self.picture.stored.newbyteorder("<")
        if self._tile is None and self._compression == "none":
            strip = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            self._write_part(self._compress(strip.astype(little, copy=False)))
            return
        band = np.concatenate(waiting).astype(little, copy=False)
        if self._tile is None:
            self._encoder.submit(band)
            return
        for left in range(0, self.picture.width, self._tile):
            self._encoder.submit(_filled(band[:, left : left + self._tile], self._tile))

    def _write_part(self, content: Any) -> None:
        self.file.write(content)
        self._lengths.append(len(content))

    def _compress(self, part: NDArray[Any]) -> Any:
        """Return the bytes of a strip or tile."""
        if self._predicts:
            part = np.diff(part, axis=1, prepend=part.dtype.type(0))
        raw = np.ascontiguousarray(part).view(np.uint8).reshape(-1)
        if self._compression == "none":
            return raw.data
        if self._compression == "deflate":
            return zlib.compress(raw.data)
        codecs = import_extra("imagecodecs", "photo", "writing TIFF with LZW or ZSTD")
        encode = codecs.lzw_encode if self._compression == "lzw" else codecs.zstd_encode
        return bytes(encode(raw.tobytes()))

    def _directory(self, lengths: Sequence[int]) -> bytes:
        """Return header and directory of a file whose parts have these lengths."""
        picture = self.picture
        directory = ImageFileDirectory_v2(_BIG if self._is_big else _CLASSIC)
        kind = TiffTags.LONG8 if self._is_big else TiffTags.LONG
        for tag in (_OFFSETS, _LENGTHS, _TILE_OFFSETS, _TILE_LENGTHS):
            directory.tagtype[tag] = kind
        for tag in (_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT):
            directory.tagtype[tag] = TiffTags.LONG
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
        begins = [int(n) for n in np.cumsum([0, *lengths])[:-1]]
        if self._tile is None:
            directory[_ROWS_PER_STRIP] = self._band_rows
            # Pillow adds the size of header and directory to offsets of strips.
            directory[_OFFSETS], directory[_LENGTHS] = tuple(begins), tuple(lengths)
        else:
            directory[_TILE_WIDTH] = directory[_TILE_HEIGHT] = self._tile
            directory[_TILE_OFFSETS] = tuple(self._begin + begin for begin in begins)
            directory[_TILE_LENGTHS] = tuple(lengths)
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


def _filled(part: NDArray[Any], side: int) -> NDArray[Any]:
    """Pad pixels to ``side`` rows and columns by repeating the last ones."""
    missing = side - part.shape[0], side - part.shape[1]
    return np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")

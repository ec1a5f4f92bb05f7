"""TIFF and BigTIFF: strips and tiles are decoded when their rows are asked for.

Pillow reads the directory, zlib and imagecodecs decompress. What they do not read, JPEG inside
TIFF, and LZW where imagecodecs is not installed, is decoded as a whole by libtiff, in Pillow.
"""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from fastmef.data.alpha import split_alpha
from fastmef.data.damage import damaged, report_faults
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.directories import check_directory
from fastmef.data.exif import SUB_DIRECTORIES
from fastmef.data.extras import import_extra
from fastmef.data.jpeg import check_jpeg, decode_jpeg
from fastmef.data.kinds import check_kind, check_size, refuse
from fastmef.data.libtiff import collect_errors
from fastmef.data.limits import max_whole_bytes
from fastmef.data.metadata import Embedded, orientation
from fastmef.data.reading import Content
from fastmef.errors import MissingExtraError

_NONE, _LZW, _JPEG, _DEFLATE, _PACKBITS, _ZSTD = 1, 5, 7, (8, 32946), 32773, 50000
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_PHOTOMETRICS = {3: "a palette", 4: "a mask", 5: "a CMYK", 6: "a YCbCr", 8: "a Lab", 9: "a Lab"}
_HORIZONTAL, _FLOATING = 2, 3  # predictors
_UNSIGNED, _FLOAT = 1, 3  # sample formats
_DTYPES = {(_UNSIGNED, 8): "u1", (_UNSIGNED, 16): "u2", (_FLOAT, 16): "f2", (_FLOAT, 32): "f4"}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of alpha

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP, _X_RESOLUTION, _Y_RESOLUTION = 266, 277, 278, 282, 283
_PLANAR, _UNIT, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 296, 317, 338, 339
_STRIPS, _TILES, _TILE_WIDTH, _TILE_HEIGHT, _JPEG_TABLES = (273, 279), (324, 325), 322, 323, 347
_XMP, _IPTC, _PROFILE, _DNG_VERSION = 700, 33723, 34675, 50706

_PADDING = 3  # bytes to the next word, which some writers count
_LARGEST_PADDING, _UNQUESTIONED_TILE = 4, 1 << 22  # a tile may be larger than a small image
_END_OF_JPEG = b"\xff\xd9"
_CENTIMETRES_PER_INCH = 2.54
_SLICE = 4 << 20  # bytes of an uncompressed strip that are read at once
_LARGEST_BAND = 64 << 20  # bytes; an image of larger strips is decoded once, as a whole


@dataclass(frozen=True)
class Layout:
    """How the pixels of a TIFF are stored."""

    width: int
    height: int
    samples: int
    bits: int
    dtype: np.dtype[Any]
    """In the byte order of the file."""
    compression: int
    photometric: int
    predictor: int
    planes: int
    """1, or the samples where each is stored apart."""
    tile: tuple[int, int]
    """Rows and columns of a strip or tile."""
    tiled: bool
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    extra: int | None
    """The kind of the last sample where it is alpha."""

    @property
    def across(self) -> int:
        return -(-self.width // self.tile[1])

    @property
    def down(self) -> int:
        return -(-self.height // self.tile[0])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a strip or tile without compression."""
        return self.tile[1] * self.samples // self.planes * self.bits // 8

    def rows_of(self, band: int) -> int:
        """Return the rows that a band of strips or tiles must have; the last may be short."""
        return self.tile[0] if self.tiled else min(self.tile[0], self.height - band * self.tile[0])


def open_tiff(content: Content) -> DecodedSource | TiffSource:
    """Open a TIFF of one page.

    Raises:
        Fault: it is damaged, or of a kind that is not supported.
        MissingExtraError: its compression needs imagecodecs.
    """
    check_directory(content.read, content.size)
    with content.stream() as file:
        tags = _load(file, None, None)
        found = _embedded(file, tags)
    layout = _layout(tags, content)
    if layout.compression == _JPEG or layout.photometric == _YCBCR:
        return _open_by_libtiff(content, layout, tags, found)
    try:
        _require_decoders(layout)
    except MissingExtraError:
        if layout.bits == 8 and layout.extra is None and layout.compression != _ZSTD:
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
    """A TIFF whose strips or tiles are decoded when their rows are asked for, in any order."""

    linear = False

    def __init__(self, content: Content, layout: Layout, found: Embedded) -> None:
        self.name, self.width, self.height = content.name, layout.width, layout.height
        self.has_alpha = layout.extra is not None
        self.channels = layout.samples - self.has_alpha
        self.dtype = layout.dtype.newbyteorder("=")
        self.metadata = found.upright(self.width, self.height, self.channels)
        self._content, self._layout = content, layout
        # Rows of uncompressed strips are read where they lie, without the rest of the strip.
        self._sliced = layout.compression == _NONE and not layout.tiled
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
            if layout.photometric == _WHITE_IS_ZERO:
                color = stored[..., : self.channels]
                np.subtract(np.iinfo(self.dtype).max, color, out=color)
            if bottom == self.height:
                self._content.check_unchanged()
            return split_alpha(stored, layout.extra == _ASSOCIATED)

    def close(self) -> None:
        self._content.close()
        self._band = None

    def _read_rows(self, band: int, first: int, target: NDArray[Any]) -> None:
        """Read rows of an uncompressed strip, ``first`` rows below its top."""
        layout = self._layout
        for plane, part in enumerate(_split(target, layout.planes)):
            index = plane * layout.down + band
            _check_length(layout.lengths[index], layout, band)
            for top in range(0, len(part), self._slice_rows):
                rows = part[top : top + self._slice_rows]
                offset = layout.offsets[index] + (first + top) * layout.row_bytes
                raw = self._content.read(offset, len(rows) * layout.row_bytes)
                if len(raw) != len(rows) * layout.row_bytes:
                    raise damaged("it is truncated")
                rows[...] = _undo_predictor(raw, rows.shape, layout)

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
        layout = self._layout
        length = layout.lengths[index]
        part = self._content.read(layout.offsets[index], length)
        if len(part) != length:
            raise damaged("it is truncated")
        needed = shape[0] * layout.row_bytes
        if layout.compression == _NONE:
            _check_length(length, layout, band)
            raw = part
        else:
            raw = _decompress(part, layout.compression, needed, layout.tile[0] * layout.row_bytes)
        return _undo_predictor(raw[:needed], shape, layout)


def _load(file: Any, offset: int | None, group: int | None) -> dict[int, Any]:
    """Return the tags of the first directory, or of the one at ``offset``."""
    file.seek(0)
    header = file.read(8)
    if header[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        header += file.read(8)
    # Pillow recognises a BigTIFF by the bytes of the little-endian one.
    signature = b"II+\0" if len(header) > 8 else header[:4]
    directory = ImageFileDirectory_v2(signature + header[4:], header[:2], group)
    file.seek(directory.next if offset is None else offset)
    directory.load(file)
    tags = {}
    for tag in directory:
        # Pillow does not read the numbers of a damaged or unknown tag.
        with suppress(Exception):
            tags[tag] = directory[tag]
    return tags


def _embedded(file: Any, tags: dict[int, Any]) -> Embedded:
    directories = {}
    for tag in SUB_DIRECTORIES:
        with suppress(Exception):  # damaged EXIF must not cost the photograph
            if isinstance(tags.get(tag), int):
                directories[int(tag)] = _load(file, tags[tag], tag)
    info: dict[str, Any] = {"xmp": tags.get(_XMP), "icc_profile": tags.get(_PROFILE)}
    iptc = tags.get(_IPTC)
    info["iptc"] = iptc if isinstance(iptc, bytes) else None
    with suppress(Exception):
        unit = _CENTIMETRES_PER_INCH if tags.get(_UNIT, 2) == 3 else 1.0
        info["dpi"] = (float(tags[_X_RESOLUTION]) * unit, float(tags[_Y_RESOLUTION]) * unit)
    return Embedded(orientation(tags), tags, directories, info)


def _layout(tags: dict[int, Any], content: Content) -> Layout:
    def number(tag: int, default: int | None = None) -> int:
        value = tags.get(tag, default)
        if not isinstance(value, int):
            raise damaged(f"its tag {tag} is missing or no number")
        return value

    width, height = number(_WIDTH), number(_HEIGHT)
    check_size(width, height, content.size)
    if number(_SUBFILE, 0) & 1 or _DNG_VERSION in tags:
        raise refuse("a camera raw")  # what lies openly in it is the preview
    photometric, compression = number(_PHOTOMETRIC), number(_COMPRESSION, _NONE)
    samples, planar = number(_SAMPLES, 1), number(_PLANAR, 1)
    bits = _same(tags.get(_BITS, 1), samples, "bits")
    kind = _same(tags.get(_SAMPLE_FORMAT, _UNSIGNED), samples, "formats")
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        raise refuse(_PHOTOMETRICS.get(photometric, f"a photometric-{photometric}"))
    if photometric == _YCBCR and compression != _JPEG:
        raise refuse(_PHOTOMETRICS[photometric])
    dtype = _DTYPES.get((kind, bits))
    if dtype is None:
        raise refuse(f"a {bits}-bit" + {2: " signed", _FLOAT: " floating-point"}.get(kind, ""))
    if kind == _FLOAT and photometric == _WHITE_IS_ZERO:
        raise refuse("an inverted floating-point")
    color = 3 if photometric in (_RGB, _YCBCR) else 1
    extra = None
    if samples == color + 1:
        extras = tags.get(_EXTRA_SAMPLES, ())
        extra = extras if isinstance(extras, int) else next(iter(extras), 0)
        if extra not in (_ASSOCIATED, _UNASSOCIATED):
            raise refuse("a TIFF with a channel that is no alpha:")
    elif samples != color:
        raise refuse(f"a {samples}-channel")
    if number(_FILL_ORDER, 1) != 1:
        raise refuse("a bit-reversed")
    order = "<" if content.read(0, 1) == b"I" else ">"
    tiled = _TILES[0] in tags
    if tiled:
        tile = number(_TILE_HEIGHT), number(_TILE_WIDTH)
    else:
        tile = min(number(_ROWS_PER_STRIP, height), height), width
    if min(tile) < 1:
        raise damaged("its strips or tiles have no size")
    if tile[0] * tile[1] > max(_LARGEST_PADDING * width * height, _UNQUESTIONED_TILE):
        raise damaged(f"its tiles of {tile[1]}×{tile[0]} pixels are larger than the image")
    offsets, lengths = (_numbers(tags.get(tag, ())) for tag in (_TILES if tiled else _STRIPS))
    layout = Layout(
        width, height, samples, bits, np.dtype(order + dtype), compression, photometric,
        number(_PREDICTOR, 1), samples if planar == 2 else 1, tile, tiled, offsets, lengths, extra,
    )  # fmt: skip
    parts = layout.across * layout.down * layout.planes
    if not len(offsets) == len(lengths) == parts:
        raise damaged(f"{min(len(offsets), len(lengths))} of {parts} parts of the image")
    for start, length in zip(offsets, lengths, strict=True):
        if start + length > content.size:
            raise damaged("it is truncated")
    return layout


def _same(values: Any, samples: int, what: str) -> int:
    """Return the number that all samples have."""
    found = set(_numbers(values))
    if len(found) != 1:
        raise refuse(f"a TIFF with channels of several {what}:")
    return found.pop()


def _numbers(values: Any) -> tuple[int, ...]:
    numbers = values if isinstance(values, tuple) else (values,)
    if not all(isinstance(value, int) for value in numbers):
        raise damaged("a tag that must hold numbers does not")
    return numbers


def _require_decoders(layout: Layout) -> None:
    """Find out whether the pixels can be decompressed.

    Raises:
        Fault: by nothing that is known here.
        MissingExtraError: by imagecodecs, which is not installed.
    """
    known = (_NONE, *_DEFLATE, _LZW, _PACKBITS, _ZSTD)
    if layout.compression not in known:
        raise refuse(f"a TIFF with compression {layout.compression}:")
    if layout.predictor not in (1, _HORIZONTAL, _FLOATING):
        raise refuse(f"a TIFF with predictor {layout.predictor}:")
    if layout.predictor == _FLOATING and layout.dtype.kind != "f":
        raise damaged("it has a predictor for floating-point numbers")
    if layout.compression not in (_NONE, *_DEFLATE) or layout.predictor != 1:
        import_extra("imagecodecs", "photo", "reading TIFF with LZW, PackBits, ZSTD or a predictor")


def _check_length(length: int, layout: Layout, band: int) -> None:
    """Check the bytes of an uncompressed part; some writers fill the last strip with more rows."""
    needed, most = layout.rows_of(band) * layout.row_bytes, layout.tile[0] * layout.row_bytes
    if not needed <= length <= most + _PADDING:
        raise damaged(f"a part of the image has {length} instead of {needed} bytes")


def _decompress(part: bytes, compression: int, needed: int, most: int) -> bytes:
    """Return at least ``needed`` bytes; at most ``most`` are made, however many there would be."""
    if compression in _DEFLATE:
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(part, most + 1)
        except zlib.error as error:
            raise damaged("its image data cannot be decompressed") from error
        if len(raw) < needed or not stream.eof:
            raise damaged("its image data end too early or too late")
        return raw
    codecs = import_extra("imagecodecs", "photo", "reading TIFF with LZW, PackBits or ZSTD")
    decoder = {
        _LZW: codecs.lzw_decode, _PACKBITS: codecs.packbits_decode, _ZSTD: codecs.zstd_decode
    }[compression]  # fmt: skip
    try:
        raw = decoder(part, out=bytearray(most))
    except Exception as error:  # each codec has an error of its own
        raise damaged("its image data cannot be decompressed") from error
    if len(raw) < needed:
        raise damaged("its image data end too early")
    return bytes(raw)


def _undo_predictor(raw: bytes, shape: tuple[int, ...], layout: Layout) -> NDArray[Any]:
    if layout.predictor == _FLOATING:
        codecs = import_extra("imagecodecs", "photo", "reading TIFF with a predictor")
        stored = np.frombuffer(raw, layout.dtype.newbyteorder(">")).reshape(shape)
        return codecs.floatpred_decode(stored, axis=-2).astype(layout.dtype.newbyteorder("="))
    pixels = np.frombuffer(raw, layout.dtype).reshape(shape)
    if layout.predictor == _HORIZONTAL:
        codecs = import_extra("imagecodecs", "photo", "reading TIFF with a predictor")
        unsigned = pixels.astype(layout.dtype.newbyteorder("=")).view(f"u{layout.bits // 8}")
        pixels = codecs.delta_decode(unsigned, axis=-2).view(layout.dtype.newbyteorder("="))
    return pixels


def _split(pixels: NDArray[Any], planes: int) -> list[NDArray[Any]]:
    """Return views of the samples that are stored together."""
    if planes == 1:
        return [pixels]
    return [pixels[..., plane : plane + 1] for plane in range(planes)]


def _upright(found: Embedded, layout: Layout, channels: int) -> Any:
    turned = found.orientation >= 5
    width, height = (layout.height, layout.width) if turned else (layout.width, layout.height)
    return found.upright(width, height, channels)


def _open_by_libtiff(
    content: Content, layout: Layout, tags: dict[int, Any], found: Embedded
) -> DecodedSource:
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
        _check_parts(layout, bytes(tags.get(_JPEG_TABLES, b"")), whole)
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
        if layout.compression == _JPEG:
            _check_jpeg(part, tables, most)
        elif layout.compression in _DEFLATE:
            band = index // layout.across % layout.down
            _decompress(part, layout.compression, layout.rows_of(band) * layout.row_bytes, most)


def _check_jpeg(part: bytes, tables: bytes, most: int) -> None:
    whole = tables.removesuffix(_END_OF_JPEG) + part[2:] if tables else part
    check_jpeg(whole)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(whole)
    except ValueError as error:
        raise damaged(str(error)) from error
    if height * width > 2 * most + 4096:  # its sides are padded
        raise damaged(f"a part of the image has {width}×{height} pixels")
    decode_jpeg(whole)

"""Read and check the directory of a TIFF, which says how its pixels are stored."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fastmef.data.damage import damaged
from fastmef.data.exif import SUB_DIRECTORIES
from fastmef.data.kinds import check_size, refuse
from fastmef.data.metadata import Embedded, orientation
from fastmef.data.reading import Content

NONE, LZW, JPEG, DEFLATE, PACKBITS, ZSTD = 1, 5, 7, (8, 32946), 32773, 50000
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha
JPEG_TABLES = 347

_PHOTOMETRICS = {3: "a palette", 4: "a mask", 5: "a CMYK", 6: "a YCbCr", 8: "a Lab", 9: "a Lab"}
_UNSIGNED, _FLOAT = 1, 3  # sample formats
_DTYPES = {(_UNSIGNED, 8): "u1", (_UNSIGNED, 16): "u2", (_FLOAT, 16): "f2", (_FLOAT, 32): "f4"}

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP, _X_RESOLUTION, _Y_RESOLUTION = 266, 277, 278, 282, 283
_PLANAR, _UNIT, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 296, 317, 338, 339
_STRIPS, _TILES, _TILE_WIDTH, _TILE_HEIGHT = (273, 279), (324, 325), 322, 323
_XMP, _IPTC, _PROFILE, _DNG_VERSION = 700, 33723, 34675, 50706

# The pixels of a tile may be at most four times those of the image, but small ones are accepted.
_LARGEST_PADDING, _UNQUESTIONED_TILE = 4, 1 << 22
_CENTIMETRES_PER_INCH = 2.54


@dataclass(frozen=True)
class Layout:
    """How the pixels of a TIFF are stored."""

    width: int
    height: int
    samples: int
    bits: int
    dtype: np.dtype[Any]
    """Dtype of a sample in the byte order of the file."""
    compression: int
    photometric: int
    predictor: int
    planes: int
    """1, or the number of samples if each is stored in a plane of its own."""
    tile: tuple[int, int]
    """Rows and columns of a strip or tile."""
    tiled: bool
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    extra: int | None
    """The kind of alpha in the last sample; ``None`` without alpha."""

    @property
    def across(self) -> int:
        """Return the number of tiles in a row of tiles."""
        return -(-self.width // self.tile[1])

    @property
    def down(self) -> int:
        """Return the number of strips, or of rows of tiles."""
        return -(-self.height // self.tile[0])

    @property
    def row_bytes(self) -> int:
        """Return the uncompressed bytes of a row of a strip or tile."""
        return self.tile[1] * self.samples // self.planes * self.bits // 8

    def rows_of(self, band: int) -> int:
        """Return the number of rows of a strip or tile; the last strip may be shorter."""
        return self.tile[0] if self.tiled else min(self.tile[0], self.height - band * self.tile[0])


def read_tags(file: Any, offset: int | None, group: int | None) -> dict[int, Any]:
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
        # Pillow raises an error for a damaged or unknown tag.
        with suppress(Exception):
            tags[tag] = directory[tag]
    return tags


def read_embedded(file: Any, tags: dict[int, Any]) -> Embedded:
    """Return the metadata; damaged EXIF is left out."""
    directories = {}
    for tag in SUB_DIRECTORIES:
        with suppress(Exception):  # damaged EXIF must not cost the photograph
            if isinstance(tags.get(tag), int):
                directories[int(tag)] = read_tags(file, tags[tag], tag)
    info: dict[str, Any] = {"xmp": tags.get(_XMP), "icc_profile": tags.get(_PROFILE)}
    iptc = tags.get(_IPTC)
    info["iptc"] = iptc if isinstance(iptc, bytes) else None
    with suppress(Exception):
        unit = _CENTIMETRES_PER_INCH if tags.get(_UNIT, 2) == 3 else 1.0
        info["dpi"] = (float(tags[_X_RESOLUTION]) * unit, float(tags[_Y_RESOLUTION]) * unit)
    return Embedded(orientation(tags), tags, directories, info)


def read_layout(tags: dict[int, Any], content: Content) -> Layout:
    """Check the tags of a TIFF and return its layout.

    Raises:
        Fault: the tags contradict each other or the file, or the kind of image is not supported.
    """

    def number(tag: int, default: int | None = None) -> int:
        value = tags.get(tag, default)
        if not isinstance(value, int):
            raise damaged(f"its tag {tag} is missing or no number")
        return value

    width, height = number(_WIDTH), number(_HEIGHT)
    check_size(width, height, content.size)
    if number(_SUBFILE, 0) & 1 or _DNG_VERSION in tags:
        raise refuse("a camera raw")  # only its preview could be read
    photometric, compression = number(_PHOTOMETRIC), number(_COMPRESSION, NONE)
    samples, planar = number(_SAMPLES, 1), number(_PLANAR, 1)
    bits = _same(tags.get(_BITS, 1), samples, "bits")
    kind = _same(tags.get(_SAMPLE_FORMAT, _UNSIGNED), samples, "formats")
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR):
        raise refuse(_PHOTOMETRICS.get(photometric, f"a photometric-{photometric}"))
    if photometric == YCBCR and compression != JPEG:
        raise refuse(_PHOTOMETRICS[photometric])
    dtype = _DTYPES.get((kind, bits))
    if dtype is None:
        raise refuse(f"a {bits}-bit" + {2: " signed", _FLOAT: " floating-point"}.get(kind, ""))
    if kind == _FLOAT and photometric == WHITE_IS_ZERO:
        raise refuse("an inverted floating-point")
    color = 3 if photometric in (RGB, YCBCR) else 1
    extra = None
    if samples == color + 1:
        extras = tags.get(_EXTRA_SAMPLES, ())
        extra = extras if isinstance(extras, int) else next(iter(extras), 0)
        if extra not in (ASSOCIATED, UNASSOCIATED):
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
    """Return the value of a tag, which must be the same for all samples."""
    found = set(_numbers(values))
    if len(found) != 1:
        raise refuse(f"a TIFF with channels of several {what}:")
    return found.pop()


def _numbers(values: Any) -> tuple[int, ...]:
    """Return the value or values of a tag that must hold integers."""
    numbers = values if isinstance(values, tuple) else (values,)
    if not all(isinstance(value, int) for value in numbers):
        raise damaged("a tag that must hold numbers does not")
    return numbers

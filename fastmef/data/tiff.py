"""The checks that Pillow and libtiff leave out for TIFF: missing pixels, and checksums."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import simplejpeg
from PIL import Image

from fastmef.data.damage import damaged
from fastmef.data.jpeg import check_jpeg, decode_jpeg

_NONE, _JPEG, _DEFLATE = 1, 7, (8, 32946)
_YCBCR = 6
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_ROWS_PER_STRIP, _PLANAR, _JPEG_TABLES = 278, 284, 347
_STRIPS, _TILES = (273, 279), (324, 325)
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PADDING = 3  # bytes to the next word, which some writers count
_END_OF_JPEG = b"\xff\xd9"


def check_strips(image: Image.Image, content: bytes) -> None:
    """Check the strips or tiles of an opened, not yet decoded TIFF.

    Pillow leaves rows without a strip black, and libtiff stops reading at the last pixel, before
    the checksum that follows it.

    Raises:
        Fault: a strip is missing, too short, outside the file, or its data are damaged.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    starts, lengths = (tags.get(tag, ()) for tag in (_TILES if _TILES[0] in tags else _STRIPS))
    sizes = list(_sizes(tags))
    if not len(starts) == len(lengths) == len(sizes):
        raise damaged(f"{min(len(starts), len(lengths))} of {len(sizes)} parts of the image")
    compression = tags.get(_COMPRESSION, _NONE)
    subsampled = tags.get(_PHOTOMETRIC) == _YCBCR
    for start, length, (size, most) in zip(starts, lengths, sizes, strict=True):
        part = content[start : start + length]
        if len(part) != length:
            raise damaged("it is truncated")
        if compression == _JPEG:
            _check_jpeg(part, bytes(tags.get(_JPEG_TABLES, b"")), most)
        elif compression in _DEFLATE:
            _check_deflate(part, 0 if subsampled else size, most)
        elif compression == _NONE and not subsampled and not size <= length <= most + _PADDING:
            raise damaged(f"a part of the image has {length} instead of {size} bytes")


def _sizes(tags: Any) -> Iterator[tuple[int, int]]:
    """Yield the bytes of every strip or tile without compression: those needed, and the most.

    Some writers fill the last strip with rows below the image.
    """
    width, height = tags[_WIDTH], tags[_HEIGHT]
    samples, bits = tags.get(_SAMPLES, 1), tags.get(_BITS, (1,))
    depth = bits[0] * samples if len(bits) == 1 else sum(bits)
    planes = samples if tags.get(_PLANAR, 1) == 2 else 1
    for _ in range(planes):
        if _TILES[0] in tags:
            across, down = tags[_TILE_WIDTH], tags[_TILE_HEIGHT]
            size = (across * depth // planes + 7) // 8 * down
            yield from [(size, size)] * (-(-width // across) * -(-height // down))
        else:
            rows = min(tags.get(_ROWS_PER_STRIP, height), height)
            stride = (width * depth // planes + 7) // 8
            for top in range(0, height, rows):
                yield min(rows, height - top) * stride, rows * stride


def _check_deflate(part: bytes, size: int, most: int) -> None:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(part, most + 1)
    except zlib.error as error:
        raise damaged("its image data cannot be decompressed") from error
    if len(raw) < size or not stream.eof:
        raise damaged("its image data end too early or too late")


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

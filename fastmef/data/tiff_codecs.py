"""Decompress the strips and tiles of a TIFF with zlib and imagecodecs."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.damage import damaged
from fastmef.data.extras import import_extra
from fastmef.data.kinds import refuse
from fastmef.data.tiff_layout import DEFLATE, LZW, NONE, PACKBITS, ZSTD, Layout

_HORIZONTAL, _FLOATING = 2, 3  # predictors
_PADDING = 3  # most bytes of padding to a word, which some writers include in the length


def require_decoders(layout: Layout) -> None:
    """Check that the pixels can be decompressed.

    Raises:
        Fault: the compression or predictor is not supported.
        MissingExtraError: it needs imagecodecs, which is not installed.
    """
    known = (NONE, *DEFLATE, LZW, PACKBITS, ZSTD)
    if layout.compression not in known:
        raise refuse(f"a TIFF with compression {layout.compression}:")
    if layout.predictor not in (1, _HORIZONTAL, _FLOATING):
        raise refuse(f"a TIFF with predictor {layout.predictor}:")
    if layout.predictor == _FLOATING and layout.dtype.kind != "f":
        raise damaged("it has a predictor for floating-point numbers")
    if layout.compression not in (NONE, *DEFLATE) or layout.predictor != 1:
        import_extra("imagecodecs", "photo", "reading TIFF with LZW, PackBits, ZSTD or a predictor")


def check_length(length: int, layout: Layout, band: int) -> None:
    """Check the length of an uncompressed strip or tile.

    Some writers fill up the last strip with further rows.
    """
    needed, most = layout.rows_of(band) * layout.row_bytes, layout.tile[0] * layout.row_bytes
    if not needed <= length <= most + _PADDING:
        raise damaged(f"a part of the image has {length} instead of {needed} bytes")


def decompress(part: bytes, compression: int, needed: int, most: int) -> bytes:
    """Decompress a strip or tile to at least ``needed`` bytes.

    At most about ``most`` bytes are allocated, even if the data decompress to more.
    """
    if compression in DEFLATE:
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
        LZW: codecs.lzw_decode, PACKBITS: codecs.packbits_decode, ZSTD: codecs.zstd_decode
    }[compression]  # fmt: skip
    try:
        raw = decoder(part, out=bytearray(most))
    except Exception as error:  # each codec has an error of its own
        raise damaged("its image data cannot be decompressed") from error
    if len(raw) < needed:
        raise damaged("its image data end too early")
    return bytes(raw)


def undo_predictor(raw: bytes, shape: tuple[int, ...], layout: Layout) -> NDArray[Any]:
    """Undo the predictor; return pixels of ``shape`` in the byte order of the machine."""
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

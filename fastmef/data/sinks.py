"""Write image files in strips of rows. They appear complete, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmef.data.depth import DEPTHS
from fastmef.data.encoders import ExrSink, HdrSink, WebpSink
from fastmef.data.extras import import_extra
from fastmef.data.files import check_output, display
from fastmef.data.jpeg_sink import JpegSink
from fastmef.data.metadata import Metadata
from fastmef.data.output import Picture, WritesRows
from fastmef.data.png_sink import PngSink
from fastmef.data.tiff_sink import TiffSink
from fastmef.errors import InputError, OutputError

ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WebP",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
}

_LARGEST_SIDE = {"JPEG": 65500, "WebP": 16383, "PNG": (1 << 31) - 1}
_DEPTHS = {
    "JPEG": ("8",),
    "PNG": ("8", "16"),
    "TIFF": ("8", "16", "half", "float"),
    "WebP": ("8",),
    "OpenEXR": ("half", "float"),
    "Radiance HDR": ("float",),
}
_COMPRESSIONS: dict[str, tuple[str, ...]] = {
    "JPEG": (),
    "PNG": tuple("0123456789"),
    "TIFF": ("none", "deflate", "lzw", "zstd"),
    "WebP": ("lossy", "lossless"),
    "OpenEXR": ("none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab"),
    "Radiance HDR": (),
}
_WITH_QUALITY = ("JPEG", "WebP")
_TILE_UNIT, _LARGEST_TILE = 16, 4096  # TIFF's specification sets the unit
_WITHOUT_ALPHA = ("JPEG", "Radiance HDR")


class Sink(Protocol):
    """A file that appears under its name when :meth:`commit` returns, and not before."""

    resident_bytes: int
    """Peak memory of writing, in addition to the rows that are passed."""

    def write_rows(self, pixels: NDArray[Any], alpha: NDArray[np.bool_] | None) -> None:
        """Append rows ``(n, W, C)`` from top to bottom.

        Args:
            pixels: the rows.
            alpha: bool ``(n, W)``, true for valid pixels; ``None`` if all are valid.

        Raises:
            InputError: the rows have another shape or dtype than announced, or NaN or infinite
                values.
            OutputError: the system reports an error; no file is left behind.
        """
        ...

    def commit(self) -> None:
        """Give the complete file its name.

        Raises:
            InputError: rows are missing.
            OutputError: the system reports an error; no file is left behind.
        """
        ...

    def abort(self) -> None:
        """Remove everything that was written. This does nothing after :meth:`commit`."""
        ...


def create_sink(
    path: str | os.PathLike[str],
    height: int,
    width: int,
    channels: int,
    dtype: Any,
    alpha: bool,
    metadata: Metadata,
    *,
    quality: int | None = None,
    compression: str | None = None,
    tile: int | None = None,
    depth: str | None = None,
    force: bool = False,
) -> Sink:
    """Start an image file. The ending of ``path`` selects the format.

    TIFF, PNG and JPEG are written as rows arrive. WebP, OpenEXR and Radiance HDR are encoded as a
    whole. For OpenEXR and Radiance HDR, rows are decoded to scene-linear radiance.

    Args:
        path: a path that ends in .jpg, .jpeg, .png, .tif, .tiff, .webp, .exr or .hdr.
        height: height of the image in pixels.
        width: width of the image in pixels.
        channels: 1 or 3.
        dtype: dtype of the rows for :meth:`Sink.write_rows`: uint8, uint16, float16 or float32.
            Floating-point values are display-referred, 1 is white.
        alpha: store which pixels are valid; JPEG and Radiance HDR cannot.
        metadata: metadata, which are written as far as the format supports them.
        quality: quality of JPEG and lossy WebP, 1 to 100; ``None`` is 95.
        compression: for TIFF ``"none"`` (the default), ``"deflate"``, ``"lzw"`` or ``"zstd"``; for
            PNG ``"0"`` to ``"9"`` (the default is 4); for WebP ``"lossy"`` (the default) or
            ``"lossless"``; for OpenEXR the name of one of its methods in lower case (the default is
            ``"zip"``).
        tile: rows and columns of the tiles of a TIFF, a multiple of 16 up to 4096; ``None`` writes
            strips of rows.
        depth: ``"8"``, ``"16"``, ``"half"`` or ``"float"``; ``None`` is that of ``dtype`` if the
            format supports it, otherwise the nearest one.
        force: replace an existing file.

    Raises:
        OutputError: see :func:`check_image_output`.
        InputError: see :func:`check_options`.
        MissingExtraError: the format or its compression needs a package that is not installed.
    """
    kind = _kind(path)
    check_options(path, quality=quality, compression=compression, tile=tile, depth=depth)
    check_image_output(path, (width, height), force)
    stored = DEPTHS[depth] if depth else _nearest(kind, np.dtype(dtype))
    picture = Picture(
        path, force, height, width, channels, np.dtype(dtype), np.dtype(stored),
        alpha and kind not in _WITHOUT_ALPHA, metadata,
    )  # fmt: skip
    sink: WritesRows
    if kind == "TIFF":
        sink = TiffSink(picture, compression or "none", tile)
    elif kind == "PNG":
        sink = PngSink(picture, int(compression or "4"))
    elif kind == "JPEG":
        sink = JpegSink(picture, quality or 95)
    elif kind == "WebP":
        sink = WebpSink(picture, quality or 95, compression == "lossless")
    elif kind == "OpenEXR":
        sink = ExrSink(picture, compression or "zip")
    else:
        sink = HdrSink(picture)
    return sink


def check_image_output(
    path: str | os.PathLike[str], size: tuple[int, int] | None = None, force: bool = False
) -> None:
    """Check before any work is done whether an image (width, height) can be written to ``path``.

    Raises:
        OutputError: the ending is unknown, the file exists, the folder cannot be written, or the
            image is too large for the format.
        MissingExtraError: the format needs a package that is not installed.
    """
    kind = _kind(path)
    if kind == "OpenEXR":
        import_extra("OpenEXR", "hdr", "writing OpenEXR files")
    if kind == "Radiance HDR":
        import_extra("imagecodecs", "hdr", "writing Radiance HDR files")
    limit = _LARGEST_SIDE.get(kind)
    if size and limit and max(size) > limit:
        raise OutputError(
            f"{display(path)}: {size[0]}×{size[1]} pixels do not fit a {kind} file, whose sides"
            f" are at most {limit}; use .png or .tif"
        )
    check_output(path, force)


def check_options(
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    compression: str | None = None,
    tile: int | None = None,
    depth: str | None = None,
) -> None:
    """Check before any work is done whether the format of ``path`` has these options.

    Raises:
        InputError: the format does not have an option, or not this value of it.
        MissingExtraError: the compression needs a package that is not installed.
    """
    kind = _kind(path)
    if quality is not None:
        if kind not in _WITH_QUALITY:
            raise InputError(f"quality is an option of JPEG and WebP, not of {kind}")
        if not 1 <= quality <= 100:
            raise InputError(f"quality must be from 1 to 100, got {quality}")
    if compression is not None:
        allowed = _COMPRESSIONS[kind]
        if not allowed:
            raise InputError(f"{kind} has no choice of compression, got {compression!r}")
        if compression not in allowed:
            raise InputError(
                f"the compression of {kind} must be one of {', '.join(allowed)},"
                f" got {compression!r}"
            )
        if compression in ("lzw", "zstd"):
            import_extra("imagecodecs", "photo", f"writing TIFF with {compression.upper()}")
    if tile is not None:
        if kind != "TIFF":
            raise InputError(f"tiles are an option of TIFF, not of {kind}")
        if not 1 <= tile <= _LARGEST_TILE or tile % _TILE_UNIT:
            raise InputError(
                f"the side of a tile must be a multiple of {_TILE_UNIT} up to {_LARGEST_TILE},"
                f" got {tile}"
            )
    if depth is not None and depth not in _DEPTHS[kind]:
        allowed = _DEPTHS[kind]
        raise InputError(f"the depth of {kind} must be one of {', '.join(allowed)}, got {depth!r}")


def _nearest(kind: str, dtype: np.dtype[Any]) -> Any:
    """Return the smallest depth of a format that holds ``dtype``, or else its largest one."""
    names = list(DEPTHS)
    position = [np.dtype(known) for known in DEPTHS.values()].index(dtype)
    fitting = [name for name in _DEPTHS[kind] if names.index(name) >= position]
    return DEPTHS[fitting[0] if fitting else _DEPTHS[kind][-1]]


def _kind(path: str | os.PathLike[str]) -> str:
    """Return the name of the format that the ending of ``path`` selects."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise OutputError(
            f"cannot write {display(path)}: the name must end in one of {', '.join(ENDINGS)}"
        )
    return ENDINGS[ending]

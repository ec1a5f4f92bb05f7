"""Read and write photographs: JPEG, PNG, TIFF and WebP with 8 bits per channel."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmef.data.metadata import Metadata
from fastmef.data.sinks import check_image_output as check_image_output
from fastmef.data.sinks import create_sink
from fastmef.data.sources import open_source
from fastmef.errors import InputError

_NEEDED = "8-bit RGB or grey JPEG, PNG, TIFF or WebP"


@dataclass(frozen=True)
class Photo:
    """A photograph that was read from a file and turned upright."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    icc_profile: bytes | None
    exif: bytes | None
    """EXIF block for the upright ``pixels``: orientation 1, no thumbnail."""
    path: Path


def read_image(path: str | os.PathLike[str]) -> Photo:
    """Read an 8-bit photograph and turn it upright as its EXIF orientation says.

    The channel of grey images is repeated for R, G and B. From a camera's multi-picture JPEG, the
    first picture is read, which is the photograph itself. Pipes are read to their end. Use
    :func:`fastmef.data.sources.open_source` for images of other depths or with alpha.

    The whole file is checked. A file is refused if a checksum or the size of its data is wrong, or
    if libjpeg, libtiff or libwebp reports an error or a warning. Damaged EXIF is only dropped. The
    function may be called from several threads.

    Raises:
        InputError: see :func:`fastmef.data.sources.open_source`; or the image does not have 8 bits,
            or has an alpha channel.
    """
    with closing(open_source(path)) as source:
        if source.dtype != np.uint8:
            bits = 8 * source.dtype.itemsize
            raise InputError(f"{source.name}: a {bits}-bit image; needed: {_NEEDED}")
        if source.has_alpha:
            raise InputError(
                f"{source.name}: an alpha-channel (transparent) image; needed: {_NEEDED}"
            )
        pixels, _ = source.rows(0, source.height)
        if source.channels == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        metadata = source.metadata
        profile = metadata.icc_profile if source.channels == 3 else None
        return Photo(np.ascontiguousarray(pixels), profile, metadata.exif, Path(path))


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray[np.uint8],
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    force: bool = False,
) -> None:
    """Write an 8-bit RGB image. The file appears complete, or not at all.

    The ending of ``path`` selects the format. JPEG is written with quality 95 and full colour
    resolution (4:4:4), WebP with quality 95, PNG and TIFF without loss. An EXIF block of more than
    64 KiB does not fit into a JPEG and is left out there.

    Args:
        path: a path that ends in .jpg, .jpeg, .png, .tif, .tiff or .webp.
        pixels: (H, W, 3), uint8.
        icc_profile: ICC profile, embedded unchanged.
        exif: EXIF block, embedded unchanged, such as :attr:`Photo.exif`.
        force: replace an existing file.

    Raises:
        OutputError: the ending is unknown, the file exists, the folder cannot be written, the disk
            is full, or the image is too large for the format.
        InputError: ``pixels`` has another type, shape or dtype.
    """
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != 3
        or 0 in pixels.shape
    ):
        raise InputError(f"pixels must be a (H, W, 3) uint8 array, got {describe(pixels)}")
    metadata = Metadata(icc_profile, exif)
    height, width, channels = pixels.shape
    sink = create_sink(path, height, width, channels, pixels.dtype, False, metadata, force=force)
    sink.write_rows(pixels, None)
    sink.commit()


def describe(value: object) -> str:
    """Return an argument in a few words, for messages."""
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}, dtype {value.dtype}"
    return type(value).__name__

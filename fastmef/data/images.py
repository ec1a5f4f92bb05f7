"""Photographs in and out of files: JPEG, PNG, TIFF and WebP of 8 bits a channel."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
    """A photograph as read from a file, turned upright."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    icc_profile: bytes | None
    exif: bytes | None
    """For writing with ``pixels``: orientation 1, no thumbnail."""
    path: Path


def read_image(path: str | os.PathLike[str]) -> Photo:
    """Read an 8-bit photograph and turn it upright as its EXIF orientation says.

    Grey images are accepted and repeated over R, G and B. Of the several pictures in a camera's
    multi-picture JPEG the first, the photograph itself, is read. Pipes are read to their end.
    Images of other depths or with alpha are read by :func:`fastmef.data.sources.open_source`.

    The whole file is checked: whatever a checksum, the size of its data, libjpeg, libtiff or
    libwebp finds damaged is refused, warnings included. Damaged EXIF alone is dropped. The function
    may be called from several threads.

    Raises:
        InputError: see :func:`fastmef.data.sources.open_source`; the image is not of 8 bits, or
            has an alpha channel.
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
    """Write an 8-bit RGB image of the kind that the file's ending names, complete or not at all.

    JPEG is written with quality 95 and full colour resolution (4:4:4), WebP with quality 95, PNG
    and TIFF without loss. An EXIF block of more than 64 KiB does not fit a JPEG and is left out
    there.

    Args:
        path: ends in .jpg, .jpeg, .png, .tif, .tiff or .webp.
        pixels: (H, W, 3), uint8.
        icc_profile: embedded as it is.
        exif: embedded as it is; :attr:`Photo.exif` fits.
        force: replace an existing file.

    Raises:
        OutputError: unknown ending, existing file, unwritable folder, full disk, or an image too
            large for the format.
        InputError: ``pixels`` is something else.
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


def same_profile(photos: Sequence[Photo]) -> bool:
    """Return whether all photographs have the same ICC profile, or none."""
    return len({photo.icc_profile for photo in photos}) <= 1


def describe(value: object) -> str:
    """Return an argument in a few words, for messages."""
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}, dtype {value.dtype}"
    return type(value).__name__

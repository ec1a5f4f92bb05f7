"""Limits that are checked before memory is allocated for a file."""

from __future__ import annotations

import os

from fastmef.errors import InputError

MAX_PIXELS = 500_000_000  # more than any camera's frame
# Every scan of a progressive JPEG passes over all pixels; encoders write 10.
MAX_SCANS = 50
MAX_PROFILE = 16 << 20  # bytes of an ICC profile; a JPEG cannot hold a larger one

# An image of more pixels than this must have a byte for every _PIXELS_PER_BYTE of them. A JPEG of a
# single colour has 170 pixels per byte, a PNG 344; photographs have at most 20.
_UNQUESTIONED_PIXELS = 64_000_000
_PIXELS_PER_BYTE = 200

_BYTES_PER_PIXEL = 16  # four channels of 32 bits
_WHOLE_BYTES_PER_PIXEL = 4  # for formats whose file is in memory while it is decoded
_METADATA_BYTES = 64 << 20
_VARIABLE = "FASTMEF_MAX_PIXELS"


def max_pixels() -> int:
    """Return the most pixels that an image may have; ``FASTMEF_MAX_PIXELS`` overrides it."""
    return _chosen_pixels() or MAX_PIXELS


def max_image_bytes() -> int:
    """Return the most bytes that the file of an image may have."""
    return max_pixels() * _BYTES_PER_PIXEL + _METADATA_BYTES


def max_whole_bytes() -> int:
    """Return the most bytes of a file that is read into memory as a whole."""
    return max_pixels() * _WHOLE_BYTES_PER_PIXEL + _METADATA_BYTES


def excess_pixels(width: int, height: int, size: int) -> str | None:
    """Say why an image of these sides in a file of ``size`` bytes is too large, or return ``None``.

    A file that declares far more pixels than a photograph of its size has is refused, unless
    ``FASTMEF_MAX_PIXELS`` is set and allows that many.
    """
    pixels = width * height
    if pixels > max_pixels():
        return (
            f"{width}×{height} pixels; at most {max_pixels():,} are allowed, {_VARIABLE} changes it"
        )
    credible = max(_UNQUESTIONED_PIXELS, size * _PIXELS_PER_BYTE)
    if pixels > credible and _chosen_pixels() is None:
        return (
            f"{width}×{height} pixels in {size:,} bytes is no photograph;"
            f" {_VARIABLE}={pixels} reads it all the same"
        )
    return None


def _chosen_pixels() -> int | None:
    """Return the limit of the environment variable, ``None`` if it is not set."""
    text = os.environ.get(_VARIABLE)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:18]) > 0):
        raise InputError(f"{_VARIABLE} must be a number of pixels, got {text!r}")
    return int(text[:18])

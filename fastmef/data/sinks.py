"""Image files that are written in strips of rows and appear complete, or not at all."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmef.data.images import check_image_output, write_image
from fastmef.data.metadata import Metadata


class Sink(Protocol):
    """A file that gets its name when :meth:`commit` returns; before, nothing is seen of it."""

    def write_rows(self, pixels: NDArray[Any], alpha: NDArray[np.bool_] | None) -> None:
        """Append rows ``(n, W, C)`` from top to bottom, and which of their pixels are valid."""
        ...

    def commit(self) -> None:
        """Give the complete file its name."""
        ...

    def abort(self) -> None:
        """Leave nothing behind. Does nothing after :meth:`commit`."""
        ...


class WholeSink:
    """A file whose format is encoded as a whole."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        metadata: Metadata,
        force: bool,
    ) -> None:
        self._path, self._metadata, self._force = path, metadata, force
        self._pixels: NDArray[Any] = np.empty(shape, dtype)
        self._next = 0

    def write_rows(self, pixels: NDArray[Any], alpha: NDArray[np.bool_] | None) -> None:
        self._pixels[self._next : self._next + len(pixels)] = pixels
        self._next += len(pixels)

    def commit(self) -> None:
        metadata = self._metadata
        write_image(self._path, self._pixels, metadata.icc_profile, metadata.exif, self._force)

    def abort(self) -> None:
        self._pixels = self._pixels[:0]


def create_sink(
    path: str | os.PathLike[str],
    height: int,
    width: int,
    channels: int,
    dtype: np.dtype[Any],
    alpha: bool,
    metadata: Metadata,
    *,
    quality: int | None = None,
    compression: str | None = None,
    depth: str | None = None,
    force: bool = False,
) -> Sink:
    """Start a file of the kind that the ending of ``path`` names.

    Args:
        path: of the file.
        height: of the image.
        width: of the image.
        channels: 1 or 3.
        dtype: of the rows that :meth:`Sink.write_rows` gets: uint8, uint16, float16 or float32.
            Floats are display-referred, 1 is white.
        alpha: keep which pixels are valid, where the format has alpha.
        metadata: written where the format has a place for it.
        quality: of JPEG and lossy WebP, 1 to 100.
        compression: of TIFF, PNG and OpenEXR.
        depth: ``"8"``, ``"16"``, ``"half"`` or ``"float"``; ``None`` is that of ``dtype`` if the
            format has it, else the nearest that it has.
        force: replace an existing file.

    Raises:
        OutputError: the file cannot be written, or its format does not hold such an image.
    """
    check_image_output(path, (width, height), force)
    return WholeSink(path, (height, width, channels), np.dtype(dtype), metadata, force)

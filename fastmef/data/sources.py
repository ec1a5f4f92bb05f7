"""Image files that are opened now and whose pixels are read later, in strips of rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmef.data.files import display
from fastmef.data.images import read_image
from fastmef.data.metadata import Metadata
from fastmef.errors import InputError

Rows = tuple[NDArray[Any], NDArray[np.bool_] | None]


class Source(Protocol):
    """An image whose header was read and whose pixels were not yet."""

    name: str
    """The path, for messages."""
    height: int
    width: int
    channels: int
    """1 (grey) or 3 (RGB). Sizes are those of the upright image."""
    dtype: np.dtype[Any]
    """uint8, uint16, float16 or float32. Floats are display-referred, 1 is white."""
    has_alpha: bool
    """Whether :meth:`rows` returns a mask of the valid pixels."""
    metadata: Metadata
    streams: bool
    """Whether rows are decoded when they are asked for, without decoding the file as a whole."""
    linear: bool
    """Whether the file holds scene-linear radiance; :meth:`rows` returns it encoded."""
    resident_bytes: int
    """Memory that opening and reading hold at their peak, beside the rows returned."""

    def rows(self, top: int, bottom: int) -> Rows:
        """Return pixels ``(bottom - top, W, C)`` and the mask of valid ones ``(…, W)``, if any.

        Rows are cheapest from top to bottom without overlap. Reading back is allowed, and may
        decode the file again from its start.

        Raises:
            InputError: the file is damaged, or has changed since it was opened.
        """
        ...

    def close(self) -> None:
        """Release the file and what was decoded of it."""
        ...


class DecodedSource:
    """An image that was decoded as a whole."""

    streams = False

    def __init__(
        self,
        name: str,
        pixels: NDArray[Any],
        valid: NDArray[np.bool_] | None,
        metadata: Metadata,
        linear: bool = False,
    ) -> None:
        self.name, self.metadata, self.linear = name, metadata, linear
        self.height, self.width, self.channels = pixels.shape
        self.dtype, self.has_alpha = pixels.dtype, valid is not None
        self.resident_bytes = pixels.nbytes + (0 if valid is None else valid.nbytes)
        self._pixels, self._valid = pixels, valid

    def rows(self, top: int, bottom: int) -> Rows:
        return self._pixels[top:bottom], None if self._valid is None else self._valid[top:bottom]

    def close(self) -> None:
        self._pixels, self._valid = self._pixels[:0], None


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open an image file of any kind that fastmef reads.

    Raises:
        InputError: there is no such file, or it is damaged or of a kind that is not supported.
    """
    photo = read_image(path)
    return DecodedSource(display(path), photo.pixels, None, Metadata(photo.icc_profile, photo.exif))


def open_sources(paths: Sequence[str | os.PathLike[str]]) -> list[Source]:
    """Open the exposures of a bracket, which must have one size, depth and number of channels.

    Raises:
        InputError: see :func:`open_source`; the images differ in one of these.
    """
    sources = [open_source(path) for path in paths]
    first = sources[0]
    for source in sources[1:]:
        if (source.height, source.width) != (first.height, first.width):
            raise InputError(
                f"all images must have one size: {first.name} is {first.width}×{first.height}"
                f" pixels, {source.name} is {source.width}×{source.height}"
            )
        if source.dtype != first.dtype:
            raise InputError(
                f"all images must have one depth: {first.name} is {first.dtype},"
                f" {source.name} is {source.dtype}"
            )
        if source.channels != first.channels:
            raise InputError(
                f"all images must be grey or all in colour: {first.name} has {first.channels}"
                f" channels, {source.name} has {source.channels}"
            )
    return sources

"""Images in memory as sources and sink of rows. Imports no torch: bad input is reported at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.metadata import Metadata

Pixels = NDArray[Any]


class ArraySource:
    """An array ``(H, W, C)`` as a source of rows. Nothing is copied."""

    has_alpha = False
    streams = False
    linear = False
    metadata = Metadata()

    def __init__(self, name: str, pixels: Pixels) -> None:
        self.name, self._pixels = name, pixels
        self.height, self.width, self.channels = pixels.shape
        self.dtype = pixels.dtype
        self.resident_bytes = 0  # the caller's

    def rows(self, top: int, bottom: int) -> tuple[Pixels, None]:
        return self._pixels[top:bottom], None

    def close(self) -> None:
        pass


class ArraySink:
    """An array ``(H, W, C)`` that strips are written into."""

    def __init__(self, height: int, width: int, channels: int, dtype: np.dtype[Any]) -> None:
        self.pixels = np.empty((height, width, channels), dtype)
        self.alpha: NDArray[np.bool_] | None = None
        self.resident_bytes = self.pixels.nbytes
        self._row = 0

    def write_rows(self, pixels: Pixels, alpha: NDArray[np.bool_] | None) -> None:
        rows = slice(self._row, self._row + len(pixels))
        if pixels.ctypes.data != self.pixels[rows].ctypes.data:
            self.pixels[rows] = pixels
        if alpha is not None:
            if self.alpha is None:
                self.alpha = np.ones(self.pixels.shape[:2], bool)
            self.alpha[rows] = alpha
        self._row = rows.stop

    def next_rows(self, rows: int) -> Pixels:
        """Return the memory of the next rows, so that they can be made in place."""
        return self.pixels[self._row : self._row + rows]

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        pass

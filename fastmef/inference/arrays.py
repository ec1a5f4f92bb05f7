"""Images in memory as sources and as a sink of rows.

This module does not import torch, so that bad input is reported without waiting for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.metadata import Metadata

Pixels = NDArray[Any]


class ArraySource:
    """Read rows of an array ``(H, W, C)`` without a copy."""

    has_alpha = False
    streams = False
    linear = False
    metadata = Metadata()

    def __init__(self, name: str, pixels: Pixels) -> None:
        self.name, self._pixels = name, pixels
        self.height, self.width, self.channels = pixels.shape
        self.dtype = pixels.dtype
        self.resident_bytes = 0  # the array is the caller's memory

    def rows(self, top: int, bottom: int) -> tuple[Pixels, None]:
        return self._pixels[top:bottom], None

    def close(self) -> None:
        pass


class ArraySink:
    """Collect strips of rows in one array ``(H, W, C)``."""

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
        """Return the memory of the next rows, so that they can be computed in place."""
        return self.pixels[self._row : self._row + rows]

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        pass

"""Images that are decoded as a whole when their first rows are read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.damage import Fault, report_faults
from fastmef.data.metadata import Metadata

Rows = tuple[NDArray[Any], NDArray[np.bool_] | None]

# EXIF orientation → (swap rows and columns, reverse rows, reverse columns).
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class DecodedSource:
    """A :class:`~fastmef.data.sources.Source` that is decoded to its stored type once.

    Args:
        name: name of the file, for messages.
        shape: ``(H, W, C)`` as stored.
        dtype: dtype of the pixels.
        has_alpha: whether ``decode`` returns a mask.
        metadata: metadata of the upright image.
        decode: returns the pixels and the mask of valid ones, as stored.
        extra_bytes: memory that ``decode`` takes in addition to its result.
        orientation: the EXIF orientation; :meth:`rows` returns rows of the upright image.
        linear: whether the file holds scene-linear radiance.
        release: closes the file.
    """

    streams = False

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        dtype: Any,
        has_alpha: bool,
        metadata: Metadata,
        decode: Callable[[], Rows],
        extra_bytes: int,
        orientation: int = 1,
        linear: bool = False,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        height, width, self.channels = shape
        self.name, self.metadata, self.linear = name, metadata, linear
        self.height, self.width = (width, height) if orientation >= 5 else (height, width)
        self.dtype, self.has_alpha = np.dtype(dtype), has_alpha
        pixel = self.channels * self.dtype.itemsize + has_alpha
        self._needed_bytes = height * width * pixel + extra_bytes
        self._shape, self._decode, self._orientation = shape, decode, orientation
        self._release = release
        self._rows: Rows | None = None
        self._lock = threading.Lock()

    @property
    def resident_bytes(self) -> int:
        """Return the memory that reading takes; 0 once the image is decoded.

        This waits for a thread that decodes the image.
        """
        with self._lock:
            return self._needed_bytes if self._rows is None else 0

    def rows(self, top: int, bottom: int) -> Rows:
        with self._lock:
            if self._rows is None:
                self._rows = self._decoded()
                self._release()
            pixels, valid = self._rows
        return pixels[top:bottom], None if valid is None else valid[top:bottom]

    def close(self) -> None:
        with self._lock:
            self._rows = None
            self._release()

    def _decoded(self) -> Rows:
        """Decode the image and turn it upright."""
        with report_faults(self.name):
            pixels, valid = self._decode()
            if pixels.shape != self._shape:
                raise Fault("has changed while it was read")
        upright = None if valid is None else turn_upright(valid, self._orientation)
        return turn_upright(pixels, self._orientation), upright


def turn_upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of ``(H, W, …)`` turned upright from an EXIF orientation."""
    swap, flip_rows, flip_columns = _UPRIGHT.get(orientation, (False, False, False))
    turned = array.swapaxes(0, 1) if swap else array
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]

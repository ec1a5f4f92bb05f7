"""Alpha channels, which mark the valid pixels of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.damage import Fault
from fastmef.data.decoded import Rows


def split_alpha(pixels: NDArray[Any], associated: bool = False) -> Rows:
    """Split ``(H, W, C)`` into pixels and a mask of the valid ones.

    With 2 or 4 channels the last one is alpha; otherwise the mask is ``None``. A pixel is valid if
    its alpha is above one half. If the other channels are stored multiplied by alpha
    (``associated``), a pixel is valid only if its alpha is full, because it is too dark otherwise.

    Raises:
        Fault: a valid pixel is NaN or infinite.
    """
    valid = None
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1]
        full = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        valid = alpha >= full if associated else alpha > full / 2
        pixels = pixels[..., :-1]
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels).all(axis=2)
        if valid is not None:
            finite |= ~valid
        if not finite.all():
            raise Fault("holds NaN or infinite values")
        if valid is not None:
            pixels = np.where(valid[..., None], pixels, pixels.dtype.type(0))
    return np.ascontiguousarray(pixels), valid

"""Alpha channels, which say which pixels of an image are valid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.damage import Fault
from fastmef.data.decoded import Rows


def split_alpha(pixels: NDArray[Any], associated: bool = False) -> Rows:
    """Split ``(H, W, 2 or 4)`` into pixels and the mask of valid ones.

    Without an alpha channel the mask is ``None``.

    A pixel is valid where alpha is above one half. Where the other channels are stored multiplied
    by alpha (``associated``), only full alpha is valid: elsewhere they are too dark.

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

"""Convert pixels to another depth: 8 or 16 bits, half or single floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTHS = {"8": np.uint8, "16": np.uint16, "half": np.float16, "float": np.float32}


def convert_depth(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return display-referred pixels at another depth, rounded to the nearest level.

    White is the highest level of integers and 1 in floating point. Integers clip values beyond
    black and white.
    """
    before = pixels.dtype
    if before == dtype:
        return pixels
    if before == np.uint8 and dtype == np.uint16:
        return pixels.astype(np.uint16) * np.uint16(257)
    if before == np.uint16 and dtype == np.uint8:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if before.kind == "u":
        return (pixels / np.float32(np.iinfo(before).max)).astype(dtype)
    if dtype.kind == "f":
        return pixels.astype(dtype)
    highest = np.float32(np.iinfo(dtype).max)
    levels = pixels.astype(np.float32).clip(0, 1) * highest
    return (levels + np.float32(0.5)).astype(dtype)

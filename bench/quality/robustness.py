"""Measure how a fusion changes if its bracket changes in ways that should not matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.quality.methods import Fuse

MARGIN = 32  # pixels mirrored around the photographs
BORDER = 4  # number of outer rows and columns that are compared on each side

Image = NDArray[np.uint8]


def robustness(fuse: Fuse, frames: Sequence[Image]) -> dict[str, float]:
    """Measure changes of the result for ``frames`` in 8-bit levels.

    Returns:
        ``doubled``, ``black`` and ``white``: the mean absolute change if a frame is given twice
        (the largest of the first, middle and last frame), or if an all-black or an all-white frame
        is added. ``permuted``: the largest change of a value with another order of the frames.
        ``border_mean`` and ``border_max``: the absolute difference of the outer four rows and
        columns from a fusion of the same photographs with a mirrored margin.
    """
    fused = fuse(frames)
    black, white = np.zeros_like(frames[0]), np.full_like(frames[0], 255)
    twice = {0, len(frames) // 2, len(frames) - 1}
    orders = [frames[::-1], [*frames[1:], frames[0]]]
    border = _border(np.abs(_levels(fused) - _levels(_fuse_with_margin(fuse, frames))))
    return {
        "doubled": max(_mean_change(fuse([*frames, frames[k]]), fused) for k in twice),
        "black": _mean_change(fuse([black, *frames]), fused),
        "white": _mean_change(fuse([*frames, white]), fused),
        "permuted": max(
            float(np.abs(_levels(fuse(order)) - _levels(fused)).max()) for order in orders
        ),
        "border_mean": float(border.mean()),
        "border_max": float(border.max()),
    }


def _levels(image: Image) -> NDArray[np.int16]:
    return image.astype(np.int16)


def _mean_change(changed: Image, fused: Image) -> float:
    return float(np.abs(_levels(changed) - _levels(fused)).mean())


def _fuse_with_margin(fuse: Fuse, frames: Sequence[Image]) -> Image:
    margins = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    wide = fuse([np.pad(frame, margins, mode="reflect") for frame in frames])
    return wide[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _border(image: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the values of the outer rows and columns, each pixel once, ``(N, 3)``."""
    outside = np.ones(image.shape[:2], bool)
    outside[BORDER:-BORDER, BORDER:-BORDER] = False
    return image[outside]

"""The attributes that importance is made of, at the centres of windows."""

from __future__ import annotations

import triton
import triton.language as tl

from .sobel import differences_at


@triton.jit
def attributes_at(
    at,  # the centres
    y,
    x,
    mean,  # moments of the windows
    second_moment,
    height,
    width,
    row_stride,
    column_stride,
    floor,
    VARIANCE: tl.constexpr,
    GRADIENT: tl.constexpr,
    WELL_EXPOSEDNESS: tl.constexpr,
    AT_EDGES: tl.constexpr,
):
    """(V, S, E), 1 in place of those that are not named, and (g_x, g_y), which S is made of."""
    variance = 1.0
    if VARIANCE:
        variance = second_moment - mean * mean
        # A comparison with NaN is false: NaN stays.
        variance = tl.where(variance < floor, floor, variance)
    magnitude = 1.0
    differences = (0.0, 0.0)
    if GRADIENT:
        differences = differences_at(at, y, x, height, width, row_stride, column_stride, AT_EDGES)
        magnitude = tl.sqrt(differences[0] * differences[0] + differences[1] * differences[1])
    exposedness = 1.0
    if WELL_EXPOSEDNESS:
        offset = tl.load(at).to(tl.float32) - 0.5
        exposedness = tl.exp(-12.5 * offset * offset)
    return variance, magnitude, exposedness, differences[0], differences[1]

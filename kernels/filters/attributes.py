"""The attributes V, S and E of γ at the centres of windows."""

from __future__ import annotations

import triton
import triton.language as tl

from .sobel import differences_at


@triton.jit
def attributes_at(
    at,  # pointers to the centres
    y,
    x,
    mean,  # moments of the windows, if VARIANCE
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
    """Return V, S and E, 1 for those that are not wanted, and the differences g_x and g_y of S."""
    variance = 1.0
    if VARIANCE:
        variance = second_moment - mean * mean
        # A comparison with NaN is false, so NaN is kept.
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

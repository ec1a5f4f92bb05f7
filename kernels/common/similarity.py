"""SSIM at one window, from moments around constants."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def similarity(
    mean_a,
    mean_b,
    variances,  # of a plus of b
    cross,  # E[a b]
    shift_a,
    shift_b,
    c1,
    c2,
    LUMINANCE: tl.constexpr,
):
    """Return SSIM and its derivatives w.r.t. E[a], E[b], E[a²] (as w.r.t. E[b²]) and E[a b].

    The moments are those of a - shift_a and b - shift_b: around constants near the local values
    E[x²] - E[x]² does not cancel.
    """
    inverse = 1.0 / (variances + c2)
    value = (2 * (cross - mean_a * mean_b) + c2) * inverse
    by_cross = 2 * inverse
    by_power = -value * inverse
    by_mean_a = by_cross * (mean_a * value - mean_b)
    by_mean_b = by_cross * (mean_b * value - mean_a)
    if LUMINANCE:
        a = mean_a + shift_a
        b = mean_b + shift_b
        below = 1.0 / (a * a + b * b + c1)
        luminance = (2 * a * b + c1) * below
        slope = value * 2 * below
        by_cross *= luminance
        by_power *= luminance
        by_mean_a = by_mean_a * luminance + slope * (b - a * luminance)
        by_mean_b = by_mean_b * luminance + slope * (a - b * luminance)
        value *= luminance
    return value, by_mean_a, by_mean_b, by_power, by_cross

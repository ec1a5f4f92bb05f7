"""SSIM of one window and its derivatives, from moments around constants."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def similarity(
    mean_a,
    mean_b,
    variances,  # var(a) + var(b)
    cross,  # E[a b]
    shift_a,
    shift_b,
    c1,
    c2,
    LUMINANCE: tl.constexpr,
):
    """Return SSIM and its derivatives w.r.t. E[a], E[b], E[a²] (the same as E[b²]) and E[a b].

    The moments are those of a - shift_a and b - shift_b. With constants near the local values
    E[x²] - E[x]² loses no precision by cancellation.
    """
    inverse = 1.0 / (variances + c2)
    value = (2 * (cross - mean_a * mean_b) + c2) * inverse
    grad_cross = 2 * inverse
    grad_second_moment = -value * inverse
    grad_mean_a = grad_cross * (mean_a * value - mean_b)
    grad_mean_b = grad_cross * (mean_b * value - mean_a)
    if LUMINANCE:
        a = mean_a + shift_a
        b = mean_b + shift_b
        luminance_inverse = 1.0 / (a * a + b * b + c1)
        luminance = (2 * a * b + c1) * luminance_inverse
        slope = value * 2 * luminance_inverse
        grad_cross *= luminance
        grad_second_moment *= luminance
        grad_mean_a = grad_mean_a * luminance + slope * (b - a * luminance)
        grad_mean_b = grad_mean_b * luminance + slope * (a - b * luminance)
        value *= luminance
    return value, grad_mean_a, grad_mean_b, grad_second_moment, grad_cross

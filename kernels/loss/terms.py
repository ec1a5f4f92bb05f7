"""Per-pixel arithmetic of the loss: importance, SSIM and its derivatives."""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.exposures import load_fused, load_layers
from ..common.windows import finite_or_zero


@triton.jit
def sample_means(
    source,
    source_layer,
    source_row,
    source_column,
    exposures,
    exposures_layer,
    exposures_row,
    exposures_column,
    top,
    left,
    height,
    width,
    K: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
):
    """Means of F and of every exposure over 4 x 16 pixels spread over a rectangle."""
    lane = tl.arange(0, 64)
    # In parts of a size, so that products stay small.
    y = top + (lane // 16) * (height // 4) + (lane // 16) * (height % 4) // 4
    x = left + (lane % 16) * (width // 16) + (lane % 16) * (width % 16) // 16
    y = y.to(tl.int64)
    x = x.to(tl.int64)
    at = exposures + y * exposures_row + x * exposures_column
    images = load_layers(at, exposures_layer, None, K)
    at = source + y * source_row + x * source_column
    fused = load_fused(at, source_layer, images, None, K, FROM_LOGITS)
    # A constant that is not finite would spoil windows that are.
    out = (finite_or_zero(tl.sum(fused) / 64),)
    for k in tl.static_range(K):
        out = out + (finite_or_zero(tl.sum(images[k]) / 64),)
    return out


@triton.jit
def similarity(
    mean_f,
    mean_i,
    power_f,
    power_i,
    cross,
    shift_f,
    shift_i,
    c1,
    c2,
    LUMINANCE: tl.constexpr,
):
    """SSIM at one window and its derivatives by E[F], E[F^2] and E[F I].

    The moments are those of F - shift_f and I - shift_i: around constants near the local values
    E[x^2] - E[x]^2 does not cancel.
    """
    spread = (power_f - mean_f * mean_f) + (power_i - mean_i * mean_i) + c2
    inverse = 1.0 / spread
    value = (2 * (cross - mean_f * mean_i) + c2) * inverse
    by_cross = 2 * inverse
    by_power = -value * inverse
    by_mean = 2 * inverse * (mean_f * value - mean_i)
    if LUMINANCE:
        f = mean_f + shift_f
        i = mean_i + shift_i
        below = 1.0 / (f * f + i * i + c1)
        luminance = (2 * f * i + c1) * below
        by_cross *= luminance
        by_power *= luminance
        by_mean = by_mean * luminance + value * 2 * below * (i - f * luminance)
        value *= luminance
    return value, by_mean, by_power, by_cross

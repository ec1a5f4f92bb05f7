"""The moments of F and the exposures that the loss filters, and constants to subtract from both."""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.exposures import load_each, load_fused, load_layers, softmax, weighted_sum
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
    """Return the means of F and of every exposure over a grid of 4 x 16 pixels in a rectangle."""
    lane = tl.arange(0, 64)
    # Quotient and remainder are multiplied apart, so that products stay small.
    y = top + (lane // 16) * (height // 4) + (lane // 16) * (height % 4) // 4
    x = left + (lane % 16) * (width // 16) + (lane % 16) * (width % 16) // 16
    y = y.to(tl.int64)
    x = x.to(tl.int64)
    at = exposures + y * exposures_row + x * exposures_column
    images = load_layers(at, exposures_layer, None, K)
    at = source + y * source_row + x * source_column
    fused = load_fused(at, source_layer, images, None, K, FROM_LOGITS)
    # A constant that is not finite would make all windows NaN.
    out = (finite_or_zero(tl.sum(fused) / 64),)
    for k in tl.static_range(K):
        out = out + (finite_or_zero(tl.sum(images[k]) / 64),)
    return out


@triton.jit
def pixel_moments(
    source,
    exposures,
    source_offset,
    exposures_offset,
    near,
    K: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
):
    """Return (f, f², e_1, e_1², f e_1, ...) of pixels, where f and e are F and I minus ``near``."""
    images = load_each(exposures, exposures_offset)
    values = load_each(source, source_offset)
    f = (weighted_sum(softmax(values, K), images, K) if FROM_LOGITS else values[0]) - near[0]
    moments = (f, f * f)
    for k in tl.static_range(K):
        e = images[k] - near[k + 1]
        moments = moments + (e, e * e, f * e)
    return moments


@triton.jit
def add_each(totals, values, factor: tl.constexpr = 1.0):
    """Return ``totals`` plus ``factor`` times ``values``, element by element."""
    out = ()
    for i in tl.static_range(len(totals)):
        out = out + (totals[i] + factor * values[i],)
    return out

r"""ma2015_level of few exposures, computed from windowed covariances.

No patch is formed: with :math:`c_{kl}` the covariances over a flat window and :math:`s_{kl}` those
over a Gaussian window,

.. math::
    \|\textstyle\sum_k g_k (x_k - \mu_k)\|^2 = N \textstyle\sum_{kl} g_k g_l c_{kl}, \qquad
    \hat\sigma^2 = \textstyle\sum_{kl} g_k g_l s_{kl}

One march down a strip filters x_k and x_k x_l with both windows. From every column of the strip the
mean of some of its pixels is subtracted, because the variance of bright flat areas would lose
precision by cancellation. The rings take K (K + 3) registers for each row of the window.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.launching import Layout, compiled_for
from ..common.windows import finite_or_zero, locate_strip, push, row_at, zero_rows
from .ma2015_weights import LEAST_CONTRAST, exponent_of, gains_of, norm_of, rescale_of


@triton.jit
def pair(k: tl.constexpr, j: tl.constexpr, K: tl.constexpr):
    """Return the index of the map of x_k x_j, k <= j; these follow the K maps of x."""
    return K + k * K - k * (k - 1) // 2 + j - k


@triton.jit
def column_constants(images, layer, middle, step, width, K: tl.constexpr):
    """Return a typical value of every exposure in each column: the mean of four pixels."""
    constants = ()
    for k in tl.static_range(K):
        total = tl.load(row_at(images + k * layer, middle, 0, width, 1))
        for i in tl.static_range(1, 4):
            total += tl.load(row_at(images + k * layer, middle + i * step, 0, width, 1))
        constants = constants + (finite_or_zero(0.25 * total),)
    return constants


@triton.jit
def values_at(at, layer, shifts, K: tl.constexpr):
    """Load the pixels of the K exposures, minus ``shifts``."""
    values = ()
    for k in tl.static_range(K):
        values = values + (tl.load(at + k * layer) - shifts[k],)
    return values


@triton.jit
def covariance_rows(at, layer, shifts, K: tl.constexpr, TAPS: tl.constexpr):
    """Load one row of every x_k and x_k x_l; return it filtered with the taps, and summed."""
    last: tl.constexpr = len(TAPS) - 1
    middle: tl.constexpr = len(TAPS) // 2
    values = values_at(at + middle, layer, shifts, K)
    smooth = ()
    flat = ()
    for k in tl.static_range(K):
        flat = flat + (values[k],)
        smooth = smooth + (TAPS[middle] * values[k],)
    for k in tl.static_range(K):
        for other in tl.static_range(k, K):
            product = values[k] * values[other]
            flat = flat + (product,)
            smooth = smooth + (TAPS[middle] * product,)
    # The taps are symmetric, so two pixels have the same tap.
    for j in tl.static_range(middle):
        near = values_at(at + j, layer, shifts, K)
        far = values_at(at + (last - j), layer, shifts, K)
        more_smooth = ()
        more_flat = ()
        for k in tl.static_range(K):
            both = near[k] + far[k]
            more_flat = more_flat + (flat[k] + both,)
            more_smooth = more_smooth + (smooth[k] + TAPS[j] * both,)
        for k in tl.static_range(K):
            for other in tl.static_range(k, K):
                both = near[k] * near[other] + far[k] * far[other]
                more_flat = more_flat + (flat[pair(k, other, K)] + both,)
                more_smooth = more_smooth + (smooth[pair(k, other, K)] + TAPS[j] * both,)
        smooth = more_smooth
        flat = more_flat
    return smooth, flat


@triton.jit
def combined(ring, gains, SIZE: tl.constexpr):
    """Return the variance of Σ gains x from the moments at the head of every ring."""
    K: tl.constexpr = len(gains)
    total = tl.zeros(ring[0].shape, tl.float32)
    for k in tl.static_range(K):
        mean = ring[k * SIZE]
        variance = ring[pair(k, k, K) * SIZE] - mean * mean
        sum_of_pairs = gains[k] * variance
        for other in tl.static_range(k + 1, K):
            covariance = ring[pair(k, other, K) * SIZE] - mean * ring[other * SIZE]
            sum_of_pairs += 2 * gains[other] * covariance
        total += gains[k] * sum_of_pairs
    return total


@compiled_for(Layout())
def covariance_kernel(
    images,  # (B, K, H, W) contiguous float32, minus the mean of each plane
    means,  # out: Gaussian means
    gains,  # out
    variance,  # out
    height,
    width,
    map_height,
    map_width,
    rows,
    K: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    FLAT_Y: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute means, gains and variance for a strip of windows."""
    size: tl.constexpr = len(TAPS_Y)
    count: tl.constexpr = len(TAPS_Y) * len(TAPS_X)
    maps: tl.constexpr = K + K * (K + 1) // 2
    batch, first, end, column = locate_strip(tl.program_id(0), map_height, map_width, rows, COLUMNS)
    inside = column < map_width
    layer = tl.cast(height, tl.int64) * width
    map_layer = tl.cast(map_height, tl.int64) * map_width
    # Lanes beyond the map repeat its last column and are not stored.
    images += batch * K * layer + tl.minimum(column, map_width - 1)
    means += batch * K * map_layer + column
    gains += batch * K * map_layer + column
    variance += batch * map_layer + column
    step = (end - first + size - 1) // 4
    shifts = column_constants(images + len(TAPS_X) // 2, layer, first + step // 2, step, width, K)
    smooth = zero_rows(maps * size, COLUMNS)
    flat = zero_rows(maps * size, COLUMNS)
    for row in range(first, end + size - 1):
        at = row_at(images, row, 0, width, 1)
        smooth_row, flat_row = covariance_rows(at, layer, shifts, K, TAPS_X)
        smooth = push(smooth, smooth_row, TAPS_Y)
        flat = push(flat, flat_row, FLAT_Y)
        done = row - size + 1
        if done >= first:
            here = tl.cast(done, tl.int64) * map_width
            norms = ()
            ones = ()
            norm_sum = tl.zeros((COLUMNS,), tl.float32)
            strongest = tl.zeros((COLUMNS,), tl.float32)
            for k in tl.static_range(K):
                moment = flat[pair(k, k, K) * size]
                mean = flat[k * size]
                norm = norm_of(moment - mean * mean, moment, count)
                norms = norms + (norm,)
                ones = ones + (1.0,)
                norm_sum += norm
                strongest = tl.maximum(strongest, norm + LEAST_CONTRAST)
            total_variance = tl.maximum(combined(flat, ones, size), 0.0)
            unscaled = gains_of(norms, exponent_of(total_variance, norm_sum, count), count)
            threshold = tl.zeros((COLUMNS,), tl.float32)
            for k in tl.static_range(K):
                threshold += unscaled[k] * unscaled[k] * flat[pair(k, k, K) * size]
            rescale = rescale_of(combined(flat, unscaled, size), threshold, strongest, count)
            for k in tl.static_range(K):
                to = k * map_layer + here
                tl.store(means + to, smooth[k * size] + shifts[k], mask=inside)
                tl.store(gains + to, unscaled[k] * rescale, mask=inside)
            desired = combined(smooth, unscaled, size) * rescale * rescale
            # A comparison with NaN is false, so NaN is kept.
            desired = tl.where(desired < 0, 0.0, desired)
            tl.store(variance + here, desired, mask=inside)

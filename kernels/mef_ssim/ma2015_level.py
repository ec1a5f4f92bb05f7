r"""ma2015_level: the maps of the exposures for one scale of MEF-SSIM ma2015 (Ma, Zeng, Wang 2015).

With :math:`\mu_k, v_k` mean and variance of exposure k over a flat window of N pixels:

.. math::
    e_k = \sqrt{N v_k} + 0.001, \quad
    R = \sqrt{N\,\mathrm{var}\textstyle\sum_k x_k} / \textstyle\sum_k \sqrt{N v_k}, \quad
    p = \min(\tan(\tfrac{\pi}{2} R), 10), \quad
    g_k \propto (e_k / \sqrt N)^p / e_k

where g is scaled so that the patch :math:`s = \sum_k g_k (x_k - \mu_k)` has the norm max e. The
variance of s is weighted with a Gaussian window. Two exposures take one march
(:mod:`.ma2015_covariances`). With more, the covariances of all pairs do not fit into registers:
every window is read three times from the first-level cache. That costs 363 loads for each exposure
and pixel, once for a set of exposures, and needs no memory for products of exposures. A patch is
centred before it is squared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.configurations import TAPS, WINDOW, configuration
from ..common.launching import ARITHMETIC, BYTES_IN_FLIGHT, Layout, compiled_for, launch
from ..common.windows import (
    Taps,
    locate_strip,
    row_at,
    strip_programs,
    strip_rows,
    windows_of,
)
from .ma2015_covariances import covariance_kernel
from .ma2015_weights import LEAST_CONTRAST, exponent_of, gains_of, norm_of, rescale_of

if TYPE_CHECKING:
    from torch import Tensor

# The rings of more exposures do not fit into a thread's registers.
MOST_COVARIANCES = 2


@triton.jit
def tap_of(number, TAPS: tl.constexpr):
    """Return the tap with a number that is known at run time only."""
    tap = 0.0
    for k in tl.static_range(len(TAPS)):
        tap += tl.where(number == k, TAPS[k], 0.0)
    return tap


@triton.jit
def patch_sum(
    images, layer, width, gains, means, K: tl.constexpr, TAPS_Y: tl.constexpr, TAPS_X: tl.constexpr
):
    """Return flat and Gaussian (mean, mean of squares) of Σ gains (x - means) over each window."""
    flat_tap: tl.constexpr = 1.0 / (len(TAPS_Y) * len(TAPS_X))
    flat = tl.zeros(means[0].shape, tl.float32)
    flat_second_moment = tl.zeros(means[0].shape, tl.float32)
    smooth = tl.zeros(means[0].shape, tl.float32)
    smooth_second_moment = tl.zeros(means[0].shape, tl.float32)
    for i in range(len(TAPS_Y)):
        tap_y = tap_of(i, TAPS_Y)
        row = images + tl.cast(i, tl.int64) * width
        for j in tl.static_range(len(TAPS_X)):
            patch = gains[0] * (tl.load(row + j) - means[0])
            for k in tl.static_range(1, K):
                patch += gains[k] * (tl.load(row + k * layer + j) - means[k])
            weighted = tap_y * TAPS_X[j] * patch
            flat += patch
            flat_second_moment += patch * patch
            smooth += weighted
            smooth_second_moment += weighted * patch
    return flat * flat_tap, flat_second_moment * flat_tap, smooth, smooth_second_moment


@compiled_for(Layout())
def level_kernel(
    images,  # (B, K, H, W) contiguous float32, minus the mean of each plane
    means,  # out: Gaussian means
    gains,  # out
    variance,  # out
    height,
    width,
    map_height,
    map_width,
    K: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute means, gains and variance for COLUMNS windows of a row."""
    count: tl.constexpr = len(TAPS_Y) * len(TAPS_X)
    batch, row, _, column = locate_strip(tl.program_id(0), map_height, map_width, 1, COLUMNS)
    inside = column < map_width
    layer = tl.cast(height, tl.int64) * width
    map_layer = tl.cast(map_height, tl.int64) * map_width
    # Lanes beyond the map repeat its last column and are not stored.
    images = row_at(images + batch * K * layer, row, tl.minimum(column, map_width - 1), width, 1)
    here = tl.cast(row, tl.int64) * map_width + column
    means += batch * K * map_layer + here
    gains += batch * K * map_layer + here
    center = tl.cast(len(TAPS_Y) // 2, tl.int64) * width + len(TAPS_X) // 2

    ones = ()
    flat_means = ()
    moments = ()
    norms = ()
    norm_sum = tl.zeros((COLUMNS,), tl.float32)
    strongest = tl.zeros((COLUMNS,), tl.float32)
    for k in tl.static_range(K):
        image = images + k * layer
        # A value of the window is subtracted because the variance of bright flat areas would lose
        # precision by cancellation.
        near = tl.load(image + center)
        one = tl.full((COLUMNS,), 1.0, tl.float32)
        flat, second_moment, smooth, _ = patch_sum(
            image, layer, width, (one,), (near,), 1, TAPS_Y, TAPS_X
        )
        tl.store(means + k * map_layer, smooth + near, mask=inside)
        flat_variance = second_moment - flat * flat
        mean = flat + near
        moment = flat_variance + mean * mean
        norm = norm_of(flat_variance, moment, count)
        ones = ones + (one,)
        flat_means = flat_means + (mean,)
        moments = moments + (moment,)
        norms = norms + (norm,)
        norm_sum += norm
        strongest = tl.maximum(strongest, norm + LEAST_CONTRAST)

    flat, second_moment, _, _ = patch_sum(images, layer, width, ones, flat_means, K, TAPS_Y, TAPS_X)
    total_variance = tl.maximum(second_moment - flat * flat, 0.0)
    unscaled = gains_of(norms, exponent_of(total_variance, norm_sum, count), count)
    threshold = tl.zeros((COLUMNS,), tl.float32)
    for k in tl.static_range(K):
        threshold += unscaled[k] * unscaled[k] * moments[k]
    flat, second_moment, smooth, smooth_second_moment = patch_sum(
        images, layer, width, unscaled, flat_means, K, TAPS_Y, TAPS_X
    )
    rescale = rescale_of(second_moment - flat * flat, threshold, strongest, count)
    for k in tl.static_range(K):
        tl.store(gains + k * map_layer, unscaled[k] * rescale, mask=inside)
    smooth_variance = (smooth_second_moment - smooth * smooth) * rescale * rescale
    # A comparison with NaN is false, so NaN is kept.
    smooth_variance = tl.where(smooth_variance < 0, 0.0, smooth_variance)
    tl.store(variance + batch * map_layer + here, smooth_variance, mask=inside)


def ma2015_level(images: Tensor, taps: Taps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the centred exposures, means, gains and variance of images ``(B, K, H, W)``."""
    x = images.float()
    x = (x - x.nan_to_num(0.0, 0.0, 0.0).mean(dim=(-2, -1), keepdim=True)).contiguous()
    batch, count, height, width = x.shape
    windows = windows_of(x, taps, False)
    size = windows.map_height, windows.map_width
    means, gains = (x.new_empty((batch, count, *size)) for _ in range(2))
    variance = x.new_empty((batch, *size))
    tensors = x, means, gains, variance
    if count <= MOST_COVARIANCES:
        rows = strip_rows(batch, *size)
        programs = strip_programs(batch, *size, rows)
        flat = {"FLAT_Y": flat_taps(taps)}
        sizes = (height, width, *size, rows)
        launch(
            covariance_kernel,
            programs,
            x.device,
            *tensors,
            *sizes,
            K=count,
            **flat,
            **windows.constants,
        )
    else:
        programs = strip_programs(batch, *size, 1)
        launch(
            level_kernel,
            programs,
            x.device,
            *tensors,
            height,
            width,
            *size,
            K=count,
            **windows.constants,
        )
    return tensors


def flat_taps(taps: Taps) -> tuple[float, ...]:
    """Return the taps along the height that turn sums along the width into means."""
    y, x = taps
    return (1 / (len(y) * len(x)),) * len(y)


_POINTERS = dict.fromkeys(("images", "means", "gains", "variance"), "*fp32")
CONFIGURATIONS = [
    configuration(
        f"ma2015_level, K = {count}",
        level_kernel,
        _POINTERS,
        {**WINDOW, "K": count},
        12 * count + 4,
        resident=BYTES_IN_FLIGHT if count <= 5 else ARITHMETIC,
    )
    for count in (3, 5, 9)
]
CONFIGURATIONS.append(
    configuration(
        "ma2015_level, K = 2",
        covariance_kernel,
        _POINTERS,
        {**WINDOW, "K": 2, "FLAT_Y": flat_taps((TAPS, TAPS))},
        28,
        resident=ARITHMETIC,
    )
)

r"""mefnet_sources: the maps of MEF-SSIM mefnet that depend on the exposures only.

There are two passes: the kernel of ``local_variance`` computes means and variances of every
exposure, then a second kernel chooses the exposure at each pixel and computes the desired luminance
λ, which depends on the brightness m of whole images:

.. math::
    k^* = \arg\max_k v_k, \quad \lambda = \frac{\sum_k L_k \mu_k}{\sum_k L_k}, \quad
    L_k = e^{-((\mu_k - 0.5)^2 + (m_k - 0.5)^2) / (2 \cdot 0.2^2)}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.configurations import configuration
from ..common.launching import SINGLE_VALUES, Layout, cdiv, compiled_for, launch
from ..common.tiles import stored
from ..common.windows import Taps, columns_each, single, strip_programs, strip_rows, windows_of
from ..filters.variance import MAPS, launch_variance

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 512


_MAPS = ("means", "variances", "chosen", "mean", "variance", "luminance")


@compiled_for(Layout(multiples=("pixels", *_MAPS)), Layout(multiples=_MAPS))
def choose_kernel(
    means,  # (B, K, P) float32
    variances,  # (B, K, P) float32
    brightness,  # (B, K) float32
    chosen,  # out: (B, P) int64, the exposure of largest variance
    mean,  # out: its mean
    variance,  # out: its variance
    luminance,  # out: λ
    count,
    pixels,
    BLOCK: tl.constexpr,
):
    """Choose the exposure of largest variance and compute λ for BLOCK of the P pixels."""
    blocks = (pixels - 1) // BLOCK + 1
    program = tl.program_id(0)
    batch = (program // blocks).to(tl.int64)
    pixel = (program % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    best_mean = tl.zeros((BLOCK,), tl.float32)
    number = tl.zeros((BLOCK,), tl.int64)
    numerator = tl.zeros((BLOCK,), tl.float32)
    denominator = tl.zeros((BLOCK,), tl.float32)
    for k in range(count):
        at = (batch * count + k) * pixels + pixel
        mu = tl.load(means + at, mask=inside, other=0)
        v = tl.load(variances + at, mask=inside, other=0)
        # NaN counts as the largest value; the first of equal values is taken.
        takes = (v > best) | ((v != v) & (best == best))
        best = tl.where(takes, v, best)
        best_mean = tl.where(takes, mu, best_mean)
        number = tl.where(takes, k, number)
        whole = tl.load(brightness + batch * count + k) - 0.5
        weight = tl.exp(-12.5 * ((mu - 0.5) * (mu - 0.5) + whole * whole))
        numerator += weight * mu
        denominator += weight
    here = batch * pixels + pixel
    tl.store(chosen + here, number, mask=inside)
    tl.store(mean + here, stored(best_mean, mean.dtype.element_ty), mask=inside)
    tl.store(variance + here, stored(best, variance.dtype.element_ty), mask=inside)
    tl.store(
        luminance + here, stored(numerator / denominator, luminance.dtype.element_ty), mask=inside
    )


def mefnet_sources(exposures: Tensor, taps: Taps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the index, mean and variance of the chosen exposure, and λ."""
    import torch

    batch, count, height, width = exposures.shape
    planes = exposures.flatten(0, 1)
    windows = windows_of(planes, taps, True)
    means, variances = (single(exposures, batch * count, height, width) for _ in range(2))
    each = columns_each(windows.taps_y, MAPS)
    rows = strip_rows(batch * count, height, width, each)
    sums = single(exposures, batch * count, strip_programs(1, height, width, rows, each))
    launch_variance(planes, windows, float("-inf"), variances, means=means, sums=sums)
    chosen = exposures.new_empty((batch, 1, height, width), dtype=torch.int64)
    mean, variance, luminance = (exposures.new_empty((batch, height, width)) for _ in range(3))
    launch(
        choose_kernel,
        batch * cdiv(height * width, BLOCK),
        exposures.device,
        means,
        variances,
        sums.sum(dim=-1) / (height * width),
        chosen,
        mean,
        variance,
        luminance,
        count,
        height * width,
        BLOCK=BLOCK,
        num_warps=4,
    )
    return chosen, mean, variance, luminance


CONFIGURATIONS = [
    configuration(
        "mefnet sources, second pass, K = 2" + (", any size" if layout else ""),
        choose_kernel,
        {**dict.fromkeys((*_MAPS, "brightness"), "*fp32"), "chosen": "*i64"},
        {"BLOCK": BLOCK},
        2 * 8 + 8 + 12,
        resident=SINGLE_VALUES,
        pixels=BLOCK,
        layout=layout,
    )
    for layout in (0, 1)
]

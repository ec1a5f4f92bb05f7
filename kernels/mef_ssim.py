r"""MEF-SSIM: what :mod:`fastmef.ops.mef_ssim` calls

``ma2015_level`` is in :mod:`.ma2015`, the kernels of the scores in :mod:`.mef_quality`. Scores are
sums of the programs' sums, in a fixed order; nothing waits for the device. The sources of
``mefnet`` are two passes: means and variances of every exposure by the kernel of
``local_variance``, then the choice at each pixel, which needs the brightness of whole images:

.. math::
    k^* = \arg\max_k v_k, \quad \lambda = \frac{\sum_k L_k \mu_k}{\sum_k L_k}, \quad
    L_k = e^{-((\mu_k - 0.5)^2 + (m_k - 0.5)^2) / (2 \cdot 0.2^2)}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ._configure import configuration
from ._launch import SINGLE_VALUES, cdiv, launch
from ._tile import stored
from ._windows import Windows, single, strip_programs, strip_rows, windows_of
from .ma2015 import SIDE, SIGMA, ma2015_level
from .mef_quality import quality_adjoint_kernel, quality_kernel
from .variance import launch_variance

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ma2015_level", "ma2015_quality", "mefnet_factors", "mefnet_sources"]

MEFNET_SIGMA = SIDE / 6
BLOCK = 512


@triton.jit
def choose_kernel(
    means,  # (B, K, P) float32
    variances,  # (B, K, P) float32
    brightness,  # (B, K) float32
    chosen,  # out: (B, P) int64, the exposure of largest variance
    mean,  # out: its mean
    variance,  # out: its variance
    luminance,  # out: the mean that is wanted
    count,
    pixels,
    BLOCK: tl.constexpr,
):
    blocks = (pixels - 1) // BLOCK + 1
    program = tl.program_id(0)
    batch = (program // blocks).to(tl.int64)
    pixel = (program % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    best_mean = tl.zeros((BLOCK,), tl.float32)
    number = tl.zeros((BLOCK,), tl.int64)
    above = tl.zeros((BLOCK,), tl.float32)
    below = tl.zeros((BLOCK,), tl.float32)
    for k in range(count):
        at = (batch * count + k) * pixels + pixel
        mu = tl.load(means + at, mask=inside, other=0)
        v = tl.load(variances + at, mask=inside, other=0)
        # NaN is the largest of all, and the first of equals is taken.
        takes = (v > best) | ((v != v) & (best == best))
        best = tl.where(takes, v, best)
        best_mean = tl.where(takes, mu, best_mean)
        number = tl.where(takes, k, number)
        whole = tl.load(brightness + batch * count + k) - 0.5
        weight = tl.exp(-12.5 * ((mu - 0.5) * (mu - 0.5) + whole * whole))
        above += weight * mu
        below += weight
    here = batch * pixels + pixel
    tl.store(chosen + here, number, mask=inside)
    tl.store(mean + here, stored(best_mean, mean.dtype.element_ty), mask=inside)
    tl.store(variance + here, stored(best, variance.dtype.element_ty), mask=inside)
    tl.store(luminance + here, stored(above / below, luminance.dtype.element_ty), mask=inside)


def mefnet_sources(exposures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    import torch

    batch, count, height, width = exposures.shape
    planes = exposures.flatten(0, 1)
    windows = windows_of(planes, SIDE, MEFNET_SIGMA, True)
    means, variances = (single(exposures, batch * count, height, width) for _ in range(2))
    rows = strip_rows(batch * count, height, width)
    sums = single(exposures, batch * count, strip_programs(1, height, width, rows))
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


def _score(
    windows: Windows,
    fused: Tensor,
    exposures: Tensor,
    means: Tensor,
    gains: Tensor | None,
    chosen: Tensor | None,
    variance: Tensor,
    luminance: Tensor | None,
    c1: float,
    c2: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """cs, luminance factor (both ``(B,)``) and their gradients; empty where there is none."""
    batch, count, height, width = exposures.shape
    size = windows.map_height, windows.map_width
    share = 1 / (size[0] * size[1])
    rows = strip_rows(batch, *size)
    programs = strip_programs(1, *size, rows)
    none = fused.new_empty((0,))
    sums, luminance_sums = (single(fused, batch, programs) for _ in range(2))
    maps: list[Tensor | None] = [None] * 4
    shifts = None
    if with_gradient:
        maps = [single(fused, batch, *size) for _ in range(3 if luminance is None else 4)]
        maps += [None] * (4 - len(maps))
        shifts = single(fused, batch)
    constants = {"K": count, "PADDED": windows.padded, **windows.constants}
    launch(
        quality_kernel,
        batch * programs,
        fused.device,
        fused,
        exposures,
        means,
        gains,
        chosen,
        variance,
        luminance,
        sums,
        None if luminance is None else luminance_sums,
        *maps,
        shifts,
        height,
        width,
        *size,
        rows,
        c1,
        c2,
        share,
        **constants,
    )
    score = (sums.sum(dim=-1) * share).to(fused.dtype)
    factor = none if luminance is None else (luminance_sums.sum(dim=-1) * share).to(fused.dtype)
    if not with_gradient:
        # The compiler takes results of an operation for different memory.
        return score, factor, none, fused.new_empty((0,))
    gradient = fused.new_empty(fused.shape)
    luminance_gradient = none if luminance is None else fused.new_empty(fused.shape)
    rows = strip_rows(batch, height, width)
    launch(
        quality_adjoint_kernel,
        strip_programs(batch, height, width, rows),
        fused.device,
        fused,
        exposures,
        gains,
        chosen,
        *maps,
        shifts,
        gradient,
        None if luminance is None else luminance_gradient,
        height,
        width,
        *size,
        rows,
        **constants,
    )
    return score, factor, gradient, luminance_gradient


def ma2015_quality(
    exposures: Tensor,
    means: Tensor,
    gains: Tensor,
    variance: Tensor,
    fused: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    exposures, means, gains, variance, fused = (
        x.contiguous() for x in (exposures, means, gains, variance, fused)
    )
    windows = windows_of(fused, SIDE, SIGMA, False)
    score, _, gradient, _ = _score(
        windows,
        fused,
        exposures,
        means,
        gains,
        None,
        variance,
        None,
        0.0,
        (0.03 * 255) ** 2,
        with_gradient,
    )
    return score, gradient


def mefnet_factors(
    exposures: Tensor,
    reference: Tensor,
    mean: Tensor,
    variance: Tensor,
    luminance: Tensor,
    fused: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    exposures, reference, mean, variance, luminance, fused = (
        x.contiguous() for x in (exposures, reference, mean, variance, luminance, fused)
    )
    windows = windows_of(fused, SIDE, MEFNET_SIGMA, True)
    structure, factor, by_structure, by_luminance = _score(
        windows,
        fused,
        exposures,
        mean,
        None,
        reference,
        variance,
        luminance,
        0.01**2,
        0.03**2,
        with_gradient,
    )
    return factor, structure, by_luminance, by_structure


CONFIGURATIONS = [
    configuration(
        "mefnet sources, second pass, K = 2",
        choose_kernel,
        {
            "chosen": "*i64:16",
            **dict.fromkeys(
                ("means", "variances", "brightness", "mean", "variance", "luminance"), "*fp32:16"
            ),
        },
        {"BLOCK": BLOCK},
        2 * 8 + 8 + 12,
        resident=SINGLE_VALUES,
        pixels=BLOCK,
    )
]

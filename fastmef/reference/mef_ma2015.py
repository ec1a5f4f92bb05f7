"""MEF-SSIM as published in 2015: structure and contrast on grey images, one or three scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastmef.reference.filters import effective_window, halve, plane_mean, window_filter

WINDOW = 11
SIGMA = 1.5
BETA = (0.0448, 0.2856, 0.3001)
WHITE = 255
C = (0.03 * WHITE) ** 2
MATLAB_EPS = 2.0**-52
MAX_EXPONENT = 10.0
ROUNDING = 8


class Ma2015Level(NamedTuple):
    """The maps of the exposures that one scale needs; they do not depend on the fused image."""

    exposures: Tensor
    """``(B, K, H, W)``, 0-255, minus the mean of each plane."""
    means: Tensor
    """``(B, K, H', W')``: Gaussian window means of ``exposures``."""
    gains: Tensor
    """``(B, K, H', W')``: the desired patch is the sum of gains times centred patches."""
    variance: Tensor
    """``(B, H', W')``: Gaussian-weighted variance of the desired patch."""


def ma2015_level(exposures: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Ma2015Level:
    """Compute one scale of :func:`ma2015_sources`; exposures ``(B, K, H, W)`` are in 0-255.

    The score has windows of 11 pixels with σ = 1.5; others make it finer or coarser.
    """
    height, width = exposures.shape[-2:]
    wy, wx = effective_window(window, height), effective_window(window, width)
    count = wy * wx
    noise = ROUNDING * torch.finfo(exposures.dtype).eps
    x = exposures - plane_mean(exposures)

    def flat(images: Tensor) -> Tensor:
        return window_filter(images, window, None)

    def smooth(images: Tensor) -> Tensor:
        return window_filter(images, window, sigma)

    flat_means, means = flat(x), smooth(x)
    squares = x * x
    moments = flat(squares)
    flat_variances = moments - flat_means * flat_means
    # A patch whose variance is within rounding of 0 has no structure. Otherwise its noise would be
    # amplified to the contrast of the other patches.
    textured = flat_variances > noise * moments
    flat_variances = torch.where(textured, flat_variances, 0.0)
    total, total_mean = x.sum(dim=1), flat_means.sum(dim=1)
    total_variance = (flat(total * total) - total_mean * total_mean).clamp_min(0)

    norms = (count * flat_variances).sqrt()
    contrasts = norms + 0.001
    agreement = ((count * total_variance).sqrt() + MATLAB_EPS) / (norms.sum(dim=1) + MATLAB_EPS)
    # The exponent reaches its cap at 0.937; stopping at 0.99 keeps tan on its first branch in
    # float32, where pi/2 rounds up.
    exponent = torch.tan(math.pi / 2 * agreement.clamp(max=0.99)).clamp(max=MAX_EXPONENT)
    weights = (contrasts / math.sqrt(count)) ** exponent.unsqueeze(1) + MATLAB_EPS
    gains = weights / weights.sum(dim=1, keepdim=True) / contrasts * textured

    # The variances of the gain-weighted sum of patches, in the flat and in the Gaussian window.
    sum_variance = (gains * gains * flat_variances).sum(dim=1)
    smooth_sum_variance = (gains * gains * (smooth(squares) - means * means)).sum(dim=1)
    for k in range(x.shape[1]):
        for j in range(k):
            product = x[:, k] * x[:, j]
            both = 2 * gains[:, k] * gains[:, j]
            sum_variance += both * (flat(product) - flat_means[:, k] * flat_means[:, j])
            smooth_sum_variance += both * (smooth(product) - means[:, k] * means[:, j])

    # Exposures that cancel each other leave only rounding, which must not be amplified either.
    agreeing = sum_variance > noise * (gains * gains * moments).sum(dim=1)
    norm = torch.where(agreeing, count * sum_variance, 1.0).sqrt()
    rescale = contrasts.amax(dim=1) / norm
    return Ma2015Level(
        x,
        means,
        gains * rescale.unsqueeze(1),
        (smooth_sum_variance * rescale * rescale).clamp_min(0),
    )


def _pyramid(images: Tensor, scales: int, halve: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Yield the images of every scale, finest first."""
    yield images
    for _ in range(scales - 1):
        images = halve(images)
        yield images


@torch.no_grad()
def ma2015_sources(
    exposures: Tensor,
    scales: int = 3,
    level: Callable[[Tensor], Ma2015Level] = ma2015_level,
    halve: Callable[[Tensor], Tensor] = halve,
) -> tuple[Ma2015Level, ...]:
    r"""Compute the maps of the score that depend on the exposures alone, finest scale first.

    With :math:`\mu_k` and :math:`\|\cdot\|` over a flat window of N pixels (11×11 if it fits):

    .. math::
        e_k &= \|x_k - \mu_k\| + 0.001, \quad
        R = \frac{\|\sum_k (x_k - \mu_k)\|}{\sum_k \|x_k - \mu_k\|}, \quad
        p = \min(\tan(\tfrac{\pi}{2} R), 10) \\
        w_k &\propto (e_k / \sqrt{N})^p + 2^{-52}, \quad
        \bar s = \sum_k w_k \frac{x_k - \mu_k}{e_k}, \quad
        \hat x = \max_k e_k \cdot \frac{\bar s}{\|\bar s\|}

    Every patch norm and product is a sum of windowed covariances, so no patch is ever formed.

    Args:
        exposures: ``(B, K, H, W)`` grey in [0, 1], float32 or float64.
        scales: number of levels; each is half the size of the one before.
        level: a function that computes one scale.
        halve: a function that computes the images of the next scale.

    Returns:
        One :class:`Ma2015Level` for each scale. No gradient flows to the exposures.
    """
    return tuple(level(images) for images in _pyramid(exposures * 255, scales, halve))


def ma2015_quality(
    level: Ma2015Level, fused: Tensor, window: int = WINDOW, sigma: float = SIGMA
) -> Tensor:
    """Compute one scale of :func:`ma2015_qualities`, ``(B,)``, of ``fused`` in the range 0-255.

    ``window`` and ``sigma`` are those of the level.
    """

    def smooth(images: Tensor) -> Tensor:
        return window_filter(images, window, sigma)

    y = fused - plane_mean(fused)
    mean = smooth(y)
    variance = smooth(y * y) - mean * mean
    products = smooth(level.exposures * y.unsqueeze(1))
    covariance = (level.gains * (products - level.means * mean.unsqueeze(1))).sum(dim=1)
    quality = (2 * covariance + C) / (level.variance + variance + C)
    return quality.mean(dim=(-2, -1))


def ma2015_qualities(
    sources: Sequence[Ma2015Level],
    fused: Tensor,
    quality: Callable[[Ma2015Level, Tensor], Tensor] = ma2015_quality,
    halve: Callable[[Tensor], Tensor] = halve,
) -> Tensor:
    r"""Compute the mean quality of every scale, ``(B, scales)``, finest first.

    .. math::
        Q = \operatorname{mean}\frac{2\sigma_{\hat x y} + C}{\sigma_{\hat x}^2 + \sigma_y^2 + C},
        \quad C = (0.03 \cdot 255)^2

    with moments weighted by a Gaussian window of 11×11, :math:`\sigma = 1.5`. ``fused`` is
    ``(B, H, W)`` grey in [0, 1]; ``quality`` computes one scale, ``halve`` the image of the next.
    """
    images = _pyramid(fused * 255, len(sources), halve)
    return torch.stack([quality(level, y) for level, y in zip(sources, images, strict=True)], -1)


def ma2015_combine(qualities: Tensor) -> Tensor:
    r"""Return :math:`\prod_l \max(Q_l, 0)^{\beta_l}` of ``(B, scales)``; the β sum to 1.

    A single scale is returned unchanged, even if it is negative.
    """
    scales = qualities.shape[-1]
    if scales == 1:
        return qualities[..., 0]
    # The constants are filled on the device: a copy from the host would wait for it.
    beta = torch.stack([qualities.new_full((), x) for x in BETA[:scales]])
    # The derivative of a power is infinite at 0, so a clamped scale makes the score and its
    # gradient 0. NaN is not clamped.
    clamped = qualities <= 0
    logs = torch.where(clamped, 1.0, qualities).log()
    product = ((logs * beta).sum(dim=-1) / beta.sum()).exp()
    return torch.where(clamped.any(dim=-1), 0.0, product)


def ma2015_score(sources: Sequence[Ma2015Level], fused: Tensor) -> Tensor:
    r"""Compute the MEF-SSIM of Ma, Zeng and Wang, one value for each image.

    Args:
        sources: the result of :func:`ma2015_sources`; its length is the number of scales.
        fused: ``(B, H, W)`` grey in [0, 1]; gradients flow to it and stay finite in flat areas.

    Returns:
        ``(B,)``.

    Source: K. Ma, K. Zeng, Z. Wang, "Perceptual Quality Assessment for Multi-Exposure Image
    Fusion", IEEE TIP 24(11), 2015.
    """
    return ma2015_combine(ma2015_qualities(sources, fused))

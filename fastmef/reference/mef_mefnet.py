"""MEF-SSIM in the variant that MEF-Net and its successors train with and report."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastmef.reference.filters import window_filter

WINDOW = 11
SIGMA = WINDOW / 6
C1 = 0.01**2
C2 = 0.03**2


class MefnetSources(NamedTuple):
    """The maps of the exposures that the score needs; all have the size of the image."""

    exposures: Tensor
    """``(B, K, H, W)`` grey in [0, 1]."""
    reference: Tensor
    """``(B, 1, H, W)``: index of the exposure of largest variance."""
    mean: Tensor
    """``(B, H, W)``: window mean of that exposure."""
    variance: Tensor
    """``(B, H, W)``: window variance of that exposure."""
    luminance: Tensor
    """``(B, H, W)``: the mean that the fused image should have."""


def _window_mean(images: Tensor) -> Tensor:
    """Return the Gaussian window mean with zeros beyond the border."""
    return window_filter(images, WINDOW, SIGMA, "zero")


def desired_luminance(means: Tensor, image_means: Tensor) -> Tensor:
    r"""Return the brightness that a fused image should have, :math:`\sum_k L_k\mu_k / \sum_k L_k`.

    .. math::
        L_k = e^{-(\mu_k - 0.5)^2 / (2 \cdot 0.2^2)} \cdot e^{-(m_k - 0.5)^2 / (2 \cdot 0.2^2)}

    ``means`` are the window means :math:`\mu_k`, ``(B, K, H, W)`` in [0, 1]; ``image_means`` the
    brightness :math:`m_k` of whole exposures, ``(B, K, 1, 1)``.
    """
    distance = (means - 0.5) ** 2 + (image_means - 0.5) ** 2
    weights = torch.exp(-distance / (2 * 0.2**2))
    return (weights * means).sum(dim=1) / weights.sum(dim=1)


@torch.no_grad()
def mefnet_sources(exposures: Tensor) -> MefnetSources:
    r"""Compute the maps of the score that depend on the exposures alone.

    Args:
        exposures: ``(B, K, H, W)`` grey in [0, 1], float32 or float64. No gradient flows to it.
    """
    means = _window_mean(exposures)
    variances = _window_mean(exposures * exposures) - means * means
    variance, reference = variances.max(dim=1, keepdim=True)
    return MefnetSources(
        exposures,
        reference,
        means.gather(1, reference).squeeze(1),
        variance.squeeze(1),
        desired_luminance(means, means.mean(dim=(-2, -1), keepdim=True)),
    )


def mefnet_factors(sources: MefnetSources, fused: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute the mean luminance factor and mean contrast-structure factor, each ``(B,)``.

    .. math::
        l = \operatorname{mean}\frac{2\mu_y\lambda + C_1}{\mu_y^2 + \lambda^2 + C_1}, \quad
        cs = \operatorname{mean}
             \frac{2\sigma_{k^*y} + C_2}{\sigma_{k^*}^2 + \sigma_y^2 + C_2}

    with :math:`k^*` the exposure of largest variance in each window, :math:`\lambda` the desired
    luminance, :math:`C_1 = 0.01^2`, :math:`C_2 = 0.03^2`, and moments weighted by a Gaussian window
    of 11×11, :math:`\sigma = 11/6`, with zeros beyond the border.
    """
    mean = _window_mean(fused)
    variance = _window_mean(fused * fused) - mean * mean
    products = _window_mean(sources.exposures * fused.unsqueeze(1))
    covariance = products.gather(1, sources.reference).squeeze(1) - sources.mean * mean
    structure = (2 * covariance + C2) / (sources.variance + variance + C2)
    target = sources.luminance
    luminance = (2 * mean * target + C1) / (mean * mean + target * target + C1)
    return luminance.mean(dim=(-2, -1)), structure.mean(dim=(-2, -1))


def mefnet_score(sources: MefnetSources, fused: Tensor, luminance: bool = True) -> Tensor:
    r"""Compute MEF-SSIM as in MEF-Net: :math:`l \cdot cs`, or ``cs`` alone without ``luminance``.

    The two factors are averaged over the image before they are multiplied, like in the published
    torch code in its (single-level) multi-scale form.

    Args:
        sources: the result of :func:`mefnet_sources`.
        fused: ``(B, H, W)`` grey in [0, 1]; gradients flow to it.
        luminance: whether to multiply with the luminance factor.

    Returns:
        ``(B,)``.

    Source: K. Ma, Z. Duanmu, H. Zhu, Y. Fang, Z. Wang, "Deep Guided Learning for Fast
    Multi-Exposure Image Fusion", IEEE TIP 29, 2020.
    """
    brightness, structure = mefnet_factors(sources, fused)
    return brightness * structure if luminance else structure

"""MEF-SSIM for colour (MEF-SSIMc): full SSIM over patches of all three channels jointly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastmef.reference.filters import plane_mean, window_filter
from fastmef.reference.mef_mefnet import desired_luminance

WINDOW = 8
C1 = 0.01**2
C2 = 0.03**2


class Color2018Sources(NamedTuple):
    """The maps of the exposures that the score needs; H' = H - 7 and W' = W - 7."""

    exposures: Tensor
    """``(B, K, 3, H, W)`` in [0, 1], minus a constant for each exposure."""
    reference: Tensor
    """``(B, 1, H', W')``: index of the exposure of largest variance."""
    mean: Tensor
    """``(B, H', W')``: window mean of that exposure, minus its constant."""
    variance: Tensor
    """``(B, H', W')``: window variance of that exposure."""
    luminance: Tensor
    """``(B, H', W')``: the mean that the fused image should have."""


def _patch_mean(images: Tensor) -> Tensor:
    """Return the mean over windows and channels, ``(..., H', W')`` for ``(..., 3, H, W)``."""
    return window_filter(images.mean(dim=-3), WINDOW, None)


@torch.no_grad()
def color2018_sources(exposures: Tensor) -> Color2018Sources:
    r"""Compute the maps of the score that depend on the exposures alone.

    Args:
        exposures: ``(B, K, 3, H, W)`` RGB in [0, 1], float32 or float64. No gradient flows to it.
    """
    # Each exposure has one constant: its channels form one patch and must be shifted together.
    image_means = exposures.mean(dim=(-3, -2, -1), keepdim=True)
    x = exposures - image_means
    means = _patch_mean(x)
    variances = _patch_mean(x * x) - means * means
    variance, reference = variances.max(dim=1, keepdim=True)
    global_means = image_means.squeeze(2)
    return Color2018Sources(
        x,
        reference,
        means.gather(1, reference).squeeze(1),
        variance.squeeze(1),
        desired_luminance(means + global_means, global_means),
    )


def color2018_score(sources: Color2018Sources, fused: Tensor) -> Tensor:
    r"""Compute MEF-SSIMc, one value an image.

    .. math::
        Q = \operatorname{mean}
            \frac{2\mu_y\lambda + C_1}{\mu_y^2 + \lambda^2 + C_1} \cdot
            \frac{2\sigma_{k^*y} + C_2}{\sigma_{k^*}^2 + \sigma_y^2 + C_2}

    over all 8×8×3 windows that lie inside the image, unweighted;
    :math:`k^*` is the exposure of largest variance in the window, :math:`\lambda` the desired
    luminance (:func:`~fastmef.reference.mef_mefnet.desired_luminance`, with the mean of the whole
    exposure as its brightness), :math:`C_1 = 0.01^2`, :math:`C_2 = 0.03^2`.

    Args:
        sources: from :func:`color2018_sources`.
        fused: ``(B, 3, H, W)`` RGB in [0, 1]; gradients flow to it.

    Returns:
        ``(B,)``.

    Source: K. Ma, Z. Duanmu, H. Yeganeh, Z. Wang, "Multi-Exposure Image Fusion by Optimizing A
    Structural Similarity Index", IEEE TCI 4(1), 2018.
    """
    # As in plane_mean(), pixels that are not finite count as 0.
    shift = plane_mean(fused).mean(dim=-3, keepdim=True)
    y = fused - shift
    mean = _patch_mean(y)
    variance = _patch_mean(y * y) - mean * mean
    products = _patch_mean(sources.exposures * y.unsqueeze(1))
    covariance = products.gather(1, sources.reference).squeeze(1) - sources.mean * mean
    structure = (2 * covariance + C2) / (sources.variance + variance + C2)
    brightness, target = mean + shift.squeeze(1), sources.luminance
    luminance = (2 * brightness * target + C1) / (brightness**2 + target**2 + C1)
    return (luminance * structure).mean(dim=(-2, -1))

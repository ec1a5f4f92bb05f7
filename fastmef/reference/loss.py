"""The unsupervised loss: windowed SSIM of the fused image with every exposure, weighted by γ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef.reference.filters import crop_to_centers, halve
from fastmef.reference.gamma import gamma_weights
from fastmef.reference.ssim import ssim


class LossOptions(NamedTuple):
    """The options of one level; see :func:`fastmef.functional.weighted_ssim_loss`."""

    gamma: str = "variance_gradient"
    luminance: bool = False
    window: int = 11
    sigma: float | None = 1.5
    k1: float = 0.01
    k2: float = 0.03
    floor: float = 1e-4
    eps: float = 1e-12


def weighted_ssim_map(fused: Tensor, exposures: Tensor, options: LossOptions) -> Tensor:
    r"""Compute :math:`q(p) = \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)` for every window p."""
    gamma, luminance, window, sigma, k1, k2, floor, eps = options
    weights = gamma_weights(exposures, gamma, window, sigma, floor, eps)
    repeated = fused.unsqueeze(1)
    similarity = ssim(
        repeated, exposures, window, sigma, k1, k2, luminance=luminance, reduction="none"
    )
    return (weights * similarity).sum(dim=1)


def weighted_ssim_loss(
    fused: Tensor,
    exposures: Tensor,
    scales: Sequence[float] = (1.0,),
    mask: Tensor | None = None,
    reduction: str = "mean",
    quality_map: Callable[[Tensor, Tensor, LossOptions], Tensor] = weighted_ssim_map,
    **given: Any,
) -> Tensor:
    r"""Compute :math:`1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)`.

    ``fused`` is ``(B, H, W)`` and ``exposures`` ``(B, K, H, W)``, grey in [0, 1]. Level s works on
    images halved s times and has the weight ``scales[s] / sum(scales)``. A ``mask`` ``(B, H, W)``
    weights the window centres. ``quality_map`` computes the map q of one level; ``given`` are the
    fields of its :class:`LossOptions`.
    """
    options = LossOptions(**given)
    if reduction == "none":
        quality = quality_map(fused, exposures, options)
        return (
            1 - quality if mask is None else (1 - quality) * crop_to_centers(mask, options.window)
        )
    total = fused.new_zeros(())
    for level, weight in enumerate(scales):
        if level:
            fused, exposures = halve(fused), halve(exposures)
            mask = None if mask is None else halve(mask)
        if weight == 0:
            continue
        quality = quality_map(fused, exposures, options)
        if mask is None:
            mean = quality.mean()
        else:
            importance = crop_to_centers(mask, options.window)
            mean = (importance * quality).sum() / importance.sum()
        total = total + (weight / sum(scales)) * (1 - mean)
    return total


def fusion_loss(logits: Tensor, exposures: Tensor, **options: Any) -> Tensor:
    r"""Compute the loss of :math:`F = \sum_k \mathrm{softmax}(\text{logits})_k I_k`.

    ``logits`` and the grey ``exposures`` are both ``(B, K, H, W)``; ``options`` are those of
    :func:`weighted_ssim_loss`.
    """
    fused = (torch.softmax(logits, dim=1) * exposures).sum(dim=1)
    return weighted_ssim_loss(fused, exposures, **options)

"""Compute the losses from maps that are differentiable w.r.t. F, the exposures and the mask.

This is slower than the sweep of :mod:`fastmef.ops.loss`, which has no gradient w.r.t. the
exposures and the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastmef import reference
from fastmef.ops import filters, fusion, ssim
from fastmef.reference.loss import LossOptions

_HALF = (torch.float16, torch.bfloat16)


def weighted_similarities(
    fused: Tensor, exposures: Tensor, weights: Tensor, options: LossOptions
) -> Iterator[Tensor]:
    """Yield γ_k SSIM_k for one exposure after the other; a single call would need K copies of F.

    The results are differentiable w.r.t. every tensor.
    """
    _, luminance, window, sigma, k1, k2, *_ = options
    for weight, exposure in zip(weights.unbind(1), exposures.unbind(1), strict=True):
        yield weight * ssim.ssim(
            fused, exposure, window, sigma, k1, k2, 1.0, luminance, "valid", "none"
        )


def _quality_map(fused: Tensor, exposures: Tensor, options: LossOptions) -> Tensor:
    """Return the sum of γ_k SSIM_k over the exposures."""
    gamma, _, window, sigma, _, _, floor, eps = options
    weights = filters.gamma_weights(exposures, gamma, window, sigma, floor, eps)
    terms = weighted_similarities(fused, exposures, weights, options)
    return sum(terms, start=fused.new_zeros(()))


def weighted_ssim_loss(
    fused: Tensor, exposures: Tensor, mask: Tensor | None, reduction: str, **options: Any
) -> Tensor:
    dtype = fused.dtype
    if dtype in _HALF:
        # In half precision every map would be rounded.
        fused, exposures = fused.float(), exposures.float()
        mask = None if mask is None else mask.float()
    value = reference.weighted_ssim_loss(
        fused, exposures, mask=mask, reduction=reduction, quality_map=_quality_map, **options
    )
    return value.to(dtype) if reduction == "none" else value


def fusion_loss(logits: Tensor, exposures: Tensor, **options: Any) -> Tensor:
    if logits.dtype in _HALF:
        logits, exposures = logits.float(), exposures.float()
    fused, _ = fusion.softmax_fuse(logits, exposures.unsqueeze(2), want_weights=False)
    return weighted_ssim_loss(fused.squeeze(1), exposures, None, "mean", **options)
